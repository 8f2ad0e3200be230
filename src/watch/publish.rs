//! News for whoever asks, over a UNIX socket that nobody can say anything through: it is written to
//! and never read. Who asks is told by the kernel (`SO_PEERCRED`, unix(7)), and decides how much he
//! is told.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io::{self, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diff::{Change, Kept};
use crate::finding::Finding;
use crate::model::{Endpoint, Fact, Process, Snapshot, Stdio};

/// Where the service publishes.
pub const USUAL: &str = "/run/sockwarden/watch.sock";
/// Subscribers, and those of one user.
const MOST: usize = 64;
const MOST_OF_ONE: usize = 8;
/// Bytes that may wait for one subscriber; one that reads slower is let go, and may come back.
const BEHIND: usize = 16 << 20;

/// One line, as root may read it and as others may.
#[derive(Clone, Debug)]
pub struct Line {
    pub whole: Arc<str>,
    pub trimmed: Arc<str>,
    /// Users that every process in it belongs to, if it is one: he may read it whole.
    pub owner: Option<u32>,
}

#[derive(Debug)]
struct Subscriber {
    stream: UnixStream,
    uid: u32,
    waiting: VecDeque<Arc<str>>,
    /// Of the first line that waits, so much is written.
    written: usize,
    bytes: usize,
    /// Not yet told what stands.
    new: bool,
}

/// The socket with all who listen.
#[derive(Debug)]
pub struct Publisher {
    path: PathBuf,
    listener: UnixListener,
    subscribers: Vec<Subscriber>,
}

impl Publisher {
    /// Takes the place of a socket that nobody serves any more.
    ///
    /// # Errors
    /// As bind(2); `Unsupported` where the system does not say who asks; `AddrInUse` when another watch publishes there, `AlreadyExists` when something
    /// else stands there.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Where nobody can tell who asks, nobody is told.
        peer(&UnixStream::pair()?.0)?;
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        }
        match fs::symlink_metadata(path) {
            Ok(about) if !about.file_type().is_socket() => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else stands there"));
            }
            Ok(_) if UnixStream::connect(path).is_ok() => return Err(io::ErrorKind::AddrInUse.into()),
            Ok(_) => fs::remove_file(path)?,
            Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        // Everybody may ask; what he is told depends on who he is.
        fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
        Ok(Self { path: path.to_owned(), listener, subscribers: Vec::new() })
    }

    /// Lets in who waits, and writes what can be written. Whether somebody wants to know what
    /// stands.
    pub fn turn(&mut self) -> bool {
        while let Ok((stream, _)) = self.listener.accept() {
            let Ok(uid) = peer(&stream) else { continue };
            let of_his = self.subscribers.iter().filter(|each| each.uid == uid).count();
            if self.subscribers.len() >= MOST || of_his >= MOST_OF_ONE {
                continue;
            }
            let deaf = stream.set_nonblocking(true).and_then(|()| stream.shutdown(Shutdown::Read));
            if deaf.is_ok() {
                let waiting = VecDeque::new();
                self.subscribers.push(Subscriber { stream, uid, waiting, written: 0, bytes: 0, new: true });
            }
        }
        self.subscribers.retain_mut(Subscriber::write);
        self.subscribers.iter().any(|each| each.new)
    }

    /// Whether anybody but root listens, for whom lines have to be trimmed.
    pub fn has_others(&self) -> bool {
        self.subscribers.iter().any(|each| each.uid != 0)
    }

    pub fn has_subscribers(&self) -> bool {
        !self.subscribers.is_empty()
    }

    /// What stands, for those who are new.
    pub fn stand(&mut self, lines: &[Line]) {
        for subscriber in self.subscribers.iter_mut().filter(|each| each.new) {
            subscriber.new = false;
            lines.iter().for_each(|line| subscriber.take(line));
        }
        self.subscribers.retain_mut(Subscriber::write);
    }

    /// What is new, for those who know what stands.
    pub fn publish(&mut self, lines: &[Line]) {
        for subscriber in self.subscribers.iter_mut().filter(|each| !each.new) {
            lines.iter().for_each(|line| subscriber.take(line));
        }
        self.subscribers.retain_mut(Subscriber::write);
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Subscriber {
    fn take(&mut self, line: &Line) {
        let whole = self.uid == 0 || line.owner == Some(self.uid);
        let text = if whole { &line.whole } else { &line.trimmed };
        self.bytes += text.len();
        self.waiting.push_back(Arc::clone(text));
    }

    /// False when there is nobody any more, or he reads too slowly.
    fn write(&mut self) -> bool {
        while let Some(line) = self.waiting.front() {
            match self.stream.write(&line.as_bytes()[self.written..]) {
                Ok(0) => return false,
                Ok(size) => {
                    self.written += size;
                    self.bytes -= size;
                    if self.written == line.len() {
                        self.written = 0;
                        self.waiting.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.bytes <= BEHIND,
                Err(_) => return false,
            }
        }
        true
    }
}

/// The user at the other end.
#[cfg(target_os = "linux")]
fn peer(stream: &UnixStream) -> io::Result<u32> {
    Ok(rustix::net::sockopt::socket_peercred(stream)?.uid.as_raw())
}

#[cfg(not(target_os = "linux"))]
fn peer(_: &UnixStream) -> io::Result<u32> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system is not asked who is at the other end"))
}

/// A connection to a watch that root runs, in a folder that only root may write to.
///
/// # Errors
/// As connect(2); `PermissionDenied` when the other end, or the folder, is not root's.
pub fn subscribe(path: &Path) -> io::Result<UnixStream> {
    let refuse = |why: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    let folder = fs::metadata(path.parent().unwrap_or(Path::new("/")))?;
    if folder.uid() != 0 || folder.mode() & 0o022 != 0 {
        return refuse("the folder of the socket is not root's alone");
    }
    let stream = UnixStream::connect(path)?;
    if peer(&stream)? != 0 {
        return refuse("whoever serves the socket is not root");
    }
    stream.shutdown(Shutdown::Write)?;
    Ok(stream)
}

/// The user whom all processes of a change belong to, if it is one and the same.
pub fn owner(change: &Change) -> Option<u32> {
    let socket = [&change.before, &change.after].into_iter().flatten().map(|kept| &kept.snapshot);
    let parts = socket.chain(change.finding.as_ref().map(|(part, _)| part));
    let mut users = BTreeSet::new();
    for process in parts.flat_map(|part| &part.processes) {
        let (Fact::Known(uid), Fact::Known(euid)) = (&process.uid, &process.euid) else { return None };
        users.extend([*uid, *euid]);
    }
    users.first().copied().filter(|_| users.len() == 1)
}

/// A change as strangers may read it: program names, units, protocols, ports and addresses, and
/// nothing that somebody else wrote: no arguments, no paths, no evidence.
pub fn trimmed(change: &Change) -> Change {
    let kept = |kept: &Option<Kept>| {
        kept.as_ref().map(|kept| Kept { snapshot: Arc::new(strange(&kept.snapshot)), at: kept.at })
    };
    let finding = change.finding.as_ref().map(|(part, finding)| {
        let words = Finding {
            message: finding.title.clone(),
            evidence: Vec::new(),
            remedies: Vec::new(),
            suppressed: None,
            ..finding.clone()
        };
        (Arc::new(strange(part)), words)
    });
    Change { kind: change.kind, before: kept(&change.before), after: kept(&change.after), finding }
}

fn strange(snapshot: &Snapshot) -> Snapshot {
    let mut strange = snapshot.clone();
    for process in &mut strange.processes {
        let unit = process.unit.clone();
        let bare = Process::new(process.pid, process.start_ticks, process.name.clone(), process.ppid);
        *process = Process { unit, stdio: Stdio::default(), ..bare };
    }
    for socket in &mut strange.sockets {
        (socket.uid, socket.user, socket.access, socket.file) = (None, None, None, None);
        for end in [&mut socket.local, &mut socket.remote] {
            if let Endpoint::UnixPath(_) | Endpoint::UnixAbstract(_) = end {
                *end = Endpoint::None;
            }
        }
        for path in socket.exposure.iter_mut().flat_map(|exposure| &mut exposure.paths) {
            path.because.clear();
        }
    }
    strange.users.clear();
    strange.evidence.clear();
    strange
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::finding::ChangeKind;
    use crate::model::sample::Sample;
    use crate::model::{Protocol, Reach, SocketIndex, State, Text};

    fn line(text: &str) -> Line {
        Line { whole: format!("{text}\n").into(), trimmed: "trimmed\n".into(), owner: None }
    }

    fn open() -> (tempfile::TempDir, Publisher) {
        let folder = tempfile::tempdir().unwrap();
        let publisher = Publisher::open(&folder.path().join("watch.sock")).unwrap();
        (folder, publisher)
    }

    #[test]
    fn a_subscriber_is_told_what_stands_and_then_what_is_new() {
        let (folder, mut publisher) = open();
        let mut stream = UnixStream::connect(folder.path().join("watch.sock")).unwrap();
        assert!(publisher.turn());
        publisher.publish(&[line("too early")]);
        publisher.stand(&[line("stands")]);
        assert!(!publisher.turn());
        publisher.publish(&[line("new")]);
        drop(publisher);
        let mut told = String::new();
        stream.read_to_string(&mut told).unwrap();
        let root = rustix::process::getuid().is_root();
        assert_eq!(told, if root { "stands\nnew\n" } else { "trimmed\ntrimmed\n" });
        assert!(!folder.path().join("watch.sock").exists(), "nothing is left behind");
    }

    #[test]
    fn nobody_can_say_anything_and_nobody_can_hold_us_up() {
        let (folder, mut publisher) = open();
        let mut stream = UnixStream::connect(folder.path().join("watch.sock")).unwrap();
        publisher.turn();
        publisher.stand(&[]);
        assert!(stream.write_all(b"do something").is_err(), "the socket is written to and never read");
        let long = line(&"x".repeat(1 << 20));
        for _ in 0..40 {
            publisher.publish(std::slice::from_ref(&long));
        }
        assert!(!publisher.has_subscribers(), "whoever does not read is let go");
    }

    #[test]
    fn one_user_cannot_take_every_place() {
        let (folder, mut publisher) = open();
        let all: Vec<_> =
            (0..20).map(|_| UnixStream::connect(folder.path().join("watch.sock")).unwrap()).collect();
        publisher.turn();
        assert_eq!((publisher.subscribers.len(), all.len()), (MOST_OF_ONE, 20));
    }

    #[test]
    fn another_watch_is_not_pushed_aside_and_a_dead_one_is() {
        let (folder, publisher) = open();
        let path = folder.path().join("watch.sock");
        assert_eq!(Publisher::open(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(publisher);
        drop(UnixListener::bind(&path).unwrap());
        assert!(Publisher::open(&path).is_ok());
        fs::write(&path, "a file").unwrap();
        assert_eq!(Publisher::open(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn strangers_learn_no_arguments_and_no_paths() {
        const SECRET: &str = "--password=hunter2";
        let mut sample = Sample::new();
        let process = sample.process(10, "/home/ann/bin/server");
        process.cmdline = Fact::Known(vec!["server".into(), SECRET.into()]);
        process.unit = Fact::Known("server.service".into());
        (process.uid, process.euid) = (Fact::Known(1000), Fact::Known(1000));
        process.user = Fact::Known("ann".into());
        sample.listener("0.0.0.0:80", Reach::Lan, &[10]);
        sample.socket(Protocol::Unix, State::Listen, "/home/ann/agent.sock", &[10]);
        let snapshot = Arc::new(sample.snapshot);
        for at in [SocketIndex(0), SocketIndex(1)] {
            let after = Some(Kept { snapshot: Arc::clone(&snapshot), at });
            let change = Change { kind: ChangeKind::Opened, before: None, after, finding: None };
            assert_eq!(owner(&change), Some(1000));
            let seen = trimmed(&change).after.unwrap();
            let told = serde_json::to_string(&*seen.snapshot).unwrap();
            for word in [SECRET, "/home", "ann"] {
                let hex = crate::model::Hex(word.as_bytes()).to_string();
                assert!(!told.contains(word) && !told.contains(&hex), "{word} in {told}");
            }
            let process = &seen.snapshot.processes[0];
            assert_eq!(
                (&process.name, process.unit.known()),
                (&"server".into(), Some(&Text::from("server.service")))
            );
        }
    }
}
