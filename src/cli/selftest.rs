//! `watch --self-test`: opens a door that harms nobody and proves that whoever must hear of it does:
//! the kernel's sign, the rule, the notification, the service's subscribers, and its end.

use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::errors::Usage;
use super::exit::Exit;
use super::interrupt::Pending;
#[cfg(feature = "desktop")]
use super::listeners::{self, json};
use super::session::Session;
use super::watch::{Args, events, glimpse, look, without};
use crate::demo::Door;
use crate::finding::{ChangeKind, Report, Suppressions};
use crate::model::{Endpoint, Observation, Snapshot, Upstream};
use crate::output::proof::{Outcome, Step, step};
use crate::output::{Event, Format, What};
use crate::rules::RuleSet;
use crate::watch::{self, Batch, Desk, Options, Tally};

/// Whoever must hear of an open door hears of it within this.
const SOON: Duration = Duration::from_secs(2);
/// So long is waited for what comes too late, to say how late.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(args: &Args, format: Format, session: &Session) -> anyhow::Result<Exit> {
    let mut proof = Proof {
        session,
        format,
        upstream: session.settings.upstream(),
        rules: session.rules()?,
        suppressions: session.suppressions()?,
        messengers: Vec::new(),
        door: None,
        pid: Arc::default(),
        opened: Instant::now(),
        shut: None,
        steps: Vec::new(),
    };
    proof.enlist(args)?;
    let options = Options {
        every: Duration::from_secs(60),
        dwell: Duration::from_millis(100),
        connections: false,
        all_namespaces: false,
        without: without(args),
        until: Some(Instant::now() + PATIENCE * 2),
    };
    watch::run(&mut proof, &options).map_err(refused)?;
    proof.conclude()?;
    let failed = proof.steps.iter().any(|step| step.outcome == Outcome::Failed);
    Ok(if failed { Exit::Findings } else { Exit::Clean })
}

/// Somebody who is to hear of the door.
struct Messenger {
    /// The step that it is.
    name: &'static str,
    /// What it says once it has heard; `Err` where it cannot.
    heard: Receiver<(Instant, Result<String, String>)>,
    /// Takes the lines of the watch.
    #[cfg(feature = "desktop")]
    desktop: Option<crate::alert::Running>,
}

/// The desk of a watch that waits for our own door alone.
struct Proof<'s> {
    session: &'s Session,
    format: Format,
    upstream: Option<Upstream>,
    rules: RuleSet,
    suppressions: Suppressions,
    messengers: Vec<Messenger>,
    door: Option<(Door, Pending)>,
    /// Of its program, once it stands open.
    pid: Arc<OnceLock<u32>>,
    opened: Instant,
    shut: Option<Instant>,
    steps: Vec<Step>,
}

impl Proof<'_> {
    /// Whoever is to hear of it: the desktop where asked for, and those of the service where one runs.
    fn enlist(&mut self, args: &Args) -> anyhow::Result<()> {
        #[cfg(feature = "desktop")]
        if args.notify {
            self.messengers.push(desktop(self.session)?);
        } else {
            self.skip("notification", "not asked for: --notify")?;
        }
        #[cfg(unix)]
        {
            let path = args.publish.clone().unwrap_or_else(|| crate::watch::publish::USUAL.into());
            match crate::watch::publish::subscribe(&path) {
                Ok(stream) => self.messengers.push(service(stream, Arc::clone(&self.pid))?),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    self.took(
                        "service",
                        Outcome::Failed,
                        None,
                        format!("{}: {error}", super::settings::shown(&path)),
                    )?;
                }
                Err(_) => {
                    let nobody = format!("no watch publishes at {}", super::settings::shown(&path));
                    self.skip("service", &nobody)?;
                }
            }
        }
        let _ = args;
        Ok(())
    }

    fn open(&mut self) -> io::Result<()> {
        let door = Door::open()?;
        self.opened = Instant::now();
        let folder = door.folder().to_owned();
        let pending = Pending::new(move || drop(std::fs::remove_dir_all(folder)));
        self.session.console.notice(&format!(
            "a program in {} (pid {}) waits for connections from this computer; it goes in a moment",
            super::settings::shown(door.folder()),
            door.pid()
        ));
        let _ = self.pid.set(door.pid());
        self.door = Some((door, pending));
        Ok(())
    }

    fn knows(&self, name: &str) -> bool {
        self.steps.iter().any(|step| step.name == name)
    }

    fn skip(&mut self, name: &'static str, why: &str) -> io::Result<()> {
        self.took(name, Outcome::Skipped, None, why.to_owned())
    }

    /// A step, said at once; what comes late has failed.
    fn took(
        &mut self,
        name: &'static str,
        outcome: Outcome,
        after: Option<Duration>,
        said: String,
    ) -> io::Result<()> {
        let late = outcome == Outcome::Passed && after.is_some_and(|after| after > SOON);
        let (outcome, said) = if late {
            (Outcome::Failed, format!("{said}, later than {} s", SOON.as_secs()))
        } else {
            (outcome, said)
        };
        let taken = Step { name, outcome, after, said };
        self.session.console.answer_io(|out| step(out, self.format, &taken, &self.session.console.style))?;
        self.steps.push(taken);
        Ok(())
    }

    /// One event of the watch that concerns the door.
    fn event(&mut self, event: &Event<'_>, pid: u32) -> io::Result<()> {
        match event.what {
            What::Socket { kind: ChangeKind::Opened, after: Some(seen), .. } if !self.knows("seen") => {
                let mut said = about(&seen, pid);
                if let Endpoint::Inet(address, port) = seen.socket.local {
                    said += &format!(" at {}", SocketAddr::new(address, port));
                }
                said += &format!(", seen by {}", event.seen_by);
                self.took("seen", Outcome::Passed, Some(self.opened.elapsed()), said)
            }
            What::Finding { kind: ChangeKind::Finding, finding, .. } if !self.knows("finding") => {
                let said = format!("{} ({})", finding.rule, finding.severity.name());
                self.took("finding", Outcome::Passed, Some(self.opened.elapsed()), said)
            }
            What::Socket { kind: ChangeKind::Closed, .. } if !self.knows("closed") => {
                let after = self.shut.map(|shut| shut.elapsed());
                self.took("closed", Outcome::Passed, after, "the end of the program was told".to_owned())
            }
            What::Socket { .. } | What::Finding { .. } | What::Lost(_) => Ok(()),
        }
    }

    /// Waits for each messenger; then the door is shut.
    fn hear(&mut self) -> io::Result<()> {
        for messenger in std::mem::take(&mut self.messengers) {
            let left = PATIENCE.saturating_sub(self.opened.elapsed());
            let (outcome, at, said) = match messenger.heard.recv_timeout(left) {
                Ok((at, Ok(said))) => (Outcome::Passed, Some(at), said),
                Ok((at, Err(why))) => (Outcome::Failed, Some(at), why),
                Err(RecvTimeoutError::Timeout) => {
                    (Outcome::Failed, None, format!("nothing was heard in {} s", PATIENCE.as_secs()))
                }
                Err(RecvTimeoutError::Disconnected) => (Outcome::Failed, None, "it has ended".to_owned()),
            };
            let after = at.map(|at| at.saturating_duration_since(self.opened));
            self.took(messenger.name, outcome, after, said)?;
            #[cfg(feature = "desktop")]
            if let Some(desktop) = messenger.desktop {
                desktop.end();
            }
        }
        if let Some((door, _pending)) = self.door.take() {
            drop(door);
            self.shut = Some(Instant::now());
        }
        Ok(())
    }

    /// What never came has failed.
    fn conclude(&mut self) -> io::Result<()> {
        for name in ["seen", "finding", "closed"] {
            if !self.knows(name) {
                self.took(name, Outcome::Failed, None, "nothing was told of it".to_owned())?;
            }
        }
        if !self.messengers.is_empty() {
            self.hear()?;
        }
        Ok(())
    }
}

/// `sw-self-test (pid 12)`, or that nobody was seen to hold it.
fn about(seen: &Observation<'_>, pid: u32) -> String {
    match seen.owners().find(|owner| owner.process.pid == pid) {
        Some(owner) => format!("{} (pid {pid})", owner.process.name.lossy()),
        None => "somebody".to_owned(),
    }
}

/// Whether an event is about a socket that this process holds, or a finding of it.
fn concerns(event: &Event<'_>, pid: u32) -> bool {
    let holds = |seen: &Observation<'_>| seen.owners().any(|owner| owner.process.pid == pid);
    match event.what {
        What::Socket { before, after, .. } => before.iter().chain(&after).any(holds),
        What::Finding { snapshot, finding, .. } => {
            finding.sockets.iter().any(|at| holds(&snapshot.observe(*at)))
        }
        What::Lost(_) => false,
    }
}

/// The notification of the desktop, by the way that every alert takes; nothing of it is remembered.
#[cfg(feature = "desktop")]
fn desktop(session: &Session) -> anyhow::Result<Messenger> {
    use crate::alert::{Reply, Running};
    let options = crate::alert::Options {
        memory: None,
        ..listeners::options(session, Some(crate::finding::Severity::Info))
    };
    let (told, replies) = channel();
    let desktop = Running::overheard(&options, false, listeners::say, Some(told))?;
    let (sender, heard) = channel();
    let relay = move || {
        for reply in replies {
            let said = match reply {
                Reply::Shown { .. } => Ok("the notification server has shown it".to_owned()),
                Reply::Failed { why, .. } => Err(format!("no notification server shows it: {why}")),
                Reply::Pressed { .. } | Reply::Closed(_) | Reply::Stale | Reply::Blank => continue,
            };
            if sender.send((Instant::now(), said)).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("self-test".to_owned()).spawn(relay)?;
    Ok(Messenger { name: "notification", heard, desktop: Some(desktop) })
}

/// A subscriber of the service, as an agent of the desktop is one.
#[cfg(unix)]
fn service(stream: std::os::unix::net::UnixStream, door: Arc<OnceLock<u32>>) -> anyhow::Result<Messenger> {
    use std::io::{BufRead as _, BufReader, Read as _};
    /// As no line of ours is longer.
    const LONGEST: u64 = 4 << 20;
    let (sender, heard) = channel();
    let read = move || {
        let mut lines = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            match lines.by_ref().take(LONGEST).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let Ok(value) = serde_json::from_slice::<serde_json::Value>(&line) else { continue };
            let mut owners = value["socket"]["owners"].as_array().into_iter().flatten();
            if value["change"] == "opened" && owners.any(|owner| owner["pid"] == *door.wait()) {
                let said = "the service has told its subscribers".to_owned();
                let _ = sender.send((Instant::now(), Ok(said)));
                return;
            }
        }
    };
    std::thread::Builder::new().name("self-test".to_owned()).spawn(read)?;
    Ok(Messenger {
        name: "service",
        heard,
        #[cfg(feature = "desktop")]
        desktop: None,
    })
}

impl Desk for Proof<'_> {
    fn scan(&mut self) -> io::Result<(Snapshot, Report)> {
        look(true, self.upstream, &self.rules, &self.suppressions)
    }

    fn glimpse(&self, snapshot: &mut Snapshot) {
        glimpse(snapshot, self.upstream);
    }

    fn wanted(&self, seen: &Observation<'_>) -> bool {
        self.pid.get().is_some_and(|pid| seen.owners().any(|owner| owner.process.pid == *pid))
    }

    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    fn reload(&mut self) {}

    fn begun(&mut self, _: &Snapshot, limits: &[String]) -> io::Result<()> {
        limits.iter().for_each(|limit| self.session.console.notice(limit));
        self.open()
    }

    fn tell(&mut self, batch: Batch) -> io::Result<ControlFlow<()>> {
        let Some(pid) = self.pid.get().copied() else { return Ok(ControlFlow::Continue(())) };
        for event in events(&batch).filter(|event| concerns(event, pid)) {
            #[cfg(feature = "desktop")]
            for desktop in self.messengers.iter().filter_map(|each| each.desktop.as_ref()) {
                desktop.tell(json(&event));
            }
            self.event(&event, pid)?;
        }
        if self.door.is_some() && self.knows("seen") && self.knows("finding") {
            self.hear()?;
        }
        Ok(if self.knows("closed") { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn stand(&mut self, _: Batch) {}

    fn is_asked(&mut self) -> bool {
        false
    }

    fn turn(&mut self, _: &Tally) {}
}

/// What there is to say where no door can be opened.
fn refused(error: io::Error) -> anyhow::Error {
    if error.kind() == io::ErrorKind::Unsupported {
        return Usage::new("there is no self-test on this system").help("only Linux has it yet").into();
    }
    anyhow::Error::new(error).context("the self-test cannot go on")
}
