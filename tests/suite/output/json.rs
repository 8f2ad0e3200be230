//! JSON: the documents against our schema, and what the contract says of them.

use serde_json::Value;
use sockwarden::finding::{ChangeKind, Confidence, Report, Severity};
use sockwarden::model::sample::Sample;
use sockwarden::model::{
    Answer, Closer, ExeState, FrontEnd, Gap, How, InterfaceKind, NamespaceId, OwnerGap, Protocol, Reach,
    Role, SocketIndex, SocketType, State, Verdict,
};
use sockwarden::output::{self, Format, ListOptions, Question, Tried, View};
use std::collections::BTreeSet;

use super::{
    PIPE, audit, compared, doctor, explained, hostile, inventory, recollection, report, rule_list, server,
    snapshot, text, why, with_view,
};

fn our_schema() -> Value {
    serde_json::from_str(include_str!("../../../docs/sockwarden-v1.schema.json")).expect("docs/ holds JSON")
}

/// The published schema lets a reader ignore keys that it does not know; here every key must be
/// in it.
fn strict(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.values_mut().for_each(strict);
            if object.contains_key("properties") && !object.contains_key("additionalProperties") {
                object.insert("additionalProperties".into(), Value::Bool(false));
            }
        }
        Value::Array(list) => list.iter_mut().for_each(strict),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Checks a document against the definition of its kind, which tells faults better than the
/// `oneOf` over all kinds, and against the whole.
fn valid(document: &str, prefix: &str) -> Value {
    let value: Value = serde_json::from_str(document).expect("JSON");
    let mut schema = our_schema();
    strict(&mut schema);
    let whole = jsonschema::validator_for(&schema).expect("a JSON Schema");
    let kind = value["kind"].as_str().expect("a kind");
    let object = schema.as_object_mut().expect("an object");
    object.remove("oneOf");
    object.insert("$ref".into(), Value::String(format!("#/$defs/{prefix}_{kind}")));
    let one = jsonschema::validator_for(&schema).expect("a JSON Schema");
    let faults: Vec<String> =
        one.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(whole.is_valid(&value), "{kind} is not one of the documents");
    value
}

pub(crate) fn document(document: &str) -> Value {
    valid(document, "document")
}

/// One object of `watch --json` or `--format jsonl`.
pub(crate) fn line(line: &str) -> Value {
    valid(line, "line")
}

/// Every change that `watch` can tell, on a harmless and a hostile machine.
#[test]
fn every_change_is_valid() {
    use sockwarden::output::{Event, What};
    let mut said = BTreeSet::new();
    for sample in [server(), hostile()] {
        let report = report(&sample);
        let (first, second) =
            (sample.snapshot.observe(SocketIndex(0)), sample.snapshot.observe(SocketIndex(1)));
        let socket = |kind, before, after| What::Socket { kind, before, after };
        let mut events = vec![
            socket(ChangeKind::Opened, None, Some(first)),
            socket(ChangeKind::Closed, Some(first), None),
            socket(ChangeKind::Reach, Some(first), Some(second)),
            socket(ChangeKind::Owner, Some(second), Some(first)),
            What::Lost(3),
        ];
        for finding in &report.findings {
            let snapshot = &sample.snapshot;
            events.push(What::Finding { kind: ChangeKind::Finding, snapshot, finding });
            events.push(What::Finding { kind: ChangeKind::Cleared, snapshot, finding });
        }
        for what in events {
            let event = Event { at: sample.snapshot.taken_at, seen_by: "look", what };
            let written = text(|out| output::event(out, Format::Json, &event, &PIPE));
            assert_eq!(written.matches('\n').count(), 1, "one line: {written}");
            let value = line(&written);
            said.insert(value["change"].as_str().unwrap().to_owned());
            let person = text(|out| output::event(out, Format::Human, &event, &PIPE));
            assert!(person.lines().next().is_some_and(|first| first.contains(event.what.name())), "{person}");
        }
    }
    let schema = our_schema();
    let listed = schema["$defs"]["watch_change"]["enum"].as_array().unwrap();
    let listed: BTreeSet<String> = listed.iter().map(|each| each.as_str().unwrap().to_owned()).collect();
    assert_eq!(said, listed);
    let seen_by: Vec<&str> = sockwarden::watch::SeenBy::ALL.iter().map(|each| each.name()).collect();
    assert_eq!(schema["$defs"]["seen_by"]["enum"], serde_json::json!(seen_by));
}

#[test]
fn every_kind_of_document_is_valid() {
    let (sample, hostile) = (server(), hostile());
    let report = report(&sample);
    let documents = [
        audit(&sample, &report, Format::Json, &PIPE),
        audit(&hostile, &Report::default(), Format::Json, &PIPE),
        inventory(&sample),
        inventory(&hostile),
        snapshot(&sample),
        snapshot(&hostile),
        why(&sample, Format::Json, &explained()),
        why(&sample, Format::Json, &[]),
        compared(Format::Json),
        doctor(Format::Json),
        rule_list(Format::Json),
        recollection(&sample, Format::Json),
        recollection(&hostile, Format::Json),
    ];
    let kinds: BTreeSet<String> =
        documents.iter().map(|each| document(each)["kind"].as_str().unwrap().to_owned()).collect();
    let described = our_schema()["$defs"].as_object().unwrap().clone();
    let described: BTreeSet<String> =
        described.keys().filter_map(|name| name.strip_prefix("document_")).map(str::to_owned).collect();
    assert_eq!(kinds, described, "each kind in the schema is written here, and the other way round");
}

#[test]
fn every_line_of_jsonl_is_valid() {
    let sample = server();
    let options = ListOptions { columns: Vec::new(), header: true };
    let listed = with_view(&sample, &Report::default(), |view| {
        text(|out| output::list(out, Format::Jsonl, view, &options, &PIPE))
    });
    let audited = audit(&sample, &report(&sample), Format::Jsonl, &PIPE);
    let all = [listed, audited, compared(Format::Jsonl), rule_list(Format::Jsonl)].concat();
    let kinds: BTreeSet<String> =
        all.lines().map(|line| valid(line, "line")["kind"].as_str().unwrap().to_owned()).collect();
    let wanted = ["difference", "finding", "rule", "socket", "undecided", "visibility"];
    assert_eq!(kinds, wanted.map(str::to_owned).into());
}

#[test]
fn the_schema_enumerates_every_value() {
    let schema = our_schema();
    let listed = |name: &str| -> Vec<String> {
        let list = schema["$defs"][name]["enum"].as_array().unwrap_or_else(|| panic!("{name} has no enum"));
        list.iter().map(|value| value.as_str().unwrap().to_owned()).collect()
    };
    fn names<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str) -> Vec<String> {
        all.iter().map(|each| name(*each).to_owned()).collect()
    }
    assert_eq!(listed("type"), names(SocketType::ALL, SocketType::name));
    assert_eq!(listed("state"), names(State::ALL, State::name));
    assert_eq!(listed("role"), names(Role::ALL, Role::name));
    assert_eq!(listed("owner_gap"), names(OwnerGap::ALL, OwnerGap::name));
    assert_eq!(listed("exe_state"), names(ExeState::ALL, ExeState::name));
    assert_eq!(listed("how"), names(How::ALL, How::name));
    assert_eq!(listed("reach"), names(Reach::ALL, Reach::name));
    assert_eq!(listed("verdict"), names(Verdict::ALL, Verdict::name));
    assert_eq!(listed("closer"), names(Closer::ALL, Closer::name));
    assert_eq!(listed("answer"), names(Answer::ALL, Answer::name));
    assert_eq!(listed("severity"), names(Severity::ALL, Severity::name));
    assert_eq!(listed("confidence"), names(Confidence::ALL, Confidence::name));
    assert_eq!(listed("change"), names(ChangeKind::ALL, ChangeKind::name));
    assert_eq!(listed("ability_outcome"), names(Tried::ALL, Tried::name));
    assert_eq!(listed("interface_kind"), names(InterfaceKind::ALL, InterfaceKind::name));
    assert_eq!(listed("front_end"), names(FrontEnd::ALL, FrontEnd::name));
    let protocols = schema["$defs"]["protocol"]["anyOf"][0]["enum"].as_array().unwrap();
    let protocols: Vec<&str> = protocols.iter().map(|value| value.as_str().unwrap()).collect();
    assert_eq!(protocols, Protocol::NAMED.map(|protocol| protocol.name().into_owned()));
}

#[test]
fn a_report_says_what_the_contract_says() {
    let sample = server();
    let value = document(&audit(&sample, &report(&sample), Format::Json, &PIPE));
    let redis = &value["sockets"][0];
    assert_eq!(redis["id"], "4026531840/cookie/1000");
    assert_eq!(redis["local"], serde_json::json!({"address": "0.0.0.0", "port": 6379}));
    assert_eq!(redis["remote"], Value::Null);
    assert_eq!(redis["user"], "redis");
    assert_eq!(redis["owners"][0]["start_time"], "2026-11-18T08:20:00Z");
    assert_eq!(redis["owners"][0]["fds"], serde_json::json!([3]));
    assert_eq!(redis["exposure"]["paths"][0]["ports"], serde_json::json!([6379]));
    assert_eq!(redis["exposure"]["paths"][0]["destinations"], serde_json::json!(["0.0.0.0/0"]));
    assert_eq!(value["sockets"][5]["id"], "4026531840/tcp/203.0.113.5:80/198.51.100.9:50000");
    assert_eq!(value["sockets"][5]["inode"], Value::Null);
    assert_eq!(value["evidence"][0]["where"], "inet filter/input");
    assert_eq!(value["summary"]["by_reach"]["internet"], 3);
    assert_eq!(value["summary"]["findings"]["critical"], 1);
    assert_eq!(value["summary"]["suppressed"], 1);
    assert_eq!(value["visibility"]["complete"], false);
    let ids: BTreeSet<&str> =
        value["sockets"].as_array().unwrap().iter().map(|socket| socket["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), sample.snapshot.sockets.len());
    for finding in value["findings"].as_array().unwrap() {
        for id in finding["sockets"].as_array().unwrap() {
            assert!(ids.contains(id.as_str().unwrap()));
        }
    }
}

#[test]
fn rows_that_share_everything_have_different_ids() {
    let mut sample = Sample::new();
    for _ in 0..3 {
        let row = sample.socket(Protocol::Tcp, State::TimeWait, "127.0.0.1:80", &[]);
        (row.inode, row.cookie) = (0, 0);
    }
    let value = document(&inventory(&sample));
    let ids: Vec<&str> =
        value["sockets"].as_array().unwrap().iter().map(|each| each["id"].as_str().unwrap()).collect();
    assert_eq!(
        ids,
        [
            "4026531840/tcp/127.0.0.1:80/*",
            "4026531840/tcp/127.0.0.1:80/*/2",
            "4026531840/tcp/127.0.0.1:80/*/3"
        ]
    );
}

#[test]
fn complete_is_about_the_question_asked() {
    let complete = |sample: &Sample, selection: &[SocketIndex], question: &Question| {
        let report = Report::default();
        View { snapshot: &sample.snapshot, report: &report, selection, question, rules: &[] }.complete()
    };
    let everything = Question::EVERYTHING;
    let sample = server();
    assert!(!complete(&sample, &sample.everything(), &everything), "one owner is hidden");
    assert!(complete(&sample, &sample.everything()[..6], &everything), "the hidden one was filtered out");
    let no_owners = Question { owners: false, ..everything.clone() };
    assert!(complete(&sample, &sample.everything(), &no_owners), "nobody asked for owners");

    let mut filtered = Sample::new();
    filtered.process(1, "/sbin/init");
    filtered.listener("0.0.0.0:1", Reach::Internet, &[1]).exposure.as_mut().expect("judged").certain = false;
    let all = filtered.everything();
    filtered.snapshot.sockets[0].cookie = 0;
    assert!(!complete(&filtered, &all, &everything), "nothing told which interface it is bound to");
    filtered.snapshot.sockets[0].cookie = 1;
    assert!(complete(&filtered, &all, &everything), "doubt inside what was read is no blindness");
    filtered.snapshot.namespaces[0].filter = sockwarden::model::FilterState::Refused("EPERM".into());
    assert!(!complete(&filtered, &all, &everything), "nobody may read the filter");
    let no_reach = Question { reach: false, ..everything.clone() };
    assert!(complete(&filtered, &all, &no_reach), "nobody asked for reach");

    let unlisted = |protocol, netns| {
        let mut sample = Sample::new();
        let other = sockwarden::model::Namespace { inode: 7, ..Default::default() };
        sample.snapshot.namespaces.push(other);
        sample.snapshot.gaps.push(Gap {
            id: "unlisted".into(),
            what: "w".into(),
            why: "w".into(),
            remedy: None,
            count: 1,
            unlisted: Some((protocol, netns)),
        });
        sample
    };
    let only_tcp = Question { protocols: Some(vec![Protocol::Tcp]), ..everything.clone() };
    let own_only = Question { own_namespace_only: true, ..everything.clone() };
    assert!(!complete(&unlisted(None, None), &[], &only_tcp));
    assert!(!complete(&unlisted(Some(Protocol::Tcp), None), &[], &only_tcp));
    assert!(complete(&unlisted(Some(Protocol::Vsock), None), &[], &only_tcp));
    assert!(!complete(&unlisted(Some(Protocol::Vsock), None), &[], &everything));
    assert!(
        complete(&unlisted(None, None), &[], &own_only),
        "it is some other namespace, nobody knows which"
    );
    assert!(!complete(&unlisted(None, Some(NamespaceId(0))), &[], &own_only));
    assert!(complete(&unlisted(None, Some(NamespaceId(1))), &[], &own_only));
    assert!(!complete(&unlisted(None, Some(NamespaceId(1))), &[], &everything));
}

/// Runs the program itself; its exit code is not looked at, since findings have one of their own.
fn run(arguments: &[&str]) -> String {
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_sockwarden"))
        .args(arguments)
        .env_remove("RUST_BACKTRACE")
        .output()
        .expect("the program starts");
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(matches!(done.status.code(), Some(0 | 1)), "{arguments:?} gave {}: {told}", done.status);
    String::from_utf8(done.stdout).expect("JSON is UTF-8")
}

#[test]
fn what_the_program_writes_of_this_machine_is_valid() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).into_os_string().into_string().unwrap();
    let (first, second) = (file("first.json"), file("second.json"));
    run(&["snapshot", "-o", &first]);
    run(&["snapshot", "-o", &second]);
    let snapshot = document(&std::fs::read_to_string(&first).unwrap());
    assert_eq!(snapshot["kind"], "snapshot");
    let commands: [(&str, &[&str]); 8] = [
        ("report", &["audit", "--json"]),
        ("inventory", &["list", "--json"]),
        ("why", &["why", &port, "--json"]),
        ("diff", &["diff", &first, &second, "--json"]),
        ("doctor", &["doctor", "--json"]),
        ("rules", &["rules", "list", "--json"]),
        ("report", &["--from", &first, "audit", "--json"]),
        ("inventory", &["--from", &first, "list", "--json"]),
    ];
    for (kind, arguments) in commands {
        assert_eq!(document(&run(arguments))["kind"], kind, "{arguments:?}");
    }
    for line in run(&["audit", "--format", "jsonl"]).lines() {
        valid(line, "line");
    }
    let again = run(&["--from", &first, "list", "--json"]);
    assert_eq!(again, run(&["--from", &first, "list", "--json"]), "the same file gives the same bytes");
}
