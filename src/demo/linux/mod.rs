//! The stage and the programs on it, on Linux.

mod door;
mod link;
mod namespace;
mod parts;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::process::Signal;

pub use door::Door;

use super::Refusal;

/// First argument of a process that plays a part; no user types it.
const PART: &str = "--demo-part";
/// How long a program may take until its sockets are open.
const PATIENCE: Duration = Duration::from_secs(10);

/// The folder of the demo in the process that stands on the stage.
static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// Whether this process has entered the private namespace.
pub fn on_stage() -> bool {
    FOLDER.get().is_some()
}

/// The folder that goes away with the demo, in the process on the stage.
pub fn folder() -> Option<&'static Path> {
    FOLDER.get().map(PathBuf::as_path)
}

/// To be called first of all, before any thread exists. `Some` when this process was only there to
/// play a part; the arguments lose what only concerns the demo.
pub fn enter(arguments: &mut Vec<OsString>) -> Option<ExitCode> {
    if arguments.get(1).is_none_or(|word| word != PART) {
        return None;
    }
    let part = arguments.get(2)?.to_string_lossy().into_owned();
    match part.as_str() {
        "try" => Some(ExitCode::from(u8::from(namespace::unshare().is_err()))),
        "stage" => {
            let folder = PathBuf::from(arguments.get(3)?);
            // A change of credentials forgets the signal (prctl(2)), so the namespace comes first.
            if namespace::unshare().and_then(|()| end_with_parent(Signal::TERM)).is_err() {
                return Some(ExitCode::from(REFUSED));
            }
            arguments.drain(1..4);
            let _ = FOLDER.set(folder);
            None
        }
        _ => Some(match end_with_parent(Signal::KILL).and_then(|()| parts::play(&part, &arguments[3..])) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        }),
    }
}

/// Exit code by which the second process says that it may not have a namespace; no other use.
const REFUSED: u8 = 125;

fn end_with_parent(signal: Signal) -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(signal))?)
}

/// By path, so that the process has our name; after an upgrade the path may be gone.
fn ourselves() -> Command {
    let path = std::env::current_exe().ok().filter(|path| path.exists());
    let mut command = Command::new(path.unwrap_or_else(|| "/proc/self/exe".into()));
    command.arg0("sockwarden").arg(PART);
    command
}

fn refusal(why: impl Into<String>) -> Refusal {
    Refusal {
        why: why.into(),
        help: Some(
            "run `sudo sockwarden demo`, or allow user namespaces (sysctl user.max_user_namespaces, \
                    kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)",
        ),
    }
}

/// Whether this user may have a private network namespace: tried, in a process of its own.
pub fn possible() -> bool {
    ourselves().arg("try").stdin(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Starts the second process, which goes on with `arguments` on the stage. `folder` is where its
/// programs live; the caller takes it away afterwards.
///
/// # Errors
/// When it cannot be started at all.
pub fn spawn(folder: &Path, arguments: &[OsString]) -> io::Result<Child> {
    ourselves().arg("stage").arg(folder).args(arguments).spawn()
}

/// What the second process's exit code means when it could not enter a namespace.
impl Refusal {
    /// `Some` when the code says that no namespace was to be had.
    pub fn from_code(code: Option<i32>) -> Option<Self> {
        (code == Some(i32::from(REFUSED)))
            .then(|| refusal("the demo needs a private network namespace, and this system allows you none"))
    }
}

/// The programs, each with its sockets open. They end when this is dropped.
#[derive(Debug)]
pub struct Stage {
    actors: Vec<Actor>,
}

#[derive(Debug)]
struct Actor(Child);

impl Drop for Actor {
    fn drop(&mut self) {
        // It may have ended by itself; either way nothing of it is left after the wait.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Stage {
    /// Sets up the network and starts every program. Only in the process that is on the stage.
    ///
    /// # Errors
    /// When the network cannot be configured or a program does not start.
    pub fn open() -> Result<Self, Refusal> {
        let folder = folder().ok_or_else(|| refusal("not on the stage"))?;
        Self::build(folder)
            .map_err(|error| refusal(format!("the private network could not be set up: {error}")))
    }

    fn build(folder: &Path) -> io::Result<Self> {
        let mut stage = Self { actors: Vec::new() };
        let mut kernel = link::Kernel::open()?;
        kernel.up(link::LOOPBACK)?;
        let neighbour = stage.start(&actor(folder, "neighbour")?, &["neighbour".as_ref()])?;
        kernel.cable(parts::CABLE, neighbour)?;
        kernel.plug(parts::CABLE, parts::HERE)?;
        // With a way out, the cable is a local network and not one that ends on this computer.
        kernel.route(parts::NEIGHBOUR)?;

        let socket = folder.join("notes.sock");
        let program = |name: &str| actor(folder, name);
        stage.start(&program("web-server")?, &["server".as_ref()])?;
        stage.start(&program("note-store")?, &["store".as_ref(), socket.as_os_str()])?;
        stage.start(&program("note-editor")?, &["editor".as_ref(), socket.as_os_str()])?;
        stage.start(&program("swarm-peer")?, &["peer".as_ref()])?;
        stage.start(&copy(folder, "updater")?, &["updater".as_ref()])?;
        Ok(stage)
    }

    /// Returns its pid.
    fn start(&mut self, program: &Path, words: &[&OsStr]) -> io::Result<u32> {
        let actor = Actor::start(program, words)?;
        let pid = actor.0.id();
        self.actors.push(actor);
        Ok(pid)
    }
}

impl Actor {
    /// Starts a program and waits until it says that its sockets are open.
    fn start(program: &Path, words: &[&OsStr]) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.arg(PART).args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let output = child.stdout.take();
        let actor = Self(child);
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = output.map(|output| BufReader::new(output).read_line(&mut line));
            let _ = sender.send(matches!(read, Some(Ok(_))) && line == "ready\n");
        });
        match receiver.recv_timeout(PATIENCE) {
            Ok(true) => Ok(actor),
            Ok(false) | Err(_) => Err(io::Error::other(format!("{} did not start", program.display()))),
        }
    }
}

/// Our executable under another name: the kernel takes a process's name from the path.
fn actor(folder: &Path, name: &str) -> io::Result<PathBuf> {
    let path = folder.join(name);
    std::os::unix::fs::symlink(std::env::current_exe()?, &path)?;
    Ok(path)
}

/// A real copy, so that the executable itself lies in the temporary folder.
fn copy(folder: &Path, name: &str) -> io::Result<PathBuf> {
    let path = folder.join(name);
    fs::copy(std::env::current_exe()?, &path)?;
    Ok(path)
}
