//! `watch` as a user or a script meets it, where no rights are needed: our own sockets on loopback.

#![cfg(target_os = "linux")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::output::line;

/// How long a test waits for what happens at once on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Watch {
    child: Child,
    lines: mpsc::Receiver<String>,
    notices: mpsc::Receiver<String>,
}

impl Watch {
    /// Started, and past its first scan.
    fn start(words: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sockwarden"));
        command.arg("watch").args(words.split(' ').filter(|word| !word.is_empty()));
        command.env("HOME", "/nonexistent").env("NO_COLOR", "1");
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = follow(child.stdout.take().unwrap());
        let notices = follow(child.stderr.take().unwrap());
        let mut watch = Self { child, lines, notices };
        watch.notice("watching ");
        // The first look comes right after the notice.
        std::thread::sleep(Duration::from_millis(300));
        watch
    }

    fn notice(&mut self, part: &str) -> String {
        let end = Instant::now() + PATIENCE;
        while let Ok(line) = received(&self.notices, end) {
            if line.contains(part) {
                return line;
            }
        }
        panic!("no notice {part:?}")
    }

    /// The next change of this kind that `pick` wants; each is checked against the schema.
    fn next(&mut self, change: &str, pick: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        while let Ok(text) = received(&self.lines, end) {
            let value = line(&text);
            if value["change"] == change && pick(&value) {
                return value;
            }
        }
        panic!("no {change}")
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    fn end(mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The next line, but none after the end, however many wait: a machine with much to tell never falls
/// silent.
fn received(lines: &mpsc::Receiver<String>, end: Instant) -> Result<String, mpsc::RecvTimeoutError> {
    match end.checked_duration_since(Instant::now()) {
        Some(left) => lines.recv_timeout(left),
        None => Err(mpsc::RecvTimeoutError::Timeout),
    }
}

fn follow(pipe: impl std::io::Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        BufReader::new(pipe).lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
    });
    receiver
}

fn port(value: &Value) -> Option<u64> {
    value["socket"]["local"]["port"].as_u64()
}

/// Not those that the kernel hands out: another test of this process that closes one while ours opens
/// would look like a restart, which is no news.
const OWN_PORTS: std::ops::Range<u16> = 20_000..30_000;

/// At a port that no other test has had.
fn listener() -> TcpListener {
    static NEXT: AtomicU16 = AtomicU16::new(OWN_PORTS.start);
    let mut ports = std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed));
    ports.find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).unwrap()
}

#[test]
fn a_listener_is_told_when_it_opens_and_when_it_is_gone() {
    let mut watch = Watch::start("--json --netns current --dwell 300ms");
    let listener = listener();
    let ours = u64::from(listener.local_addr().unwrap().port());
    let opened = watch.next("opened", |value| port(value) == Some(ours));
    assert_eq!(opened["socket"]["state"], "listen");
    assert_eq!(opened["socket"]["owners"][0]["pid"], std::process::id());
    assert!(opened["before"].is_null() && opened["finding"].is_null());
    drop(listener);
    let closed = watch.next("closed", |value| port(value) == Some(ours));
    assert_eq!(closed["socket"]["owners"][0]["pid"], std::process::id(), "who held it last");
    watch.signal("-TERM");
    assert_eq!(watch.end(), Some(143));
}

#[test]
fn filters_choose_what_is_told() {
    let mut watch = Watch::start("--json --netns current --dwell 300ms proto:udp");
    let tcp = listener();
    std::thread::sleep(Duration::from_millis(600));
    let mut ports = OWN_PORTS;
    let udp = ports.find_map(|port| UdpSocket::bind(("127.0.0.1", port)).ok()).unwrap();
    let ours = u64::from(udp.local_addr().unwrap().port());
    let other = u64::from(tcp.local_addr().unwrap().port());
    let told = watch.next("opened", |value| {
        assert!(value["socket"]["protocol"] == "udp", "{value}");
        port(value) == Some(ours) || port(value) == Some(other) && value["socket"]["protocol"] == "tcp"
    });
    assert_eq!(port(&told), Some(ours));
}

#[test]
fn what_stands_is_told_first_where_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = u64::from(listener.local_addr().unwrap().port());
    let mut watch = Watch::start("--json --netns current --standing --for 1s");
    let told = watch.next("opened", |value| port(value) == Some(ours));
    assert_eq!(told["seen_by"], "start");
    assert_eq!(watch.end(), Some(0), "the time is over and nothing has failed");
}

#[test]
fn what_was_closed_before_anybody_looked_is_told() {
    let mut watch = Watch::start("--json --netns current");
    if watch.notices.try_iter().any(|line| line.contains("does not tell of sockets that end")) {
        println!("skipped: the kernel does not tell this user of sockets that end");
        return;
    }
    let listener = listener();
    let ours = u64::from(listener.local_addr().unwrap().port());
    drop(listener);
    let told = watch.next("opened", |value| port(value) == Some(ours));
    // A program in the kernel tells it with its holder; now and then a look comes in between.
    assert!(
        told["socket"]["owner_gap"] == "gone" || told["socket"]["owners"][0]["pid"] == std::process::id()
    );
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sockwarden"))
        .args(["watch", "--json", "--netns", "current", "-q"])
        .env("HOME", "/nonexistent")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Nothing needs to happen for it to notice.
    std::thread::sleep(Duration::from_millis(500));
    drop(child.stdout.take());
    let status = child.wait().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}

#[test]
fn whoever_asks_is_told_what_it_costs() {
    let mut watch = Watch::start("--json --netns current");
    watch.signal("-USR1");
    let told = watch.notice(" looks of ");
    assert!(told.contains("longest time between two looks"), "{told}");
    // Not SIGINT: a shell lets what it starts in the background ignore that one.
    watch.signal("-TERM");
    assert_eq!(watch.end(), Some(143));
}

/// The whole chain, with nobody else to tell: what cannot be tried is said.
#[test]
fn a_self_test_follows_a_door_of_its_own() {
    let done = Command::new(env!("CARGO_BIN_EXE_sockwarden"))
        .args(["watch", "--self-test", "--json", "--publish=/nonexistent/watch.sock"])
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    let steps: Vec<Value> = said.lines().map(line).collect();
    let outcome = |name: &str| {
        let mut found = steps.iter().filter(|step| step["step"] == name).map(|step| step["outcome"].clone());
        let one = found.next().unwrap_or_else(|| panic!("no {name} in {said}"));
        assert!(found.next().is_none(), "{name} twice in {said}");
        one
    };
    assert_eq!([outcome("notification"), outcome("service")], ["skipped", "skipped"]);
    // How soon it is depends on the machine: what is late has failed, but was told.
    let late = |name: &str| {
        let told = steps.iter().any(|step| step["step"] == name && step["after_ms"].is_number());
        assert!(told && (outcome(name) == "passed" || said.contains("later than")), "{name}: {said}");
        outcome(name) != "passed"
    };
    let any_late = ["seen", "finding", "closed"].map(late).contains(&true);
    assert_eq!(done.status.code(), Some(i32::from(any_late)), "{said}");
    let seen = steps.iter().find(|step| step["step"] == "seen").unwrap();
    assert!(seen["message"].as_str().unwrap().starts_with("sw-self-test (pid "), "{seen}");
    let notice = String::from_utf8_lossy(&done.stderr).into_owned();
    let folder = notice.split_whitespace().find(|word| word.contains("sockwarden-self-test-")).unwrap();
    assert!(!std::path::Path::new(folder).exists(), "{folder} is taken away");
}

/// Written by another process: what this one had open for writing could not be executed while a
/// test beside it is between fork and exec (`ETXTBSY`).
fn script(folder: &std::path::Path, text: &str) -> std::path::PathBuf {
    let place = folder.join("script");
    let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" >\"$0\" && chmod 755 \"$0\"";
    let status = Command::new("sh").args(["-c", write]).arg(&place).arg(text).status().unwrap();
    assert!(status.success());
    place
}

#[test]
fn a_program_is_run_for_each_change_and_gets_its_json_and_no_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let place = script(folder.path(), "[ $# = 0 ] || exit 9\ncat >>\"$(dirname \"$0\")/got\"");
    let listener = listener();
    let number = listener.local_addr().unwrap().port();
    drop(listener);
    let words = format!("--json --netns current --dwell 300ms --exec {} port:{number}", place.display());
    let mut watch = Watch::start(&words);
    let listener = TcpListener::bind(("127.0.0.1", number)).unwrap();
    let opened = watch.next("opened", |value| port(value) == Some(u64::from(number)));
    drop(listener);
    let closed = watch.next("closed", |value| port(value) == Some(u64::from(number)));
    let start = Instant::now();
    loop {
        let got = std::fs::read_to_string(folder.path().join("got")).unwrap_or_default();
        let got: Vec<Value> = got.lines().map(line).collect();
        if got.contains(&opened) && got.contains(&closed) {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{got:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_program_that_fails_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let place = script(folder.path(), "exit 3");
    let listener = (22000..23000_u16).find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).unwrap();
    let number = listener.local_addr().unwrap().port();
    drop(listener);
    let mut watch = Watch::start(&format!("--netns current --exec {} port:{number}", place.display()));
    let _listener = TcpListener::bind(("127.0.0.1", number)).unwrap();
    let told = watch.notice("ended with");
    assert!(told.contains("exit status: 3") && told.contains("script"), "{told}");
    let refused =
        Command::new(env!("CARGO_BIN_EXE_sockwarden")).args(["watch", "--exec", "/nonexistent/x"]).output();
    assert_eq!(refused.unwrap().status.code(), Some(2));
}
