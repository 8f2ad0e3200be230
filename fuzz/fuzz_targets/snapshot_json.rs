//! A snapshot from somewhere: refused, or usable in every form without a control byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sockwarden::finding::{Report, Suppressions, diff};
use sockwarden::model::{SocketIndex, harmless};
use sockwarden::output::{self, Column, Format, ListOptions, Question, Style, View};

fuzz_target!(|bytes: &[u8]| {
    let Ok(snapshot) = output::read_snapshot(bytes) else { return };
    let mut written = Vec::new();
    output::snapshot(&mut written, &snapshot).expect("a vector takes everything");
    let again = output::read_snapshot(&written).expect("what was written is read");
    assert_eq!(again, snapshot);

    let mut report = Report::default();
    let suppressions = "[[suppression]]\nrule = \"a\"\nprocess = \"*x?\"\nreason = \"r\"\nuntil = 2027-01-01\n";
    Suppressions::parse("s.toml", suppressions).expect("good").apply(&snapshot, &mut report);
    assert!(diff((&snapshot, &report), (&again, &report)).is_empty());

    let selection: Vec<SocketIndex> = snapshot.observations().map(|each| each.index).collect();
    let question = Question::EVERYTHING;
    let view = View { snapshot: &snapshot, report: &report, selection: &selection, question: &question, rules: &[] };
    let style = Style { color: false, width: Some(80), verbose: true };
    let options = ListOptions { columns: Column::ALL.to_vec(), header: true };
    let mut text = Vec::new();
    output::audit(&mut text, Format::Human, &view, &style).expect("a vector takes everything");
    output::audit(&mut text, Format::Junit, &view, &style).expect("a vector takes everything");
    output::list(&mut text, Format::Human, &view, &options, &style).expect("a vector takes everything");
    let text = String::from_utf8(text).expect("text is UTF-8");
    assert!(text.chars().all(|c| c == '\n' || harmless(c)));
});
