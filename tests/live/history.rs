//! `watch --history` and `history` on machines of their own: what was kept, by whom it may be read,
//! and what is left after `kill -9`.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::Value;

use crate::lab::{self, Need, Netns, Outcome, ensure, sockwarden, trial, trial_alone};
use crate::watch::{Watch, copy_of_ourselves, program, received};

/// What a kill may cost.
const HALF_A_SECOND: Duration = Duration::from_millis(500);

pub(crate) fn trials() -> Vec<Trial> {
    const ROOT: &[Need] = &[Need::Root, Need::Tool("ip")];
    const USER: &[Need] = &[Need::Root, Need::Tool("ip"), Need::Tool("setpriv")];
    vec![
        trial("history::it_answers_when_by_whom_and_with_whom", ROOT, answers),
        trial("history::a_group_may_read_it_and_nobody_else", USER, readers),
        trial_alone("history::kill_9_at_any_moment_loses_half_a_second_at_most", ROOT, killed),
    ]
}

fn kills() -> u32 {
    match std::env::var("SOCKWARDEN_TIER").as_deref() {
        Ok("long" | "soak") => 200,
        _ => 20,
    }
}

/// A document of `history`, asked with these words.
fn ask(words: &[&str], file: &Path) -> Outcome<Value> {
    let mut command = sockwarden([&["history"], words, &["--json", "-q", "--file"]].concat());
    Ok(serde_json::from_slice(&lab::output(command.arg(file))?)?)
}

fn answers() -> Outcome {
    let netns = Netns::new()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("deep/history.db");
    let place = file.to_string_lossy().into_owned();
    let nasty = folder.path().join("\u{1b}]0;evil\u{7}\n\u{202e}x");
    copy_of_ourselves(&nasty)?;
    let watch =
        Watch::start(Some(&netns), &format!("--netns current --dwell 300ms --every 2s --history={place}"))?;
    let server = program(&netns, &nasty, "127.0.0.1:8080")?;
    watch.next("the listener", |value| value["change"] == "opened")?;
    let (pid, mode) = (server.pid(), std::fs::metadata(&file)?.mode() & 0o777);
    ensure(mode == 0o640, || format!("the file has mode {mode:o}"))?;
    let stream = netns.run(|| std::net::TcpStream::connect("127.0.0.1:8080"))??;
    lab::wait("the connection in the history", || {
        let peers = ask(&["peers", "127.0.0.0/8"], &file).ok()?;
        let calls = |each: &&Value| each["role"] == "outbound" && each["port"] == 8080;
        let found = peers["peers"].as_array()?.iter().find(calls)?.clone();
        (found["times"] == 1 && found["peer"] == "127.0.0.1").then_some(())
    })?;
    drop((stream, server));
    watch.next("the end of the listener", |value| value["change"] == "closed")?;
    let second =
        sockwarden(["watch", "--netns", "current", "--for", "1s", &format!("--history={place}")]).output()?;
    ensure(second.status.code() == Some(2), || format!("a second watch ended with {:?}", second.status))?;
    lab::wait("both changes in the history", || {
        let told = ask(&["changes", "8080", "--since", "yesterday"], &file).ok()?;
        let kinds: Vec<&str> =
            told["changes"].as_array()?.iter().filter_map(|each| each["change"].as_str()).collect();
        (kinds == ["opened", "closed"]).then_some(())
    })?;
    let seen = ask(&["seen", "tcp/8080"], &file)?;
    let door = &seen["seen"][0];
    ensure(door["holder"]["pid"] == pid && door["open"] == false && door["times"] == 1, || {
        format!("{seen:#}")
    })?;
    ensure(door["holder"]["exe"].as_str() == nasty.to_str(), || format!("the name is not whole: {seen:#}"))?;
    ensure(door["first_seen"].as_str() < door["last_seen"].as_str(), || format!("{seen:#}"))?;
    let before = ask(&["seen", "8080", "--until", "1d"], &file)?;
    ensure(before["seen"] == serde_json::json!([]), || format!("{before:#}"))?;
    for words in [&["seen"][..], &["changes"], &["peers"]] {
        let shown = String::from_utf8(lab::output(
            sockwarden([&["history"], words].concat()).arg("--file").arg(&file),
        )?)?;
        let bad = shown.chars().find(|c| *c != '\n' && (c.is_control() || *c == '\u{202e}'));
        ensure(bad.is_none() && shown.contains("127.0.0.1"), || format!("{words:?} gives {shown:?}"))?;
    }
    Ok(())
}

/// While it is written, and when nobody writes it any more and its folder is not ours.
fn readers() -> Outcome {
    let netns = Netns::new()?;
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
    let ours = folder.path().join("sockwarden");
    lab::copy_program(env!("CARGO_BIN_EXE_sockwarden"), &ours)?;
    let state = folder.path().join("state");
    std::fs::create_dir(&state)?;
    // As an administrator would: what is made in it belongs to its group.
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o2755))?;
    std::os::unix::fs::chown(&state, None, Some(4242))?;
    let file = state.join("history.db");
    let mut watch =
        Watch::start(Some(&netns), &format!("--netns current --dwell 300ms --history={}", file.display()))?;
    let _server = program(&netns, Path::new("/proc/self/exe"), "127.0.0.1:8080")?;
    watch.next("the listener", |value| value["change"] == "opened")?;
    let read = |group: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=4243", &format!("--regid={group}"), "--clear-groups"]).arg(&ours);
        command.args(["history", "seen", "8080", "-q", "--file"]).arg(&file).output()
    };
    lab::wait("the group to read it", || {
        let told = read("4242").ok()?;
        (told.status.success() && String::from_utf8_lossy(&told.stdout).contains(":8080")).then_some(())
    })?;
    let stranger = read("4244")?;
    ensure(stranger.status.code() == Some(2) && stranger.stdout.is_empty(), || format!("{stranger:?}"))?;
    // SIGTERM: all is written, and nothing is left beside the file.
    let pid = watch.child.id().to_string();
    lab::output(Command::new("kill").args(["-TERM", &pid]))?;
    watch.child.wait()?;
    ensure(!state.join("history.db-wal").exists(), || "its log is left behind".to_owned())?;
    let told = read("4242")?;
    ensure(told.status.success() && String::from_utf8_lossy(&told.stdout).contains(":8080"), || {
        format!("{told:?}")
    })
}

/// Listeners come and go while the watch is killed again and again.
fn killed() -> Outcome {
    let netns = Netns::new()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("history.db");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| netns.run(|| churn(&over)));
        let mut told = 0;
        let result = (0..kills()).try_for_each(|round| kill(round, &netns, &file).map(|count| told += count));
        over.store(true, Ordering::Relaxed);
        load.join().map_err(|_| "the load has ended early")??;
        result?;
        ensure(told > kills() as usize, || format!("only {told} changes were told in all: that was no load"))
    })?;
    let aside = std::fs::read_dir(folder.path())?.count();
    ensure(aside <= 4, || format!("{aside} files: something was set aside"))
}

fn churn(over: &AtomicBool) {
    for port in (7001..7400_u16).cycle() {
        if over.load(Ordering::Relaxed) {
            return;
        }
        // A scan may still hold a duplicate of the one before.
        let listener = TcpListener::bind(("127.0.0.1", port));
        std::thread::sleep(Duration::from_millis(20));
        drop(listener);
    }
}

/// One life of a watch: how many of its words are old enough to be on disk, all of which must be.
fn kill(round: u32, netns: &Netns, file: &Path) -> Outcome<usize> {
    let mut watch =
        Watch::start(Some(netns), &format!("--netns current --dwell 100ms --history={}", file.display()))?;
    let until = Instant::now() + Duration::from_millis(u64::from(round * 211 % 1200) + 200);
    let mut told = Vec::new();
    while let Some(value) = received(&watch.lines, until) {
        told.push((Instant::now(), value));
    }
    watch.child.kill()?;
    let end = Instant::now();
    watch.child.wait()?;
    let kept = ask(&["changes"], file)?;
    let kept: std::collections::BTreeSet<(String, String, u64)> =
        kept["changes"].as_array().ok_or("no changes")?.iter().filter_map(key).collect();
    told.retain(|(at, _)| end.duration_since(*at) >= HALF_A_SECOND);
    for (at, value) in &told {
        let key = key(value);
        ensure(key.as_ref().is_none_or(|key| kept.contains(key)), || {
            let (age, last) = (end.duration_since(*at), kept.last());
            format!("told {age:?} before kill {round} and not kept: {key:?}; the last kept is {last:?}")
        })?;
    }
    let read = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let base = rusqlite::Connection::open_with_flags(file, read)?;
    let sound: String = base.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    ensure(sound == "ok", || format!("after kill {round}: {sound}"))?;
    Ok(told.len())
}

/// Moment, kind and port of a change of a TCP socket.
fn key(value: &Value) -> Option<(String, String, u64)> {
    let port = value["socket"]["local"]["port"].as_u64()?;
    Some((value["at"].as_str()?.to_owned(), value["change"].as_str()?.to_owned(), port))
}
