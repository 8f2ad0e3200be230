//! The program as a user or a script meets it: exit codes, help, errors, options.

#![allow(clippy::unwrap_used, reason = "this is a test")]

use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sockwarden::model::sample::{Sample, endpoint};
use sockwarden::model::{Endpoint, Fact, Protocol, Reach, Role, State};
use sockwarden::output;

fn sockwarden<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sockwarden"));
    command.args(args).env_remove("CLICOLOR_FORCE").env_remove("NO_COLOR").env("HOME", "/nonexistent");
    command
}

struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    done(&sockwarden(args).output().unwrap())
}

fn words(line: &str) -> Run {
    run(line.split(' ').filter(|word| !word.is_empty()))
}

fn done(output: &Output) -> Run {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Run { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// A small web server: nginx on every address, redis on loopback, a conversation with redis.
struct Recorded {
    folder: tempfile::TempDir,
}

impl Recorded {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut Sample)) -> Self {
        let mut sample = Sample::new();
        sample.process(100, "/usr/sbin/nginx").unit = Fact::Known("nginx.service".into());
        sample.process(200, "/usr/bin/redis-server").user = Fact::Known("redis".into());
        sample.listener("0.0.0.0:80", Reach::Internet, &[100]);
        sample.listener("127.0.0.1:6379", Reach::Host, &[200]);
        let call = sample.socket(Protocol::Tcp, State::Established, "127.0.0.1:40000", &[100]);
        (call.remote, call.role) = (endpoint("127.0.0.1:6379"), Role::Outbound);
        change(&mut sample);
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        output::snapshot(&mut bytes, &sample.snapshot).unwrap();
        fs::write(folder.path().join("host.json"), bytes).unwrap();
        Self { folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("host.json")
    }

    fn list(&self, line: &str) -> Run {
        let from = self.file();
        let words = line.split(' ').filter(|word| !word.is_empty()).map(OsStr::new);
        run([OsStr::new("list"), OsStr::new("--from"), from.as_os_str()].into_iter().chain(words))
    }

    fn ports(&self, line: &str) -> Vec<u64> {
        let found = self.list(&format!("--json {line}"));
        assert_eq!(found.code, Some(0), "{}", found.err);
        let document: serde_json::Value = serde_json::from_str(&found.out).unwrap();
        let sockets = document["sockets"].as_array().unwrap();
        sockets.iter().filter_map(|socket| socket["local"]["port"].as_u64()).collect()
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    for line in ["--help", "-h", "--version", "list --help", "rules --help", "rules test --help", "why -h"] {
        let asked = words(line);
        assert_eq!((asked.code, asked.err.as_str()), (Some(0), ""), "{line}");
        assert!(asked.out.contains("sockwarden"), "{line}: {}", asked.out);
    }
}

#[test]
fn help_names_every_command_that_exists_and_none_that_does_not() {
    let help = words("--help").out;
    let commands: Vec<_> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|word| !word.is_empty())
        .collect();
    assert_eq!(
        commands,
        [
            "audit", "list", "why", "watch", "alert", "history", "snapshot", "diff", "rules", "config",
            "demo", "doctor"
        ]
    );
    assert!(!help.contains("demo-part"), "the hidden argument shows");
}

#[test]
fn what_cannot_be_understood_exits_with_2_and_says_how_it_is_written() {
    for (line, says) in [
        ("lsit", "list"),
        ("list --nonsense", "--nonsense"),
        ("list prot:tcp", "did you mean `proto`?"),
        ("list proto:tpc", "did you mean `tcp`?"),
        ("list port:99999", "a port is 0 to 65535"),
        ("list state:lisen", "did you mean `listen`?"),
        ("list not", "stands before nothing"),
        ("list --columns locla", "did you mean `local`?"),
        ("list --sort nosuch", "there is no column `nosuch`"),
        ("list --format sarif", "no format `sarif`"),
        ("list --json --format human", "cannot be used with"),
        ("list --netns everywhere", "everywhere"),
        ("audit --fail-on hihg", "one of none, info, low, medium, high, critical"),
        ("why", "TARGET"),
        ("why 99999", "ports go from 1 to 65535"),
        ("why nonsense", "is no target"),
        ("snapshot", "--output"),
        ("diff onlyone", "<B>"),
        ("rules show redis-reachabel", "did you mean `redis-reachable`?"),
        ("--json demo --strict", "--strict"),
    ] {
        let refused = words(line);
        assert_eq!(refused.code, Some(2), "{line}: {}{}", refused.out, refused.err);
        assert!(refused.err.contains(says), "{line}: {}", refused.err);
        assert_eq!(refused.out, "", "{line}");
    }
}

#[test]
fn options_may_stand_before_the_command() {
    let host = Recorded::new();
    let from = host.file();
    let before = run([OsStr::new("--from"), from.as_os_str(), OsStr::new("--json"), OsStr::new("list")]);
    assert_eq!((before.code, before.out), (Some(0), host.list("--json").out));
}

#[test]
fn alone_it_audits() {
    let host = Recorded::new();
    let from = host.file();
    let bare = run([OsStr::new("--from"), from.as_os_str(), OsStr::new("--json")]);
    let audit = run([OsStr::new("audit"), OsStr::new("--from"), from.as_os_str(), OsStr::new("--json")]);
    assert_eq!((bare.code, &bare.out), (audit.code, &audit.out));
    assert!(bare.out.contains("\"report\""), "{}", bare.out);
}

#[test]
fn letters_and_words_select_alike() {
    let host = Recorded::new();
    assert_eq!(host.ports(""), [80, 6379, 40000]);
    assert_eq!(host.ports("-tlpn"), [80, 6379]);
    assert_eq!(host.ports("-tulpn -a"), [80, 6379, 40000]);
    assert_eq!(host.ports("-tl -ltn"), [80, 6379], "a letter may come twice, as in ss");
    assert_eq!(host.ports("-ul"), [] as [u64; 0]);
    assert_eq!(host.ports("-6"), [] as [u64; 0]);
    assert_eq!(host.ports("-4l process:redis-*"), [6379]);
    assert_eq!(host.ports("reach:internet"), [80]);
    assert_eq!(host.ports("port:80 port:6000-7000"), [80, 6379]);
    assert_eq!(host.ports("state:listen not user:redis"), [80]);
    assert_eq!(host.ports("unit:nginx.service rport:6379"), [40000]);
    assert_eq!(host.ports("--sort -local"), [40000, 6379, 80]);
}

#[test]
fn pids_are_one_a_line_and_each_once() {
    let host = Recorded::new();
    assert_eq!(host.list("--pids").out, "100\n200\n");
    assert_eq!(host.list("--pids port:6379").out, "200\n");
    assert_eq!(host.list("--pids port:1").out, "");
}

#[test]
fn headings_can_be_left_out() {
    let host = Recorded::new();
    let with = host.list("--columns local");
    let without = host.list("-H --columns local");
    assert_eq!(with.out.lines().skip(1).collect::<Vec<_>>(), without.out.lines().collect::<Vec<_>>());
    assert_eq!(without.out.lines().count(), 3);
}

#[test]
fn a_free_port_is_free_and_exits_with_0() {
    let host = Recorded::new();
    let from = host.file();
    let why =
        |target: &str| run([OsStr::new("why"), OsStr::new(target), OsStr::new("--from"), from.as_os_str()]);
    let free = why("8080");
    assert_eq!(free.code, Some(0));
    assert!(free.out.contains("free"), "{}", free.out);
    let nothing = why("process:nosuch");
    assert!(nothing.code == Some(0) && nothing.out.contains("no socket fits"), "{}", nothing.out);
    for target in ["80", "tcp/80", "203.0.113.5:80", "pid:100", "unit:nginx.service"] {
        let taken = why(target);
        assert_eq!(taken.code, Some(0));
        assert!(taken.out.contains("nginx"), "{target}: {}", taken.out);
    }
    assert!(!why("udp/80").out.contains("nginx"));
}

#[test]
fn a_snapshot_differs_from_another_only_by_what_changed() {
    let (host, more) = (
        Recorded::new(),
        Recorded::with(|sample| _ = sample.listener("0.0.0.0:8080", Reach::Internet, &[100])),
    );
    let same = run([OsStr::new("diff"), host.file().as_os_str(), host.file().as_os_str()]);
    assert_eq!(same.code, Some(0), "{}{}", same.out, same.err);
    let changed = run([OsStr::new("diff"), host.file().as_os_str(), more.file().as_os_str()]);
    assert_eq!(changed.code, Some(1));
    assert!(changed.out.contains("8080"), "{}", changed.out);

    let ended = Recorded::with(|sample| _ = sample.snapshot.sockets.pop());
    let changed = run([OsStr::new("diff"), host.file().as_os_str(), ended.file().as_os_str()]);
    let line = "- closed   tcp 127.0.0.1:40000 with 127.0.0.1:6379  nginx (pid 100)";
    assert!(changed.out.contains(line), "a connection has two ends: {}", changed.out);
}

#[test]
fn a_packet_socket_looks_on_and_an_unread_interface_is_no_filter() {
    let host = Recorded::with(|sample| {
        sample.process(300, "/usr/bin/sniffer");
        let packet = sample.socket(Protocol::Packet, State::Unconnected, "", &[300]);
        (packet.local, packet.role) = (Endpoint::Interface(0), Role::Receiver);
        let raw = sample.socket(Protocol::Raw, State::Unconnected, "0.0.0.0:0", &[300]);
        (raw.role, raw.protocol_number, raw.cookie) = (Role::Receiver, Some(1), 0);
    });
    let from = host.file();
    let audit = run([OsStr::new("audit"), OsStr::new("--from"), from.as_os_str()]);
    for says in
        ["reads what passes its interface\n", "the interface that it may be bound to could not be read\n"]
    {
        assert!(audit.out.contains(says), "{says}: {}{}", audit.out, audit.err);
    }
    assert!(audit.out.contains("Out of sight:"), "what bears on the answer is not called harmless");
    let strict = run([OsStr::new("list"), OsStr::new("--strict"), OsStr::new("--from"), from.as_os_str()]);
    assert_eq!(strict.code, Some(3), "{}", strict.err);
}

#[test]
fn a_snapshot_that_cannot_be_written_is_named_and_nothing_else() {
    let host = Recorded::new();
    let from = host.file();
    let to = host.folder.path().join("nowhere/s.json");
    let failed = run([
        OsStr::new("snapshot"),
        OsStr::new("--from"),
        from.as_os_str(),
        OsStr::new("-o"),
        to.as_os_str(),
    ]);
    assert_eq!(failed.code, Some(2), "{}", failed.err);
    assert!(failed.err.contains("nowhere/s.json") && !failed.err.contains(".sockwarden-"), "{}", failed.err);
}

#[test]
fn what_is_no_snapshot_is_refused() {
    let host = Recorded::new();
    let whole = fs::read(host.file()).unwrap();
    for (name, bytes) in [
        ("truncated", &whole[..whole.len() / 2]),
        ("empty", &[][..]),
        ("foreign", br#"{"schema": "other/v1", "kind": "snapshot"}"#),
        ("binary", &[0xff; 64]),
    ] {
        let file = host.folder.path().join(name);
        fs::write(&file, bytes).unwrap();
        let refused = run([OsStr::new("list"), OsStr::new("--from"), file.as_os_str()]);
        assert_eq!(refused.code, Some(2), "{name}: {}", refused.out);
        assert!(refused.err.contains("snapshot") && refused.err.contains(name), "{name}: {}", refused.err);
    }
    let missing = words("list --from /nonexistent/snapshot");
    assert_eq!(missing.code, Some(2));
}

#[test]
fn a_snapshot_may_come_through_a_pipe() {
    let host = Recorded::new();
    let piped = |args: &[&str]| {
        let input = fs::File::open(host.file()).unwrap();
        done(&sockwarden(args).stdin(Stdio::from(input)).output().unwrap())
    };
    let found = piped(&["list", "--from", "-"]);
    assert_eq!((found.code, found.out), (Some(0), host.list("").out), "{}", found.err);
    let both = piped(&["diff", "-", "-"]);
    assert_eq!(both.code, Some(2));
    assert!(both.err.contains("standard input holds one snapshot"), "{}", both.err);
    let nothing = done(&sockwarden(["list", "--from", "-"]).stdin(Stdio::null()).output().unwrap());
    assert_eq!(nothing.code, Some(2));
    assert!(nothing.err.contains("standard input is not a snapshot"), "{}", nothing.err);
}

#[cfg(target_os = "linux")]
#[test]
fn a_recording_of_one_namespace_is_replayed_as_such_and_sends_nobody_to_sudo() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("raw");
    let made = run([
        OsStr::new("snapshot"),
        OsStr::new("--netns"),
        OsStr::new("current"),
        OsStr::new("--raw"),
        raw.as_os_str(),
    ]);
    assert_eq!(made.code, Some(0), "{}", made.err);
    let replayed = run([OsStr::new("audit"), OsStr::new("--json"), OsStr::new("--from"), raw.as_os_str()]);
    let document: serde_json::Value = serde_json::from_str(&replayed.out).unwrap();
    let sockets = document["sockets"].as_array().unwrap();
    assert!(sockets.iter().all(|socket| socket["netns"] == sockets[0]["netns"]), "{}", replayed.out);
    for gap in document["visibility"]["gaps"].as_array().unwrap() {
        assert!(gap["remedy"].is_null() && gap["id"] != "netns-unread", "{gap:#}");
    }
    let wider = run([
        OsStr::new("list"),
        OsStr::new("--netns"),
        OsStr::new("all"),
        OsStr::new("--from"),
        raw.as_os_str(),
    ]);
    assert!(wider.err.contains("was made with --netns current"), "{}", wider.err);
}

#[test]
fn help_names_the_formats_that_a_command_has() {
    for (command, formats) in [
        ("audit", "human, json, jsonl, sarif, junit, github or markdown"),
        ("list", "human, json, jsonl or markdown"),
        ("why", "human or json"),
        ("diff", "human, json, jsonl or markdown"),
        ("rules list", "human, json, jsonl or markdown"),
        ("rules show", "human, json, jsonl or markdown"),
        ("demo", "human, json, jsonl, sarif, junit, github or markdown"),
        ("doctor", "human or json"),
    ] {
        let help = words(&format!("{command} --help")).out;
        assert!(help.contains(&format!("Form of the answer: {formats}\n")), "{command}: {help}");
    }
}

#[test]
fn sockets_are_sorted_by_port() {
    let host = Recorded::new();
    let shown = |sort| host.list(&format!("-H --columns port --sort {sort}")).out;
    assert_eq!(shown("port").split_whitespace().collect::<Vec<_>>(), ["80", "6379", "40000"]);
    assert_eq!(shown("-port").split_whitespace().collect::<Vec<_>>(), ["40000", "6379", "80"]);
}

#[cfg(unix)]
#[test]
fn a_snapshot_is_whole_and_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let host = Recorded::new();
    let copy = host.folder.path().join("copy.json");
    let made = run([
        OsStr::new("snapshot"),
        OsStr::new("--from"),
        host.file().as_os_str(),
        OsStr::new("-o"),
        copy.as_os_str(),
    ]);
    assert_eq!(made.code, Some(0), "{}", made.err);
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(names(host.folder.path()), ["copy.json", "host.json"], "nothing else is left");
    let list =
        |file: &Path| run([OsStr::new("list"), OsStr::new("--json"), OsStr::new("--from"), file.as_os_str()]);
    assert_eq!(list(&copy).out, list(&host.file()).out);
}

#[cfg(unix)]
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let host = Recorded::with(|sample| {
        for port in 1000..6000 {
            sample.listener(&format!("0.0.0.0:{port}"), Reach::Internet, &[100]);
        }
    });
    for line in ["list", "list --json", "audit --json --fail-on none", "--help"] {
        let mut command = sockwarden(line.split(' '));
        if line != "--help" {
            command.arg("--from").arg(host.file());
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let mut first = [0; 1];
        out.read_exact(&mut first).unwrap();
        drop(out);
        let ended = done(&child.wait_with_output().unwrap());
        assert_eq!(ended.code, Some(0), "{line}: {}", ended.err);
        assert!(!ended.err.contains("panic") && !ended.err.contains("pipe"), "{line}: {}", ended.err);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let host = Recorded::new();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = sockwarden(["list", "--from"]).arg(host.file()).stdout(full).output().unwrap();
    let ended = done(&output);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("standard output"), "{}", ended.err);
}

#[cfg(unix)]
#[test]
fn hostile_arguments_are_refused_and_harmless() {
    use std::os::unix::ffi::OsStrExt as _;
    let long = "a".repeat(100_000);
    let stars = format!("process:{}b", "*a".repeat(20_000));
    let hostile: [&[u8]; 9] = [
        b"\x1b[2J\x1b]0;owned\x07",
        b"port:\x1b[31m80",
        b"\xff\xfe",
        b"process",
        b"proto:\xff",
        b"--\x1b[2J",
        b"",
        long.as_bytes(),
        "\u{202e}proto:tcp".as_bytes(),
    ];
    for bytes in hostile {
        let refused = run([OsStr::new("list"), OsStr::from_bytes(bytes)]);
        assert_eq!(refused.code, Some(2), "{bytes:?}: {}", refused.err);
        assert!(
            refused.err.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'),
            "{:?}",
            refused.err
        );
    }
    let host = Recorded::new();
    assert_eq!(host.list(&stars).code, Some(0), "a glob of many stars ends");
}

#[test]
fn a_misspelt_configuration_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    fs::write(&file, "[host]\nupstrem = \"direct\"\n").unwrap();
    let refused = run([OsStr::new("config"), OsStr::new("check"), OsStr::new("--config"), file.as_os_str()]);
    assert_eq!(refused.code, Some(2));
    for part in ["config.toml:2:1", "upstrem", "^", "did you mean `upstream`?"] {
        assert!(refused.err.contains(part), "no {part} in {}", refused.err);
    }
}

#[test]
fn the_configuration_in_force_says_where_each_value_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    fs::write(&file, "[host]\nupstream = \"direct\"\n").unwrap();
    let shown = run([OsStr::new("config"), OsStr::new("show"), OsStr::new("--config"), file.as_os_str()]);
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    assert!(
        shown.out.contains("upstream = \"direct\"") && shown.out.contains("config.toml:2"),
        "{}",
        shown.out
    );
    assert!(shown.out.contains("fail-on = \"high\"") && shown.out.contains("default"), "{}", shown.out);
    let again = folder.path().join("again.toml");
    fs::write(&again, &shown.out).unwrap();
    let read = run([OsStr::new("config"), OsStr::new("check"), OsStr::new("--config"), again.as_os_str()]);
    assert_eq!(read.code, Some(0), "what is shown can be read: {}", read.err);
}

#[cfg(unix)]
#[test]
fn the_files_that_are_shipped_as_examples_are_in_order() {
    use std::os::unix::fs::PermissionsExt as _;

    use sockwarden::finding::Suppressions;
    use sockwarden::rules::RuleSet;

    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/etc");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    fs::write(&config, fs::read(shipped.join("config.toml")).unwrap()).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
    let check =
        || run([OsStr::new("config"), OsStr::new("check"), OsStr::new("--config"), config.as_os_str()]);
    let read = check();
    assert_eq!((read.code, read.err.as_str()), (Some(0), ""), "{}", read.out);
    // Every line that is commented out is a setting that could be there.
    let text = fs::read_to_string(&config).unwrap().replace("# upstream", "upstream");
    fs::write(&config, text).unwrap();
    assert_eq!(check().code, Some(0));

    let example = shipped.join("suppressions/example.toml.example");
    let text = fs::read_to_string(&example).unwrap();
    let read = Suppressions::parse("example.toml", &text).unwrap();
    let rules = RuleSet::builtin();
    let known: Vec<&str> = rules.ids().collect();
    assert_eq!(read.unknown_rules(&known), []);
    // Installed as they are, these folders suppress nothing.
    assert_eq!(
        format!("{:?}", Suppressions::load(&[shipped.join("suppressions")]).unwrap()),
        "Suppressions([])"
    );
}

#[cfg(unix)]
#[test]
fn a_rule_folder_that_others_may_write_is_refused_by_name() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("house-rules");
    fs::create_dir(&rules).unwrap();
    fs::set_permissions(&rules, fs::Permissions::from_mode(0o777)).unwrap();
    let host = Recorded::new();
    let refused = run([
        OsStr::new("audit"),
        OsStr::new("--from"),
        host.file().as_os_str(),
        OsStr::new("--rules"),
        rules.as_os_str(),
    ]);
    assert_eq!(refused.code, Some(2), "{}", refused.out);
    assert!(
        refused.err.contains("house-rules") && refused.err.contains("written by others"),
        "{}",
        refused.err
    );
}

#[test]
fn blindness_counts_under_strict_alone() {
    use sockwarden::model::{Gap, OwnerGap};
    let blind = Recorded::with(|sample| {
        let socket = sample.listener("127.0.0.1:9999", Reach::Host, &[]);
        socket.owner_gap = Some(OwnerGap::Hidden);
        sample.snapshot.gaps.push(Gap {
            id: "owners-hidden".into(),
            what: "processes of other users".into(),
            why: "permission denied".into(),
            remedy: Some("sudo sockwarden".into()),
            count: 3,
            unlisted: None,
        });
    });
    assert_eq!(blind.list("").code, Some(0));
    assert_eq!(blind.list("--strict").code, Some(3));
    assert_eq!(blind.list("--strict port:80").code, Some(0), "every socket in scope has its owner");
    let loud = blind.list("");
    assert!(loud.err.contains("sudo sockwarden"), "{}", loud.err);
    assert_eq!(blind.list("-q").err, "");
}

#[test]
fn colour_goes_where_it_is_wanted() {
    let host = Recorded::new();
    assert!(!host.list("").out.contains('\x1b'), "a pipe gets none");
    assert!(host.list("--color always").out.contains('\x1b'));
    assert!(!host.list("--color never").out.contains('\x1b'));
    let forced = sockwarden(["list", "--from"]).arg(host.file()).env("CLICOLOR_FORCE", "1").output().unwrap();
    assert!(done(&forced).out.contains('\x1b'));
}

#[test]
fn the_curious_get_timings_on_standard_error() {
    let host = Recorded::new();
    let told = host.list("-v");
    assert!(told.err.contains("sockets shown") && told.err.contains("ms"), "{}", told.err);
    assert!(host.list("-q -v").code == Some(2), "one or the other");
}
