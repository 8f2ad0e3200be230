//! `watch --exec PROGRAM`: runs a program for each change that is told. No shell is asked, and
//! nothing of the change stands among the arguments, for names in it belong to others: it comes as
//! JSON on standard input.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::errors::Usage;
use super::interrupt::Pending;
use super::settings::shown;
use crate::model::counted;

/// So many run at once.
const AT_ONCE: usize = 4;
/// So many changes may wait for their turn; what comes then is left out, and counted.
const QUEUE: usize = 256;
/// How often we look whether a program has ended.
const LOOK: Duration = Duration::from_millis(10);
/// No more than one complaint of each kind in this time.
const COMPLAIN: Duration = Duration::from_secs(10);

/// The program and who runs it.
pub(super) struct Runner {
    sender: SyncSender<String>,
    workers: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
    /// Interrupted, we leave none of them behind.
    _pending: Pending,
}

struct Shared {
    program: PathBuf,
    deadline: Duration,
    /// Processes that run: each is the leader of a group of its own.
    running: Mutex<BTreeSet<u32>>,
    left_out: AtomicU64,
    failed: AtomicU64,
    complaints: Mutex<[Option<Instant>; 2]>,
    say: fn(&str),
}

impl Runner {
    pub(super) fn start(program: &Path, deadline: Duration, say: fn(&str)) -> anyhow::Result<Self> {
        Self::with(program, deadline, say, QUEUE)
    }

    fn with(program: &Path, deadline: Duration, say: fn(&str), queue: usize) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            program: find(program)?,
            deadline,
            running: Mutex::default(),
            left_out: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            complaints: Mutex::default(),
            say,
        });
        let (sender, receiver) = sync_channel(queue);
        let receiver = Arc::new(Mutex::new(receiver));
        let workers = (0..AT_ONCE).map(|_| {
            let (shared, receiver) = (Arc::clone(&shared), Arc::clone(&receiver));
            std::thread::Builder::new().name("exec".to_owned()).spawn(move || shared.work(&receiver))
        });
        let workers = workers.collect::<io::Result<_>>()?;
        let all = Arc::clone(&shared);
        let pending = Pending::new(move || all.running().iter().copied().for_each(end_group));
        Ok(Self { sender, workers, shared, _pending: pending })
    }

    /// Hands a line of JSON to the next program; never waits.
    pub(super) fn run(&self, json: String) {
        match self.sender.try_send(json) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                let count = self.shared.left_out.fetch_add(1, Ordering::Relaxed) + 1;
                let changes = counted(count, "change");
                self.shared.complain(0, || {
                    format!("is slower than what happens: {changes} not handed to it so far")
                });
            }
        }
    }

    /// Waits for those that run and wait, each within its deadline, and says what went wrong in all.
    pub(super) fn end(self) {
        drop(self.sender);
        for worker in self.workers {
            // A panic of the thread has been reported by its own hook.
            let _ = worker.join();
        }
        let (left, failed) = (&self.shared.left_out, &self.shared.failed);
        let (left, failed) = (left.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
        if left + failed > 0 {
            let program = shown(&self.shared.program);
            let left = counted(left, "change");
            (self.shared.say)(&format!(
                "{program} failed {} in all; {left} not handed to it",
                counted(failed, "time")
            ));
        }
    }
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, receiver: &Mutex<Receiver<String>>) {
        loop {
            let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(json) = next else { return };
            if let Err(why) = self.one(&json) {
                self.failed.fetch_add(1, Ordering::Relaxed);
                self.complain(1, || why);
            }
        }
    }

    /// Runs it once; what went wrong, in words.
    fn one(&self, json: &str) -> Result<(), String> {
        let begun = self.begin(json).map_err(|error| format!("could not be run: {error}"));
        let (mut child, until) = (begun?, Instant::now() + self.deadline);
        let id = child.id();
        loop {
            // Under the lock, so that nobody ends a group whose number has become free.
            let mut running = self.running();
            match child.try_wait() {
                Ok(Some(status)) => {
                    running.remove(&id);
                    return if status.success() { Ok(()) } else { Err(format!("ended with {status}")) };
                }
                Ok(None) if Instant::now() < until => {}
                Ok(None) | Err(_) => {
                    end_group(id);
                    let _ = child.kill();
                    let _ = child.wait();
                    running.remove(&id);
                    return Err(format!("was ended: it took longer than {:?}", self.deadline));
                }
            }
            drop(running);
            std::thread::sleep(LOOK);
        }
    }

    fn begin(&self, json: &str) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        // A file and no pipe: a program that does not read holds nobody up.
        command.stdin(input(json)?).stdout(Stdio::null());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut running = self.running();
        let child = command.spawn()?;
        running.insert(child.id());
        Ok(child)
    }

    /// Tells the first of a kind, and then one now and then.
    fn complain(&self, kind: usize, why: impl FnOnce() -> String) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints[kind].is_none_or(|last| last.elapsed() >= COMPLAIN) {
            complaints[kind] = Some(Instant::now());
            (self.say)(&format!("{} {}", shown(&self.program), why()));
        }
    }
}

/// A file in memory that nobody else can open by name.
#[cfg(target_os = "linux")]
fn input(json: &str) -> io::Result<File> {
    let file = rustix::fs::memfd_create(c"sockwarden-change", rustix::fs::MemfdFlags::CLOEXEC)?;
    filled(File::from(file), json)
}

#[cfg(not(target_os = "linux"))]
fn input(json: &str) -> io::Result<File> {
    filled(tempfile::tempfile()?, json)
}

fn filled(mut file: File, json: &str) -> io::Result<File> {
    file.write_all(json.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

#[cfg(unix)]
fn end_group(leader: u32) {
    let leader = i32::try_from(leader).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(leader) = leader {
        // It may have ended by itself.
        let _ = rustix::process::kill_process_group(leader, rustix::process::Signal::KILL);
    }
}

#[cfg(not(unix))]
fn end_group(_: u32) {}

/// The file that will be run, so that a slip is told at once and PATH is asked once.
fn find(program: &Path) -> anyhow::Result<PathBuf> {
    let places: Vec<PathBuf> = if program.components().count() > 1 || program.is_absolute() {
        vec![std::path::absolute(program)?]
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
        folders.map(|folder| folder.join(program)).collect()
    };
    let found = places.into_iter().find(|place| is_program(place));
    found.ok_or_else(|| {
        Usage::new(format!("there is no program `{}`", shown(program)))
            .help("--exec takes one program and no arguments: write a script for more")
            .into()
    })
}

#[cfg(unix)]
fn is_program(place: &Path) -> bool {
    place.is_file() && rustix::fs::access(place, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(not(unix))]
fn is_program(place: &Path) -> bool {
    place.is_file()
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    /// Written by another process: what this one had open for writing could not be executed while
    /// a test beside it is between fork and exec (`ETXTBSY`).
    fn script(folder: &Path, text: &str) -> PathBuf {
        let place = folder.join("script");
        let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" >\"$0\" && chmod 755 \"$0\"";
        let status = Command::new("sh").args(["-c", write]).arg(&place).arg(text).status().unwrap();
        assert!(status.success());
        place
    }

    #[test]
    fn a_flood_is_bounded_and_what_is_left_out_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let place = script(folder.path(), "sleep 0.3\necho x >>\"$(dirname \"$0\")/done\"");
        let runner = Runner::with(&place, Duration::from_secs(60), |_| {}, 8).unwrap();
        for _ in 0..100 {
            runner.run("{}\n".to_owned());
            assert!(runner.shared.running().len() <= AT_ONCE);
        }
        let shared = Arc::clone(&runner.shared);
        runner.end();
        let ran = std::fs::read_to_string(folder.path().join("done")).unwrap().lines().count();
        let (left, failed) = (shared.left_out.load(Ordering::Relaxed), shared.failed.load(Ordering::Relaxed));
        assert_eq!((ran as u64 + left, failed), (100, 0));
        assert!(ran >= 8 && left > 0, "{ran} ran, {left} were left out");
    }

    #[test]
    fn one_that_hangs_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let place = script(folder.path(), "sleep 600 &\necho $! >\"$(dirname \"$0\")/child\"\nwait");
        let began = Instant::now();
        // On a busy machine it may be ended before it has come to hang.
        let child = [1, 5, 25, 125].into_iter().find_map(|seconds| {
            let runner = Runner::start(&place, Duration::from_secs(seconds), |_| {}).unwrap();
            runner.run("{}\n".to_owned());
            let shared = Arc::clone(&runner.shared);
            runner.end();
            assert_eq!(shared.failed.load(Ordering::Relaxed), 1);
            let child = std::fs::read_to_string(folder.path().join("child")).ok()?;
            child.trim().parse::<u32>().ok()
        });
        let child = child.expect("it starts within two minutes");
        assert!(began.elapsed() < Duration::from_secs(300));
        let state = || {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next())
        };
        while !matches!(state(), None | Some('Z' | 'X')) {
            assert!(began.elapsed() < Duration::from_secs(300), "its child lives on");
            std::thread::sleep(LOOK);
        }
    }

    #[test]
    fn what_is_no_program_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("text"), "x").unwrap();
        for place in [folder.path().join("none"), folder.path().join("text"), folder.path().to_owned()] {
            assert!(find(&place).is_err(), "{}", place.display());
        }
        assert!(find(Path::new("sh")).unwrap().is_absolute());
        assert!(find(Path::new("sh -c true")).is_err(), "no shell splits it");
    }
}
