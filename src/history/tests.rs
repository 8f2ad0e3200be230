//! A history from end to end: kept, closed, killed, asked.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::store::Store;
use super::*;
use crate::finding::{ChangeKind, Finding, PastChange, Severity};
use crate::model::sample::{Sample, endpoint};
use crate::model::{Endpoint, Protocol, Reach, Role, SocketIndex, State, Text};

const BOUNDS: Bounds = Bounds { age: Duration::from_secs(90 * 86_400), size: 128 << 20 };

fn file() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history.db");
    (folder, file)
}

fn open(file: &Path) -> Store {
    let (store, said) = Store::open(file, BOUNDS).unwrap();
    assert_eq!(said, None);
    store
}

/// redis on 6379, whose pid is the second.
fn machine(at: i64) -> Sample {
    let mut sample = Sample::new();
    sample.snapshot.taken_at = at;
    sample.process(12, "/usr/bin/redis-server").unit = crate::model::Fact::Known("redis.service".into());
    sample.listener("0.0.0.0:6379", Reach::Internet, &[12]);
    sample
}

fn start(sample: &Sample) -> Record {
    standing(sample.snapshot.taken_at, sample.snapshot.observations(), std::iter::empty(), false)
}

fn of(sample: &Sample, kind: ChangeKind, before: Option<u32>, after: Option<u32>) -> Record {
    let seen = |at: u32| sample.snapshot.observe(SocketIndex(at));
    change(sample.snapshot.taken_at, "look", kind, before.map(seen), after.map(seen), None).unwrap()
}

fn told(changes: &[PastChange]) -> Vec<(i64, &'static str, String)> {
    let place = |each: &PastChange| {
        let door = each.after.as_ref().or(each.before.as_ref()).unwrap();
        format!("{:?}", door.local)
    };
    changes.iter().map(|each| (each.at, each.kind.name(), place(each))).collect()
}

fn now() -> i64 {
    keeper::epoch()
}

#[test]
fn a_door_has_a_first_and_a_last_sighting_and_its_program() {
    let (_folder, file) = file();
    let base = now();
    let mut store = open(&file);
    store.keep(&[start(&Sample::new())], 0).unwrap();
    let opened = machine(base + 10);
    store.keep(&[of(&opened, ChangeKind::Opened, None, Some(0))], 0).unwrap();
    let past = Past::open(&file).unwrap();
    let doors = past.doors(Span::ALWAYS).unwrap();
    assert_eq!((doors.len(), doors[0].first_seen, doors[0].open, doors[0].times), (1, base + 10, true, 1));
    let holder = doors[0].holder.as_ref().unwrap();
    assert_eq!((holder.pid, holder.name.to_string()), (12, "redis-server".to_owned()));
    assert_eq!(holder.unit, Some("redis.service".into()));
    assert_eq!(holder.parent, Some("systemd".into()));
    assert_eq!(doors[0].reach, Some((Reach::Internet, true)));
    // A scan that sees it again is its last sighting.
    store.keep(&[Record::Scan { at: base + 50, talks: Vec::new() }], 0).unwrap();
    assert_eq!(past.doors(Span::ALWAYS).unwrap()[0].last_seen, base + 50);
    let closed = machine(base + 60);
    store.keep(&[of(&closed, ChangeKind::Closed, Some(0), None)], 0).unwrap();
    store.keep(&[Record::Scan { at: base + 90, talks: Vec::new() }], 0).unwrap();
    let door = &past.doors(Span::ALWAYS).unwrap()[0];
    assert_eq!((door.last_seen, door.open), (base + 60, false));
    let changes = past.changes(Span::ALWAYS).unwrap();
    let kinds: Vec<_> = told(&changes).into_iter().map(|(at, kind, _)| (at - base, kind)).collect();
    assert_eq!(kinds, [(10, "opened"), (60, "closed")]);
    assert_eq!(past.changes(Span { since: base + 11, until: i64::MAX }).unwrap().len(), 1);
    assert!(past.doors(Span { since: base + 61, until: i64::MAX }).unwrap().is_empty());
}

#[test]
fn what_happened_while_nobody_watched_is_told_at_the_next_start() {
    let (_folder, file) = file();
    let base = now();
    let mut store = open(&file);
    let mut first = machine(base);
    first.listener("0.0.0.0:80", Reach::Internet, &[12]);
    // Nothing is news to a history that has just begun.
    store.keep(&[start(&first)], 0).unwrap();
    drop(store);
    let mut store = open(&file);
    let mut second = machine(base + 100);
    second.listener("0.0.0.0:443", Reach::Internet, &[12]);
    store.keep(&[start(&second)], 0).unwrap();
    let past = Past::open(&file).unwrap();
    let changes = past.changes(Span::ALWAYS).unwrap();
    let port = |port| format!("{:?}", endpoint(&format!("0.0.0.0:{port}")));
    assert_eq!(told(&changes), [(base + 100, "opened", port(443)), (base + 100, "closed", port(80))]);
    assert!(changes.iter().all(|each| each.seen_by == "start"));
    let doors = past.doors(Span::ALWAYS).unwrap();
    let open: Vec<_> =
        doors.iter().map(|door| (format!("{:?}", door.local), door.open, door.times)).collect();
    assert_eq!(open, [(port(6379), true, 1), (port(80), false, 1), (port(443), true, 1)]);
    assert_eq!(past.watched().unwrap().len(), 2);
}

#[test]
fn a_change_of_reach_leaves_the_door_open_and_says_both() {
    let (_folder, file) = file();
    let base = now();
    let mut store = open(&file);
    let mut sample = machine(base);
    store.keep(&[start(&sample)], 0).unwrap();
    sample.listener("0.0.0.0:6379", Reach::Lan, &[12]);
    store.keep(&[of(&sample, ChangeKind::Reach, Some(0), Some(1))], 0).unwrap();
    let past = Past::open(&file).unwrap();
    let changes = past.changes(Span::ALWAYS).unwrap();
    let reach = |door: &Option<crate::finding::PastDoor>| door.as_ref().unwrap().reach.unwrap().0;
    assert_eq!((reach(&changes[0].before), reach(&changes[0].after)), (Reach::Internet, Reach::Lan));
    let door = &past.doors(Span::ALWAYS).unwrap()[0];
    assert_eq!((door.open, door.times, door.reach), (true, 1, Some((Reach::Lan, true))));
    // One closing is enough to close it.
    store.keep(&[of(&sample, ChangeKind::Closed, Some(1), None)], 0).unwrap();
    assert!(!past.doors(Span::ALWAYS).unwrap()[0].open);
}

#[test]
fn connections_are_counted_once_each_by_program_and_peer() {
    let (_folder, file) = file();
    let mut sample = machine(now());
    let connect = |sample: &mut Sample, from: &str, role| {
        let socket = sample.socket(Protocol::Tcp, State::Established, "203.0.113.5:6379", &[12]);
        (socket.remote, socket.role) = (endpoint(from), role);
    };
    connect(&mut sample, "192.0.2.7:40000", Role::Inbound);
    connect(&mut sample, "192.0.2.7:40001", Role::Inbound);
    connect(&mut sample, "192.0.2.9:443", Role::Outbound);
    sample.socket(Protocol::Tcp, State::TimeWait, "203.0.113.5:6379", &[]).role = Role::Inbound;
    let mut talks = Talks::default();
    let began = Instant::now();
    let mut records = vec![start(&sample), talks.scan(began, &sample.snapshot)];
    records.push(talks.scan(began, &sample.snapshot));
    connect(&mut sample, "192.0.2.7:40002", Role::Inbound);
    sample.snapshot.taken_at += 1_000;
    records.push(talks.scan(began + Duration::from_secs(1), &sample.snapshot));
    sample.snapshot.taken_at += 1_000;
    records.push(talks.scan(began + Duration::from_secs(61), &sample.snapshot));
    open(&file).keep(&records, 0).unwrap();
    let told = Past::open(&file).unwrap().talks(Span::ALWAYS).unwrap();
    let seen: Vec<_> =
        told.iter().map(|each| (each.peer.to_string(), each.port, each.role, each.times)).collect();
    assert_eq!(
        seen,
        [("192.0.2.7".to_owned(), 6379, Role::Inbound, 3), ("192.0.2.9".to_owned(), 443, Role::Outbound, 1)]
    );
    assert!(told.iter().all(|each| each.last_seen - each.first_seen == 2_000), "what goes on is touched");
}

#[test]
fn findings_come_and_go_with_their_words() {
    let (_folder, file) = file();
    let base = now();
    let finding = Finding {
        rule: "redis-reachable".into(),
        title: "Redis can be reached".into(),
        severity: Severity::Critical,
        confidence: crate::finding::Confidence::High,
        message: "redis \u{1b}[31m listens".into(),
        fingerprint: "00".repeat(16),
        sockets: Vec::new(),
        evidence: Vec::new(),
        remedies: Vec::new(),
        references: Vec::new(),
        why: String::new(),
        suppressed: None,
    };
    let said = |at, kind| change(at, "look", kind, None, None, Some(&finding)).unwrap();
    let records = [
        start(&Sample::new()),
        said(base + 1, ChangeKind::Finding),
        said(base + 2, ChangeKind::Cleared),
        said(base + 3, ChangeKind::Finding),
    ];
    open(&file).keep(&records, 7).unwrap();
    let past = Past::open(&file).unwrap();
    let changes = past.changes(Span { since: base, until: base + 3 }).unwrap();
    let kinds: Vec<_> = changes.iter().map(|each| each.kind.name()).collect();
    assert_eq!(kinds, ["finding", "cleared", "finding"]);
    let kept = changes[0].finding.as_ref().unwrap();
    assert_eq!((kept.severity, &kept.message), (Severity::Critical, &finding.message));
    assert_eq!(past.watched().unwrap()[0].lost, 7);
    // The next watch finds it gone.
    drop(past);
    open(&file).keep(&[start(&machine(base + 9))], 0).unwrap();
    let changes = Past::open(&file).unwrap().changes(Span { since: base + 4, until: i64::MAX }).unwrap();
    assert!(changes.iter().any(|each| each.kind == ChangeKind::Cleared && each.finding.is_some()));
}

#[test]
fn hostile_names_come_back_byte_for_byte() {
    let (_folder, file) = file();
    let nasty = &b"\x1b]0;x\x07\n'; DROP TABLE door;--\xff\0\xe2\x80\xae"[..];
    let mut sample = machine(now());
    sample.snapshot.processes[0].name = nasty.into();
    sample.snapshot.processes[0].exe = crate::model::Fact::Known(nasty.into());
    sample.socket(Protocol::Unix, State::Listen, "/x", &[12]).local = Endpoint::UnixAbstract(nasty.into());
    open(&file).keep(&[start(&sample)], 0).unwrap();
    let doors = Past::open(&file).unwrap().doors(Span::ALWAYS).unwrap();
    assert_eq!(doors[1].local, Endpoint::UnixAbstract(nasty.into()));
    assert_eq!(doors[1].holder.as_ref().unwrap().exe, Some(Text::from(nasty)));
}

#[test]
fn what_is_damaged_or_foreign_is_set_aside_and_never_deleted() {
    let (folder, file) = file();
    let beside = |part: &str| {
        let all = fs::read_dir(folder.path()).unwrap().map(|each| each.unwrap().path());
        all.filter(|path| path.to_string_lossy().contains(part)).collect::<Vec<_>>()
    };
    fs::write(&file, "no data base at all, but longer than the head of one: ".repeat(100)).unwrap();
    let (store, said) = Store::open(&file, BOUNDS).unwrap();
    assert!(said.unwrap().contains("damaged"));
    drop(store);
    assert!(fs::read_to_string(&beside("history.db.damaged-")[0]).unwrap().starts_with("no data base"));
    fs::remove_file(&file).unwrap();
    let other = rusqlite::Connection::open(&file).unwrap();
    other.execute_batch("CREATE TABLE recipes (name); INSERT INTO recipes VALUES ('soup')").unwrap();
    drop(other);
    let (mut store, said) = Store::open(&file, BOUNDS).unwrap();
    assert!(said.unwrap().contains("no history of sockwarden"));
    let aside = rusqlite::Connection::open(&beside("history.db.foreign-")[0]).unwrap();
    let soup: String = aside.query_row("SELECT name FROM recipes", [], |row| row.get(0)).unwrap();
    assert_eq!(soup, "soup");
    // A page in the middle goes bad: the next start sees it.
    for at in 0..2_000 {
        let mut sample = machine(now());
        sample.snapshot.sockets[0].local = Endpoint::UnixPath(format!("/run/{at:0>90}").into());
        sample.snapshot.sockets[0].protocol = Protocol::Unix;
        store.keep(&[of(&sample, ChangeKind::Opened, None, Some(0))], 0).unwrap();
    }
    drop(store);
    assert!(Past::open(&file).is_ok());
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 20_000].fill(0xa5);
    fs::write(&file, &bytes).unwrap();
    let (store, said) = Store::open(&file, BOUNDS).unwrap();
    assert!(said.unwrap().contains("damaged"));
    // So does the thread that finds it out while it writes.
    let (mut store, said) = store.renew().unwrap();
    assert!(said.unwrap().contains("damaged"));
    store.keep(&[Record::Scan { at: now(), talks: Vec::new() }], 0).unwrap();
    assert_eq!(Past::open(&file).unwrap().watched().unwrap().len(), 1);
    assert_eq!(
        beside("history.db.damaged-").iter().filter(|path| !path.to_string_lossy().ends_with("-wal")).count(),
        3
    );
}

#[test]
fn only_a_file_that_can_be_a_history_is_touched() {
    let (folder, file) = file();
    let error = |path: &Path| Store::open(path, BOUNDS).unwrap_err();
    let passwd = folder.path().join("passwd");
    fs::write(&passwd, "root:x:0:0").unwrap();
    assert!(matches!(error(&passwd), Error::Name(_)));
    assert_eq!(fs::read_to_string(&passwd).unwrap(), "root:x:0:0");
    fs::create_dir(folder.path().join("folder.db")).unwrap();
    assert!(matches!(error(&folder.path().join("folder.db")), Error::NoFile(_)));
    assert!(matches!(Past::open(&file), Err(Error::Missing(_))));
    let store = open(&file);
    assert!(matches!(error(&file), Error::Busy(_)), "two watches do not share one history");
    drop(store);
    fs::write(&passwd, "not a data base".repeat(999)).unwrap();
    assert!(matches!(Past::open(&passwd), Err(Error::Damaged(_))));
}

#[cfg(unix)]
#[test]
fn others_may_not_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let (folder, file) = file();
    let mut store = open(&file);
    store.keep(&[start(&machine(now()))], 0).unwrap();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o027, 0, "{:?} has {mode:o}", entry.path());
    }
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn age_and_size_are_bounded() {
    let (_folder, file) = file();
    let bounds = Bounds { age: Duration::from_secs(3600), size: 1 << 20 };
    let (mut store, _) = Store::open(&file, bounds).unwrap();
    let old = now() - 7_200_000_000_000;
    let sample = machine(old);
    store.keep(&[start(&Sample::new()), of(&sample, ChangeKind::Opened, None, Some(0))], 0).unwrap();
    store.keep(&[of(&sample, ChangeKind::Closed, Some(0), None)], 0).unwrap();
    store.prune().unwrap();
    let past = Past::open(&file).unwrap();
    assert!(past.changes(Span::ALWAYS).unwrap().is_empty() && past.doors(Span::ALWAYS).unwrap().is_empty());
    let base = now();
    for round in 0..40 {
        let records: Vec<Record> = (0..500)
            .map(|at| {
                let mut sample = machine(base + round * 1_000 + at);
                sample.snapshot.sockets[0].local =
                    Endpoint::UnixPath(format!("/run/{round:0>50}/{at:0>50}").into());
                sample.snapshot.sockets[0].protocol = Protocol::Unix;
                of(&sample, ChangeKind::Opened, None, Some(0))
            })
            .collect();
        store.keep(&records, 0).unwrap();
    }
    // The last to close it brings the log home.
    drop((past, store));
    let size = fs::metadata(&file).unwrap().len();
    assert!(size <= 1 << 20, "{size} bytes");
    let past = Past::open(&file).unwrap();
    let changes = past.changes(Span::ALWAYS).unwrap();
    assert!(changes.len() > 500 && changes.len() < 20_000, "{} are left", changes.len());
    assert_eq!(changes.last().unwrap().at, base + 39_499, "the youngest stay");
}

#[test]
fn the_thread_writes_soon_and_is_closed_with_all_of_it() {
    let (_folder, file) = file();
    let keeper = Keeper::open(&file, BOUNDS, |_| {}).unwrap();
    keeper.keep(start(&Sample::new()));
    keeper.keep(of(&machine(now()), ChangeKind::Opened, None, Some(0)));
    let began = Instant::now();
    let past = Past::open(&file).unwrap();
    while past.doors(Span::ALWAYS).unwrap().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(20), "never written");
        std::thread::sleep(Duration::from_millis(10));
    }
    keeper.keep(of(&machine(now()), ChangeKind::Closed, Some(0), None));
    keeper.closer()();
    assert!(!past.doors(Span::ALWAYS).unwrap()[0].open, "what was handed over is written first");
    keeper.end();
}
