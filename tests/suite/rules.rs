//! The shipped rules, all in one loop; the errors of bad ones as a user reads them; the schema.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sockwarden::model::sample::Sample;
use sockwarden::model::{Fact, Problem, Protocol, Reach, Role, SocketIndex, State};
use sockwarden::output::{Style, problems};
use sockwarden::rules::{RuleSet, compile, draft, json_schema, service_schema};

fn text(found: &[Problem]) -> String {
    let mut out = Vec::new();
    problems(&mut out, found, &Style { color: false, width: Some(100), verbose: false })
        .expect("writes to memory");
    String::from_utf8(out).expect("text").trim_end().to_owned()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("rules can be listed") {
        let path = entry.expect("rules can be listed").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "toml") {
            found.push(path);
        }
    }
}

fn shipped() -> RuleSet {
    RuleSet::load(&[]).unwrap_or_else(|found| panic!("{}", text(&found)))
}

#[test]
fn every_file_is_a_rule_and_every_rule_behaves() {
    let set = shipped();
    let mut on_disk = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("rules"), &mut on_disk);
    let named: BTreeSet<String> =
        on_disk.iter().map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(named.len(), on_disk.len(), "two files have one name");
    assert_eq!(set.rules().map(|rule| rule.id().to_owned()).collect::<BTreeSet<_>>(), named);
    assert!(set.len() >= 30, "only {} rules", set.len());

    for rule in set.rules() {
        let id = rule.id();
        assert!(Path::new(&rule.file).file_stem().is_some_and(|stem| stem == id), "{id}: {}", rule.file);
        assert!(!rule.words.references.is_empty(), "{id} has no reference");
        assert!(!rule.remedies.is_empty(), "{id} has no remedy");
        assert!(rule.words.why.lines().count() <= 12, "{id}: `why` is longer than a screenful");
        assert!(!rule.words.title.ends_with('.'), "{id}: a title ends without a full stop");
        let page = rule.describe();
        for needed in [&rule.words.title, &rule.words.why, "## How it is decided", "## What puts it right"] {
            assert!(page.contains(needed), "{id}: its page lacks {needed}");
        }
    }
    let verified = set.verify();
    assert!(verified.failures.is_empty(), "{}", text(&verified.failures));
    assert!(verified.examples >= 2 * verified.rules);
    let uncovered: Vec<_> = verified.uncovered.into_iter().map(|each| each.problem).collect();
    assert!(uncovered.is_empty(), "{}", text(&uncovered));
    let advice = set.lint();
    assert!(advice.is_empty(), "{}", text(&advice));
}

#[test]
fn the_schema_is_the_committed_one_and_every_rule_fits_it() {
    let (rule, service) = (json_schema(), service_schema());
    for (name, schema) in [("rule", &rule), ("service", &service)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/{name}.schema.json"));
        if std::env::var_os("SOCKWARDEN_BLESS").is_some() {
            fs::write(&path, serde_json::to_string_pretty(schema).unwrap() + "\n").unwrap();
        }
        let committed: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert!(committed == *schema, "{} is old: run this test with SOCKWARDEN_BLESS=1", path.display());
    }
    let validator = jsonschema::validator_for(&rule).expect("a valid schema");
    let services = jsonschema::validator_for(&service).expect("a valid schema");
    let fits = |rule: &str, validator: &jsonschema::Validator, text: &str| {
        let value: serde_json::Value = toml::from_str(text).unwrap();
        let faults: Vec<String> =
            validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(faults.is_empty(), "{rule}: {}", faults.join("; "));
    };
    for rule in shipped().rules() {
        fits(rule.id(), &validator, rule.source());
        rule.service().iter().for_each(|text| fits(rule.id(), &services, text));
    }
    for bad in [
        "prot = 1",
        "port = 70000",
        "reach = []",
        "protocol = \"tpc\"",
        "process = {}",
        "others = { cout = 1 }",
    ] {
        let head = "title = \"t\"\nseverity = \"low\"\nconfidence = \"high\"\nwhy = \"w\"\n[when]\n";
        let value: serde_json::Value = toml::from_str(&format!("{head}{bad}\n")).unwrap();
        assert!(!validator.is_valid(&value), "the schema takes {bad}");
    }
}

#[test]
fn the_pages_are_those_of_the_rules() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rules");
    let bless = std::env::var_os("SOCKWARDEN_BLESS").is_some();
    let pages: std::collections::BTreeMap<String, String> = shipped().pages().into_iter().collect();
    let there = || -> BTreeSet<String> {
        let entries = fs::read_dir(&folder).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    };
    if bless {
        fs::create_dir_all(&folder).unwrap();
        there()
            .iter()
            .filter(|name| !pages.contains_key(*name))
            .for_each(|name| fs::remove_file(folder.join(name)).unwrap());
        pages.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
    }
    let advice = "run this test with SOCKWARDEN_BLESS=1";
    assert_eq!(there(), pages.keys().cloned().collect(), "docs/rules/ is old: {advice}");
    for (name, text) in &pages {
        let committed = fs::read_to_string(folder.join(name)).unwrap();
        assert!(committed == *text, "docs/rules/{name} is old: {advice}");
    }
}

#[test]
fn a_rule_made_from_a_running_socket_passes_at_once() {
    let mut sample = Sample::new();
    sample.process(50, "/usr/bin/python3.11").cmdline =
        Fact::Known(["python3", "/srv/we[i]rd.py", "--password", "secret"].map(Into::into).to_vec());
    sample.process(51, "/opt/x/serv*er").unit = Fact::Known("x.service".into());
    sample.listener("0.0.0.0:8000", Reach::Internet, &[50]);
    sample.listener("127.0.0.1:7000", Reach::Host, &[51]);
    sample.socket(Protocol::Udp, State::Unconnected, "0.0.0.0:99", &[51]).role = Role::Receiver;
    sample.socket(Protocol::Unix, State::Listen, "/run/x.sock", &[51]);
    for index in 0..3 {
        let text = draft(sample.snapshot.observe(SocketIndex(index))).unwrap();
        assert!(!text.contains("secret"), "{text}");
        let rule = compile("rules/a-rule.toml", text.as_str().into(), false)
            .unwrap_or_else(|found| panic!("{}\n{text}", self::text(&found)));
        let set = RuleSet::from(vec![rule]);
        let verified = set.verify();
        assert!(verified.failures.is_empty(), "{}\n{text}", self::text(&verified.failures));
        assert!(verified.uncovered.is_empty(), "{text}");
        assert!(set.lint().is_empty(), "{}\n{text}", self::text(&set.lint()));
        let (_, undecided) = set.check(&sample.snapshot);
        assert!(undecided.is_empty());
    }
    assert!(draft(sample.snapshot.observe(SocketIndex(3))).unwrap_err().contains("unix socket"));
}

fn errors(source: &str) -> String {
    match compile("rules/a-rule.toml", source.into(), false) {
        Ok(_) => "no error".to_owned(),
        Err(found) => text(&found),
    }
}

#[test]
fn all_faults_are_told_at_once_with_place_and_advice() {
    insta::assert_snapshot!(errors(
        r#"title = "x"
severity = { internet = "hihg", lan = "low" }
confidence = "high"
wy = "w"

[when]
prt = 22
port = 70000
reach = ">= lam"
address = "10.0.0.1/8"
process = { nam = "sshd", port = 22 }

[[remedy]]
kind = "service"
title = "stop it"
commands = ["kill {pdi}"]
"#
    ), @r#"
    error: the rule has no `why`
    --> rules/a-rule.toml

    error: `hihg` is no value of `severity`
     --> rules/a-rule.toml:2:25
      |
    2 | severity = { internet = "hihg", lan = "low" }
      |                         ^^^^^^
      |
      = help: did you mean `high`?

    error: there is no `wy` in a rule
     --> rules/a-rule.toml:4:1
      |
    4 | wy = "w"
      | ^^
      |
      = help: did you mean `why`?

    error: there is no `prt` in a condition on a socket
     --> rules/a-rule.toml:7:1
      |
    7 | prt = 22
      | ^^^
      |
      = help: did you mean `port`?

    error: `port` is a number from 0 to 65535
     --> rules/a-rule.toml:8:8
      |
    8 | port = 70000
      |        ^^^^^

    error: `lam` is no value of `reach`
     --> rules/a-rule.toml:9:9
      |
    9 | reach = ">= lam"
      |         ^^^^^^^^
      |
      = help: did you mean `lan`?

    error: `10.0.0.1/8` has bits set behind its prefix
      --> rules/a-rule.toml:10:11
       |
    10 | address = "10.0.0.1/8"
       |           ^^^^^^^^^^^^
       |
       = help: did you mean "10.0.0.0/8"?

    error: there is no `nam` in a condition on a process
      --> rules/a-rule.toml:11:13
       |
    11 | process = { nam = "sshd", port = 22 }
       |             ^^^
       |
       = help: did you mean `name`?

    error: there is no `port` in a condition on a process
      --> rules/a-rule.toml:11:27
       |
    11 | process = { nam = "sshd", port = 22 }
       |                           ^^^^
       |
       = help: `port` is a fact of the socket: it stands outside this table

    error: there is no `pdi` in the list of placeholders
      --> rules/a-rule.toml:16:13
       |
    16 | commands = ["kill {pdi}"]
       |             ^^^^^^^^^^^^
       |
       = help: did you mean `pid`?
    "#);
}

#[test]
fn faults_of_a_service_are_told_at_their_place() {
    insta::assert_snapshot!(errors(
        r#"service = "x"
tcp = [80, 70000]
programs = ["/usr/bin/x", { program = "java", cmdlin = "y" }]
unit = "x.service"
units = "x"
sensitivity = "dta"
severity = { wan = "high" }
why = "w"

[[fix]]
file = "etc/x.conf"
set = "y"

[[fires]]
name = "f"
socket = { local = "0.0.0.0:80", raech = "lan" }
"#
    ), @r#"
    error: the service has no `quiet`
    --> rules/a-rule.toml

    error: this is no port of `tcp`
     --> rules/a-rule.toml:2:12
      |
    2 | tcp = [80, 70000]
      |            ^^^^^
      |
      = help: write 6379 or "6000-6063"

    error: a program is named by the last part of its path
     --> rules/a-rule.toml:3:13
      |
    3 | programs = ["/usr/bin/x", { program = "java", cmdlin = "y" }]
      |             ^^^^^^^^^^^^
      |
      = help: for anything else write a table: `{ exe = "/opt/x/bin/y" }`

    error: there is no `cmdlin` in a condition on a process
     --> rules/a-rule.toml:3:47
      |
    3 | programs = ["/usr/bin/x", { program = "java", cmdlin = "y" }]
      |                                               ^^^^^^
      |
      = help: did you mean `cmdline`?

    error: there is no `unit` in a service
     --> rules/a-rule.toml:4:1
      |
    4 | unit = "x.service"
      | ^^^^
      |
      = help: did you mean `units`?

    error: this is no name of a unit
     --> rules/a-rule.toml:5:9
      |
    5 | units = "x"
      |         ^^^
      |
      = help: write it whole: `redis-server.service`

    error: `dta` is no sensitivity
     --> rules/a-rule.toml:6:15
      |
    6 | sensitivity = "dta"
      |               ^^^^^
      |
      = help: did you mean `data`?

    error: `wan` is no class of reach
     --> rules/a-rule.toml:7:14
      |
    7 | severity = { wan = "high" }
      |              ^^^
      |
      = help: did you mean `lan`?

    error: `file` is a whole path without blanks and signs of the shell
      --> rules/a-rule.toml:11:8
       |
    11 | file = "etc/x.conf"
       |        ^^^^^^^^^^^^

    error: there is no `raech` in the socket of an example
      --> rules/a-rule.toml:16:34
       |
    16 | socket = { local = "0.0.0.0:80", raech = "lan" }
       |                                  ^^^^^
       |
       = help: did you mean `reach`?
    "#);
    insta::assert_snapshot!(errors(
        r#"service = "x"
udp = 80
shared_port = true
sensitivity = "data"
severity = { lan = "critical", internet = "low" }
why = "w"

[[fix]]
file = "/etc/x.conf"
match = "a"

[[fires]]
name = "f"
socket = { local = "0.0.0.0:80", reach = "lan" }

[[quiet]]
name = "q"
change.socket.reach = "host"
"#
    ), @r#"
    error: a narrower reach is more severe than a wider one
     --> rules/a-rule.toml:5:12
      |
    5 | severity = { lan = "critical", internet = "low" }
      |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

    error: this fix names a `file`, but nothing to `set` in it
     --> rules/a-rule.toml:8:1
      |
    8 | [[fix]]
      | ^^^^^^^
    "#);
}

#[test]
fn what_can_never_hold_is_an_error() {
    insta::assert_snapshot!(errors(
        r#"title = "x"
severity = "low"
confidence = "high"
why = "w"

[when]
any = [
  { protocol = "unix", port = 22 },
  { port = 22, all = [{ port = "1000-2000" }] },
  { protocol = "udp", state = "listen" },
  { process = { exe = "nginx" } },
  { process.name = "a", process.not.name = ["a", "b"] },
  { owned = false, process.name = "a" },
]
"#
    ), @r#"
    error: a socket of protocol unix has no `port`: this can never hold
     --> rules/a-rule.toml:8:31
      |
    8 |   { protocol = "unix", port = 22 },
      |                               ^^
      |
      = help: the protocol is `protocol = "unix"`

    error: these values of `port` and those it must also have exclude each other
     --> rules/a-rule.toml:9:12
      |
    9 |   { port = 22, all = [{ port = "1000-2000" }] },
      |            ^^
      |
      = help: the other is `port = "1000-2000"`

    error: udp has no state `listen`: this can never hold
      --> rules/a-rule.toml:10:31
       |
    10 |   { protocol = "udp", state = "listen" },
       |                               ^^^^^^^^
       |
       = help: did you mean `role = "receiver"`?

    error: `exe` is a whole path, `nginx` is none
      --> rules/a-rule.toml:11:23
       |
    11 |   { process = { exe = "nginx" } },
       |                       ^^^^^^^
       |
       = help: did you mean `program = "nginx"` or `exe = "*/nginx"`?

    error: `not` excludes every `process.name` that the rule asks for
      --> rules/a-rule.toml:12:44
       |
    12 |   { process.name = "a", process.not.name = ["a", "b"] },
       |                                            ^^^^^^^^^^

    error: a socket that nobody holds has no process: this can never hold
      --> rules/a-rule.toml:13:35
       |
    13 |   { owned = false, process.name = "a" },
       |                                   ^^^
       |
       = help: the other is `owned = false`
    "#);
}

#[test]
fn syntax_faults_come_with_the_rest() {
    insta::assert_snapshot!(errors("title = \"x\nseverity = \"low\"\nconfidence = = \"high\"\n[when\nprotocl = \"tcp\"\n"), @r#"
    error: invalid basic string, expected `"`
     --> rules/a-rule.toml:1:11
      |
    1 | title = "x
      |           ^

    error: extra `=`, expected nothing
     --> rules/a-rule.toml:3:14
      |
    3 | confidence = = "high"
      |              ^

    error: unexpected key or value, expected newline, `#`
     --> rules/a-rule.toml:3:16
      |
    3 | confidence = = "high"
      |                ^

    error: unclosed table, expected `]`
     --> rules/a-rule.toml:4:6
      |
    4 | [when
      |      ^

    error: there is no `protocl` in a rule
     --> rules/a-rule.toml:5:1
      |
    5 | protocl = "tcp"
      | ^^^^^^^
    "#);
}
