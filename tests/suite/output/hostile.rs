//! Names that other programs choose are harmless in every text and whole in JSON.

use proptest::prelude::{Strategy, any, prop_assert, proptest};
use serde_json::Value;
use sockwarden::finding::{ChangeKind, Finding, Report, Severity};
use sockwarden::model::sample::Sample;
use sockwarden::model::{Inquiry, harmless};
use sockwarden::output::{
    self, Column, Event, Explained, Format, ListOptions, Outcome, Style, Trace, What, Why,
};
use std::collections::BTreeMap;

use super::json::document;
use super::{
    NASTY, PIPE, audit, hostile, inventory, make_hostile, report, server, snapshot, text, with_view,
};

/// A report all of whose words quote the hostile name unescaped, as a careless rule would.
fn hostile_report(sample: &Sample, bytes: &[u8]) -> Report {
    let name = String::from_utf8_lossy(bytes).into_owned();
    let mut report = report(sample);
    for finding in &mut report.findings {
        let Finding { title, message, evidence, references, why, remedies, suppressed, .. } = finding;
        for text in [title, message, why] {
            text.push_str(&name);
        }
        evidence.push(name.clone());
        references.push(name.clone());
        for remedy in remedies {
            remedy.title.push_str(&name);
            remedy.commands.push(name.clone());
            remedy.undo.push(name.clone());
            remedy.verify = Some(name.clone());
            remedy.note = Some(name.clone());
        }
        if let Some(suppressed) = suppressed {
            suppressed.reason.push_str(&name);
            suppressed.by.push_str(&name);
        }
    }
    for undecided in &mut report.undecided {
        undecided.fields.push(name.clone());
    }
    report
}

/// Every text for a human, of a hostile machine.
fn every_text(bytes: &[u8], style: Style) -> BTreeMap<String, String> {
    let mut sample = server();
    make_hostile(&mut sample, bytes);
    let report = hostile_report(&sample, bytes);
    let mut texts = BTreeMap::new();
    for format in [Format::Human, Format::Github, Format::Markdown, Format::Junit] {
        texts.insert(format!("audit {}", format.name()), audit(&sample, &report, format, &style));
    }
    for format in [Format::Human, Format::Markdown] {
        let options = ListOptions { columns: Column::ALL.to_vec(), header: true };
        let listed =
            with_view(&sample, &report, |view| text(|out| output::list(out, format, view, &options, &style)));
        texts.insert(format!("list {}", format.name()), listed);
    }
    let (observed, snapshot) = (sample.snapshot.observe(sample.everything()[0]), &sample.snapshot);
    let whats = [ChangeKind::Opened, ChangeKind::Owner, ChangeKind::Reach].map(|kind| What::Socket {
        kind,
        before: (kind != ChangeKind::Opened).then_some(observed),
        after: Some(observed),
    });
    let found =
        report.findings.iter().map(|finding| What::Finding { kind: ChangeKind::Finding, snapshot, finding });
    for (at, what) in whats.into_iter().chain(found).enumerate() {
        let event = Event { at: 0, seen_by: "look", what };
        let told = text(|out| output::event(out, Format::Human, &event, &style));
        texts.insert(format!("watch {at}"), told);
    }
    texts.insert("history".to_owned(), super::recollection(&sample, Format::Human));
    let explained: Vec<Explained> = sample
        .everything()
        .into_iter()
        .map(|socket| Explained {
            socket,
            inquiry: Inquiry {
                asked: super::inquiry(bytes.into()).asked.filter(|_| socket.0 % 2 == 0),
                ..super::inquiry(bytes.into())
            },
            rules: vec![Trace {
                rule: "r".into(),
                title: String::from_utf8_lossy(bytes).into_owned(),
                severity: Severity::Low,
                outcome: Outcome::NearMiss {
                    condition: String::from_utf8_lossy(bytes).into_owned(),
                    found: String::from_utf8_lossy(bytes).into_owned(),
                },
            }],
            remedies: report.findings[0].remedies.clone(),
        })
        .collect();
    let target = String::from_utf8_lossy(bytes);
    for sockets in [&explained[..], &[]] {
        let why = Why { target: &target, takeable: true, sockets };
        let shown = with_view(&sample, &report, |view| {
            text(|out| output::why(out, Format::Human, view, &why, &style))
        });
        texts.insert(format!("why {}", sockets.len()), shown);
    }
    texts
}

fn first_bad(text: &str) -> Option<char> {
    text.chars().find(|c| *c != '\n' && !harmless(*c))
}

#[test]
fn hostile_names_are_harmless_in_every_text() {
    for (name, shown) in every_text(NASTY, PIPE) {
        assert_eq!(first_bad(&shown), None, "{name}:\n{shown:?}");
    }
}

#[test]
fn a_name_cannot_start_a_workflow_command() {
    let mut sample = server();
    make_hostile(&mut sample, NASTY);
    let report = hostile_report(&sample, NASTY);
    let shown = audit(&sample, &report, Format::Github, &PIPE);
    let expected = report.findings.iter().filter(|finding| finding.suppressed.is_none()).count() + 1;
    assert_eq!(shown.lines().filter(|line| line.starts_with("::")).count(), expected);
    assert_eq!(shown.lines().count(), expected);
}

#[test]
fn json_loses_no_byte() {
    let sample = hostile();
    let value = document(&inventory(&sample));
    let hex: String = NASTY.iter().map(|byte| format!("{byte:02x}")).collect();
    let owner = &value["sockets"][0]["owners"][0];
    assert_eq!(owner["raw"]["name"], Value::String(hex.clone()));
    assert_eq!(owner["raw"]["cmdline.1"], Value::String(hex.clone()));
    assert!(owner["raw"].get("cmdline.0").is_none());
    assert_eq!(value["sockets"][4]["local"]["raw"]["path"], Value::String(hex));
    assert_eq!(value["sockets"][4]["local"]["path"].as_str().unwrap(), String::from_utf8_lossy(NASTY));
    let plain = document(&inventory(&server()));
    assert!(plain["sockets"][0].get("raw").is_none());
    assert_eq!(output::read_snapshot(snapshot(&sample).as_bytes()).unwrap(), sample.snapshot);
}

/// Bytes that are likely to hurt: escape sequences, bidirectional marks, markup, bad UTF-8.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&'static [u8]> = vec![
        b"\x1b[31m",
        b"\x9b",
        b"\n",
        b"\r",
        b"\t",
        b"\0",
        b"\x7f",
        b"\xc2\x85",
        b"\xe2\x80\xae",
        b"\xe2\x81\xa6",
        b"\xff",
        b"\xf0\x9f",
        b"](x)",
        b"`",
        b"|",
        b"<",
        b"&",
        b"%0A",
        b"::",
        b"\"",
        b"\\",
        b"\xef\xbf\xbe",
        b"a",
        b" ",
    ];
    let piece = proptest::sample::select(pieces).prop_map(<[u8]>::to_vec);
    let any_bytes = proptest::collection::vec(any::<u8>(), 0..6);
    proptest::collection::vec(proptest::prop_oneof![piece, any_bytes], 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(48))]

    #[test]
    fn no_text_holds_a_control_byte_of_a_name(name in bytes(), width in proptest::option::of(1usize..200), verbose: bool) {
        for (what, shown) in every_text(&name, Style { color: false, width, verbose }) {
            prop_assert!(first_bad(&shown).is_none(), "{what}: {:?} in {shown:?}", first_bad(&shown));
        }
    }

    #[test]
    fn a_snapshot_keeps_every_byte(name in bytes()) {
        let mut sample = server();
        make_hostile(&mut sample, &name);
        let written = snapshot(&sample);
        let read = output::read_snapshot(written.as_bytes()).unwrap();
        prop_assert!(read == sample.snapshot);
        prop_assert!(text(|out| output::snapshot(out, &read)) == written);
    }

    #[test]
    fn reading_a_damaged_snapshot_never_panics(at in any::<proptest::sample::Index>(), byte: u8, cut in any::<proptest::sample::Index>()) {
        let mut bytes = snapshot(&server()).into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = output::read_snapshot(&bytes) {
            let _ = text(|out| output::snapshot(out, &read));
        }
        let _ = output::read_snapshot(&bytes[..cut.index(bytes.len())]);
    }
}
