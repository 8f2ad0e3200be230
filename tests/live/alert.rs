//! `alert` and `watch --notify` on a real session bus with dunst, as an ordinary user.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::blind::become_nobody;
use crate::lab::{self, Need, Netns, Outcome, Program, Stop, check, trial};

pub(crate) fn trials() -> Vec<Trial> {
    const DESKTOP: &[Need] = &[
        Need::Root,
        Need::Tool("dunst"),
        Need::Tool("dunstctl"),
        Need::Tool("Xvfb"),
        Need::Tool("dbus-daemon"),
        Need::Tool("ip"),
    ];
    vec![
        trial("alert::findings_are_shown_and_answered", DESKTOP, shown_and_answered),
        trial("alert::a_server_that_dies_or_sleeps_loses_nothing", DESKTOP, dying_server),
        trial("alert::a_thousand_findings_are_a_handful_of_notifications", DESKTOP, thousand),
        trial("alert::only_roots_watch_is_believed", &[Need::Root], strangers),
        trial("alert::watch_notifies_by_itself", DESKTOP, watch_notifies),
        trial("alert::a_self_test_proves_the_whole_chain", DESKTOP, self_test),
    ]
}

/// A session of nobody's: a bus, a screen, a notification server, a folder for what is remembered.
struct Desk {
    folder: tempfile::TempDir,
    address: String,
    display: String,
    dunst: Option<Program>,
    _bus: Program,
    _screen: Program,
}

impl Desk {
    fn open() -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        crate::lab::copy_program(env!("CARGO_BIN_EXE_sockwarden"), folder.path().join("sockwarden"))?;
        let state = folder.path().join("state");
        fs::create_dir(&state)?;
        fs::set_permissions(&state, fs::Permissions::from_mode(0o777))?;
        // A terminal that only notes what it was asked to run.
        let terminal = folder.path().join("terminal");
        crate::lab::script(
            &terminal,
            "#!/bin/sh\nshift\nfor word; do echo \"$word\"; done >>\"$XDG_STATE_HOME/terminal\"\n",
        )?;
        let mut command = Command::new("dbus-daemon");
        command.args(["--session", "--nofork", "--print-address"]);
        command.arg(format!("--address=unix:path={}/bus", state.display()));
        let mut bus = Program::start(nobody(command.stderr(Stdio::null())))?;
        let address = bus.line()?;
        let mut command = Command::new("Xvfb");
        command.args(["-displayfd", "1", "-screen", "0", "800x600x24", "-nolisten", "tcp"]);
        let mut screen = Program::start(nobody(command.stderr(Stdio::null())))?;
        let display = format!(":{}", screen.line()?);
        let mut desk = Self { folder, address, display, dunst: None, _bus: bus, _screen: screen };
        desk.start_dunst()?;
        Ok(desk)
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.environment(program);
        nobody(&mut command);
        command
    }

    /// Not yet as nobody.
    fn environment(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env("DBUS_SESSION_BUS_ADDRESS", &self.address)
            .env("DISPLAY", &self.display)
            .env("XDG_STATE_HOME", self.state())
            .env("TERMINAL", self.folder.path().join("terminal"))
            .env("HOME", "/nonexistent");
        command
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn start_dunst(&mut self) -> Outcome {
        let mut command = self.command("dunst");
        self.dunst = Some(Program::start(command.stderr(Stdio::null()))?);
        lab::wait("the notification server", || self.ctl(&["count", "displayed"]).ok()).map(|_| ())
    }

    fn ctl(&self, words: &[&str]) -> Outcome<String> {
        let done = lab::output(self.command("dunstctl").args(words).stderr(Stdio::null()))?;
        Ok(String::from_utf8_lossy(&done).trim().to_owned())
    }

    fn displayed(&self) -> Option<usize> {
        self.ctl(&["count", "displayed"]).ok()?.parse().ok()
    }

    fn wait_for(&self, count: usize) -> Outcome {
        lab::wait(&format!("{count} notifications"), || (self.displayed()? == count).then_some(()))
    }

    /// Titles and texts of all that was closed.
    fn history(&self) -> Outcome<Vec<(String, String)>> {
        self.ctl(&["close-all"])?;
        let value: Value = serde_json::from_str(&self.ctl(&["history"])?)?;
        let all = value["data"][0].as_array().cloned().unwrap_or_default();
        let text = |each: &Value, name: &str| each[name]["data"].as_str().unwrap_or_default().to_owned();
        Ok(all.iter().map(|each| (text(each, "summary"), text(each, "body"))).collect())
    }

    fn agent(&self, watch: &Watch) -> Outcome<Program> {
        let mut command = self.command(self.folder.path().join("sockwarden"));
        command.arg("alert").arg("--socket").arg(&watch.path).stderr(Stdio::null());
        Program::start(&mut command)
    }

    fn review(&self) -> Outcome<String> {
        let mut command = self.command(self.folder.path().join("sockwarden"));
        Ok(String::from_utf8_lossy(&lab::output(command.args(["alert", "--review", "--fix"]))?).into_owned())
    }
}

fn nobody(command: &mut Command) -> &mut Command {
    // SAFETY: the closure runs between fork and exec and makes system calls only.
    unsafe { command.pre_exec(become_nobody) }
}

/// Stands in for a watch that root runs: a socket that only writes.
struct Watch {
    path: PathBuf,
    listener: UnixListener,
    _folder: tempfile::TempDir,
}

impl Watch {
    fn open() -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let path = folder.path().join("watch.sock");
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
        Ok(Self { path, listener, _folder: folder })
    }

    fn accept(&self) -> Outcome<UnixStream> {
        self.listener.set_nonblocking(true)?;
        let stream = lab::wait("the agent", || self.listener.accept().ok())?.0;
        stream.set_nonblocking(false)?;
        Ok(stream)
    }
}

/// A finding as the watch tells it.
fn finding(program: &str, port: u16, severity: &str) -> String {
    let fingerprint = format!("{:032x}", u128::from(port) + (program.len() as u128) * 65_536);
    let line = json!({
        "schema": "sockwarden/v1", "kind": "change", "at": null, "change": "finding", "seen_by": "look",
        "socket": null, "before": null, "evidence": [], "lost": null,
        "sockets": [{
            "protocol": "tcp", "local": {"address": "0.0.0.0", "port": port}, "exposure": null,
            "owners": [{"name": program, "exe": format!("/usr/bin/{program}"), "unit": null}],
        }],
        "finding": {
            "rule": "redis-reachable", "title": format!("{program} can be reached"), "severity": severity,
            "message": format!("<b>{program}</b> & listens on {port}"), "fingerprint": fingerprint,
            "remedies": [{"title": "Close it", "commands": ["systemctl stop redis"], "undo": ["systemctl start redis"]}],
        },
    });
    format!("{line}\n")
}

fn expect(truth: bool, what: &str, found: &str) -> Outcome {
    if truth { Ok(()) } else { Err(Stop::Fail(format!("{what}: {found}"))) }
}

fn shown_and_answered() -> Outcome {
    let desk = Desk::open()?;
    let watch = Watch::open()?;
    let _agent = desk.agent(&watch)?;
    let mut stream = watch.accept()?;
    stream.write_all(finding("redis", 6379, "high").as_bytes())?;
    stream.write_all(finding("quiet", 80, "medium").as_bytes())?;
    desk.wait_for(1)?;
    // Why, asked by a click: the terminal gets plain words.
    desk.ctl(&["action", "0"])?;
    let asked = lab::wait("the terminal", || {
        fs::read_to_string(desk.state().join("terminal")).ok().filter(|text| text.contains("tcp/6379"))
    })?;
    expect(asked.lines().rev().take(2).eq(["tcp/6379", "why"]), "why is asked", &asked)?;
    // It waits for an answer, with the commands to copy.
    let waiting = lab::wait("the queue", || desk.review().ok().filter(|text| text.contains("redis")))?;
    expect(waiting.contains("systemctl stop redis"), "the commands", &waiting)?;
    expect(waiting.contains("undo: systemctl start redis"), "and what takes them back", &waiting)?;
    expect(!waiting.contains("quiet"), "findings below high are not shown", &waiting)?;
    // The same again is no news; a further one of the same program replaces in place.
    stream.write_all(finding("redis", 6379, "high").as_bytes())?;
    stream.write_all(finding("redis", 6380, "critical").as_bytes())?;
    lab::wait("the second finding", || desk.review().ok().filter(|text| text.contains("6380")))?;
    desk.wait_for(1)?;
    let shown = desk.history()?;
    let (_, body) = shown.first().ok_or("nothing was shown")?;
    expect(body.contains("&lt;b&gt;redis&lt;/b&gt; &amp;"), "names are no markup", body)?;
    // Taken away on the screen is no answer.
    let waiting = desk.review()?;
    expect(waiting.contains("6379") && waiting.contains("6380"), "it still waits", &waiting)
}

fn signal(program: &Program, signal: libc::c_int) -> Outcome {
    // SAFETY: takes numbers only.
    check(unsafe { libc::kill(i32::try_from(program.pid())?, signal) })?;
    Ok(())
}

fn dying_server() -> Outcome {
    let mut desk = Desk::open()?;
    let watch = Watch::open()?;
    let _agent = desk.agent(&watch)?;
    let mut stream = watch.accept()?;
    stream.write_all(finding("first", 1, "high").as_bytes())?;
    desk.wait_for(1)?;
    // Asleep: nothing is answered, and nothing hangs or is lost.
    let dunst = desk.dunst.as_ref().ok_or("no server")?;
    signal(dunst, libc::SIGSTOP)?;
    stream.write_all(finding("second", 2, "high").as_bytes())?;
    std::thread::sleep(Duration::from_secs(7));
    let waiting = desk.review()?;
    expect(waiting.contains("first") && waiting.contains("second"), "both wait", &waiting)?;
    signal(dunst, libc::SIGCONT)?;
    lab::wait("the second", || (desk.displayed()? >= 2).then_some(()))?;
    // Dead: what was on the screen comes back with the next server.
    desk.dunst = None;
    stream.write_all(finding("third", 3, "high").as_bytes())?;
    std::thread::sleep(Duration::from_secs(2));
    desk.start_dunst()?;
    lab::wait("all three", || (desk.displayed()? >= 3).then_some(()))
}

fn thousand() -> Outcome {
    let desk = Desk::open()?;
    let watch = Watch::open()?;
    let agent = desk.agent(&watch)?;
    let mut stream = watch.accept()?;
    for number in 0..1000_u16 {
        stream.write_all(finding(&format!("program{:03}", number % 200), number, "high").as_bytes())?;
    }
    let queue = lab::wait("the queue", || {
        desk.review().ok().filter(|text| text.matches("can be reached").count() == 1000)
    })?;
    expect(queue.contains("program199"), "the last is there", "not found")?;
    lab::wait("the digest", || {
        (desk.displayed()? + desk.ctl(&["count", "waiting"]).ok()?.parse::<usize>().ok()? >= 6).then_some(())
    })?;
    std::thread::sleep(Duration::from_secs(2));
    let shown = desk.history()?;
    expect((6..=8).contains(&shown.len()), "five notifications and a digest", &format!("{shown:?}"))?;
    expect(
        shown.iter().any(|(title, _)| title.contains("more alerts about")),
        "the digest",
        &format!("{shown:?}"),
    )?;
    let threads = fs::read_dir(format!("/proc/{}/task", agent.pid()))?.count();
    expect(threads < 20, "threads", &threads.to_string())
}

/// Nobody's socket in nobody's folder is no watch.
fn strangers() -> Outcome {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("sockwarden");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
    crate::lab::copy_program(env!("CARGO_BIN_EXE_sockwarden"), &program)?;
    let socket = folder.path().join("watch.sock");
    let _listener = UnixListener::bind(&socket)?;
    let mut command = Command::new(&program);
    command.arg("alert").arg("--socket").arg(&socket).env("HOME", "/nonexistent");
    let done = nobody(&mut command).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    expect(done.status.code() == Some(2) && said.contains("not root's alone"), "it is refused", &said)
}

/// One process for the user who just wants it: a listener that the network can reach is told once.
fn watch_notifies() -> Outcome {
    let desk = Desk::open()?;
    let (here, there) = (Netns::new()?, Netns::new()?);
    lab::cable((&here, "eth0", &["192.0.2.1/24"]), (&there, "eth0", &["192.0.2.2/24"]))?;
    let mut command = desk.environment(desk.folder.path().join("sockwarden"));
    command.args(["watch", "--notify", "--netns", "current", "--json", "--dwell", "300ms"]);
    command.stderr(Stdio::null());
    here.enter(&mut command)?;
    let mut watch = Program::start(nobody(&mut command))?;
    let serve = || -> Outcome<Program> {
        let mut command = lab::maker("watch-listen");
        command.arg("0.0.0.0:8080");
        here.enter(&mut command)?;
        let mut server = Program::start(&mut command)?;
        server.until_ready()?;
        Ok(server)
    };
    // Its first scan learns what stands.
    std::thread::sleep(Duration::from_secs(3));
    let server = serve()?;
    let told: Value = serde_json::from_str(&watch.line()?)?;
    expect(told["change"] == "opened", "the listener is told", &told.to_string())?;
    desk.wait_for(1)?;
    let shown = desk.history()?;
    expect(shown[0].0.contains("now be reached"), "in plain words", &format!("{shown:?}"))?;
    drop(server);
    std::thread::sleep(Duration::from_secs(2));
    let _again = serve()?;
    std::thread::sleep(Duration::from_secs(2));
    expect(desk.displayed() == Some(0), "a listener is told once", &format!("{:?}", desk.displayed()))?;
    expect(Path::new(&desk.state().join("sockwarden/alerts.json")).exists(), "it is remembered", "no file")
}

/// A service of root's, a screen of nobody's: a door of the self-test's own is seen, judged, shown, told to
/// subscribers, and gone.
fn self_test() -> Outcome {
    let desk = Desk::open()?;
    let here = Netns::new()?;
    here.ip("link set lo up")?;
    let socket = desk.folder.path().join("watch.sock");
    let publish = format!("--publish={}", socket.display());
    let mut command = lab::sockwarden(["watch", &publish, "--netns", "current", "--quiet"]);
    command.stderr(Stdio::null());
    here.enter(&mut command)?;
    let _service = Program::start(&mut command)?;
    lab::wait("the service", || UnixStream::connect(&socket).ok())?;
    let mut command = desk.environment(desk.folder.path().join("sockwarden"));
    command.args(["watch", "--self-test", "--notify", "--json", &publish]);
    here.enter(&mut command)?;
    let done = nobody(&mut command).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let steps: Vec<Value> = said.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    for name in ["seen", "finding", "notification", "service", "closed"] {
        let step = steps.iter().find(|step| step["step"] == name).ok_or(name)?;
        // On a busy machine it may come late, and is then said to.
        let late = step["message"].as_str().is_some_and(|text| text.contains("later than"));
        expect(step["outcome"] == "passed" || late, name, &said)?;
    }
    let shown = desk.history()?;
    expect(
        shown.len() == 1 && shown[0].1.contains("sw-self-test"),
        "one notification",
        &format!("{shown:?}"),
    )?;
    // Nobody shows anything: that is a failure, and the rest is still proven.
    let mut command = Command::new(desk.folder.path().join("sockwarden"));
    command.args(["watch", "--self-test", "--notify", "--json", &publish]);
    command.env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent").env("HOME", "/nonexistent");
    here.enter(&mut command)?;
    let done = nobody(&mut command).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let failed = said.lines().any(|line| line.contains(r#""step":"notification","outcome":"failed""#));
    expect(failed && done.status.code() == Some(1), "no server is a failure", &said)
}
