//! Rules against the real thing: a program set up badly makes its rule fire with the right severity,
//! and what the finding's own remedy says makes it quiet. The commands of a remedy are run as they
//! stand in the output, so a fix that does not fix fails here.
//!
//! Each case has two network namespaces on a cable, and a mount namespace in which the folders that
//! services and fixes write to are private. `systemctl` there notes what it was asked for and ends the
//! program where it is told `stop`; the test starts the program again as its unit would.

mod case;
mod daemons;
mod hosts;
mod record;
mod servers;
mod signs;
mod stock;
mod traces;
mod turns;

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::lab::{self, Netns, Outcome, Program, Stop};
use case::{Case, Fix, Helper, Ready, Side};
use hosts::Host;
use turns::{NOT_DUE, Turns};

pub(crate) fn trials() -> Vec<Trial> {
    let all = [servers::ALL, daemons::ALL, signs::ALL, traces::ALL].concat();
    let turns = Turns::new(all.len());
    let each = |(number, case): (usize, Case)| {
        let due = turns.due(number, case.rule);
        lab::trial(&format!("rules::{}", case.name), case.needs, move || {
            if due { run(&case) } else { Err(Stop::Skip(NOT_DUE.to_owned())) }
        })
    };
    let stock = lab::trial("rules::stock_programs_are_quiet", stock::STOCK_NEEDS, stock);
    let hosts = hosts::ALL.iter().enumerate().map(|(number, host)| {
        let due = turns.one_of(hosts::ALL.len(), number);
        lab::trial(&format!("rules::{}_is_quiet", host.name.replace('-', "_")), host.needs, move || {
            if due { good(host) } else { Err(Stop::Skip(NOT_DUE.to_owned())) }
        })
    });
    all.into_iter().enumerate().map(each).chain([stock]).chain(hosts).collect()
}

/// How often the program under test is asked again while things settle.
const TRIES: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(150);

fn run(case: &Case) -> Outcome {
    let room = Room::new(case.address)?;
    room.script(case.prepare)?;
    let mut before = Vec::new();
    for helper in case.before {
        before.push(room.help(helper)?);
    }
    let bad = room.start(case, case.start, &[case.ready])?;
    let finding = room.finding(case.rule)?.ok_or_else(|| format!("{} does not fire", case.rule))?;
    let severity = text(&finding["severity"]);
    if severity != case.severity {
        return Err(Stop::Fail(format!("{} is {severity}, not {}", case.rule, case.severity)));
    }
    let remedy = finding["remedies"].as_array().into_iter().flatten().find(|each| each["kind"] == "service");
    let remedy = remedy.ok_or_else(|| format!("no remedy of the service itself: {finding}"))?;
    let ready = if case.fixed.is_empty() { &[case.ready] } else { case.fixed };
    match case.fix {
        Fix::Service(unit) => {
            room.commands(&remedy["commands"])?;
            room.asked_for(unit)?;
            stop(bad)?;
            let good = room.start(case, case.start, ready)?;
            room.quiet(case.rule)?;
            room.script(text(&remedy["verify"]))?;
            room.commands(&remedy["undo"])?;
            stop(good)?;
            let _bad = room.start(case, case.start, &[case.ready])?;
            room.finding(case.rule)?.ok_or_else(|| format!("{} stays quiet after the undo", case.rule))?;
        }
        Fix::Stopped(unit) => {
            room.commands(&remedy["commands"])?;
            room.noted(&format!("disable {unit}"))?;
            stop(bad)?;
            room.quiet(case.rule)?;
            room.commands(&remedy["undo"])?;
            room.noted(&format!("enable {unit}"))?;
            let _bad = room.start(case, case.start, &[case.ready])?;
            room.finding(case.rule)?.ok_or_else(|| format!("{} stays quiet after the undo", case.rule))?;
        }
        Fix::Restarted(unit) => {
            room.commands(&remedy["commands"])?;
            room.asked_for(unit)?;
            stop(bad)?;
            let _good = room.start(case, case.start, ready)?;
            room.quiet(case.rule)?;
        }
        Fix::Commands => {
            room.commands(&remedy["commands"])?;
            room.quiet(case.rule)?;
        }
        Fix::Refused => {
            room.commands(&remedy["commands"])?;
            stop(bad)?;
            let _refused = room.start(case, case.start, case.fixed)?;
            room.quiet(case.rule)?;
        }
        Fix::Again(program) => {
            let command = text(&remedy["commands"][0]).replace("PROGRAM", program);
            stop(bad)?;
            let _good = room.start(case, &command, ready)?;
            room.quiet(case.rule)?;
        }
        Fix::Option { said, start } => {
            let remedies = finding["remedies"].to_string();
            if !remedies.contains(said) {
                return Err(Stop::Fail(format!("no remedy names {said}: {remedies}")));
            }
            stop(bad)?;
            let _good = room.start(case, start, ready)?;
            room.quiet(case.rule)?;
        }
    }
    Ok(())
}

/// Programs of a good machine, set up as Debian ships them: nothing above low.
fn stock() -> Outcome {
    let room = Room::new("10.77.0.1")?;
    room.script(stock::STOCK_PREPARE)?;
    let mut running = Vec::new();
    for helper in stock::STOCK {
        running.push(room.help(helper)?);
    }
    // The two that have no port: ping and the client of DHCP.
    for tables in [&["packet"][..], &["icmp", "raw"]] {
        lab::wait("a socket without a port", || {
            let rows = |table: &&str| std::fs::read_to_string(format!("/proc/thread-self/net/{table}"));
            let some =
                || tables.iter().filter_map(|table| rows(table).ok()).any(|text| text.lines().count() > 1);
            room.here.run(some).ok()?.then_some(())
        })?;
    }
    let found = room.findings()?;
    drop(running);
    nothing_above_low(&found)
}

/// A machine as it should be: nothing above low; kept as a snapshot where that is asked for.
fn good(host: &Host) -> Outcome {
    let room = Room::new("10.77.0.1")?;
    room.script(host.prepare)?;
    let mut running = Vec::new();
    for helper in host.programs {
        running.push(room.help(helper)?);
    }
    if let Some(folder) = std::env::var_os("SOCKWARDEN_RECORD").map(PathBuf::from) {
        let folder = folder.join(host.name);
        let mut command = lab::sockwarden(["snapshot", "--netns", "current", "--output", "-"]);
        room.here.enter(&mut command)?;
        record::write(&folder, host, &lab::output(&mut command)?)?;
    }
    nothing_above_low(&room.findings()?)
}

fn nothing_above_low(found: &[Value]) -> Outcome {
    match found.iter().find(|found| !matches!(text(&found["severity"]), "low" | "info")) {
        None => Ok(()),
        Some(wrong) => Err(Stop::Fail(format!("a stock program is said to be risky: {wrong}"))),
    }
}

/// Asks each program to end, the last one first, with all that it started, as systemd does it.
fn stop(programs: Vec<Program>) -> Outcome {
    for program in programs.into_iter().rev() {
        let pid = program.pid();
        // One that has ended already, of a Room's own making, is no error.
        Command::new("kill").args(["--", &format!("-{pid}")]).stderr(Stdio::null()).status()?;
        let ended = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().is_empty() || rest.starts_with(" Z"))
        };
        for _ in 0..TRIES {
            if ended() {
                break;
            }
            std::thread::sleep(BETWEEN);
        }
        // One that does not listen is killed when dropped.
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Two computers on a cable: the one that is judged, and the rest of the world.
struct Room {
    here: Netns,
    there: Netns,
    /// Holds the mount namespace; the last to go.
    keeper: Program,
}

impl Room {
    fn new(address: &str) -> Outcome<Self> {
        let (here, there) = (Netns::new()?, Netns::new()?);
        let (network, _) = address.rsplit_once('.').ok_or("no address")?;
        lab::cable(
            (&here, "eth0", &[&format!("{address}/24")]),
            (&there, "eth0", &[&format!("{network}.254/24")]),
        )?;
        here.ip(&format!("route add default via {network}.254"))?;
        // The private folders lie on a tmpfs of this mount namespace, so nothing is left behind.
        let mut keeper = here.command("unshare")?;
        keeper.args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-ec",
            KEEPER,
            "sh",
            env!("CARGO_BIN_EXE_sockwarden"),
        ]);
        let mut keeper = Program::start(keeper.stderr(Stdio::null()))?;
        keeper.until_ready()?;
        Ok(Self { here, there, keeper })
    }

    /// A command that will run in this mount namespace, on one side of the cable.
    fn shell(&self, side: Side, script: &str) -> Outcome<Command> {
        let mut command = self.side(side).command("nsenter")?;
        command
            .arg(format!("--mount=/proc/{}/ns/mnt", self.keeper.pid()))
            .args(["--", "setpriv", "--pdeathsig", "KILL", "sh", "-c", script])
            .env_clear()
            .env("PATH", "/tmp/stub:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("LC_ALL", "C.UTF-8")
            // Some daemons end their whole process group, which must not be that of the tests.
            .process_group(0);
        command.envs(self.groups().map(|path| ("GROUPS_HERE", path)));
        Ok(command)
    }

    fn script(&self, script: &str) -> Outcome {
        if script.is_empty() {
            return Ok(());
        }
        lab::output(&mut self.shell(Side::Here, &format!("set -e\n{script}"))?).map(|_| ())
    }

    /// The commands of a remedy, one after the other, as an administrator would type them.
    fn commands(&self, commands: &Value) -> Outcome {
        for command in commands.as_array().into_iter().flatten() {
            self.script(text(command))?;
        }
        Ok(())
    }

    /// A program of one line, for which `sh` makes room.
    fn run(&self, side: Side, line: &str) -> Outcome<Program> {
        let line = if line.contains("exec ") { line.to_owned() } else { format!("exec {line}") };
        Program::start(self.shell(side, &line)?.stderr(Stdio::null()))
    }

    fn help(&self, (side, line, ready): &Helper) -> Outcome<Program> {
        let program = self.run(*side, line)?;
        self.wait(*side, *ready)?;
        Ok(program)
    }

    /// The program of the case, by this command line, and whatever comes after it.
    fn start(&self, case: &Case, line: &str, ready: &[Ready]) -> Outcome<Vec<Program>> {
        let mut running = vec![self.run(Side::Here, line)?];
        let pid = format!("/proc/{}/root/tmp/stub/pid", self.keeper.pid());
        std::fs::write(pid, running[0].pid().to_string())?;
        ready.iter().try_for_each(|each| self.wait(Side::Here, *each))?;
        for helper in case.after {
            running.push(self.help(helper)?);
        }
        Ok(running)
    }

    fn wait(&self, side: Side, ready: Ready) -> Outcome {
        let netns = self.side(side);
        match ready {
            Ready::Tcp(port) => netns.wait_for_port(false, port),
            Ready::Udp(port) => netns.wait_for_port(true, port),
            Ready::File(path) => lab::wait(path, || {
                let inside = format!("/proc/{}/root{path}", self.keeper.pid());
                std::fs::symlink_metadata(inside).ok().map(|_| ())
            }),
            Ready::Asked => Ok(()),
        }
    }

    fn side(&self, side: Side) -> &Netns {
        match side {
            Side::Here => &self.here,
            Side::There => &self.there,
        }
    }

    /// Whether a fix asked for this unit to be started again.
    fn asked_for(&self, unit: &str) -> Outcome {
        let asked = ["restart", "start", "reload"].map(|word| self.noted(&format!("{word} {unit}")));
        asked.into_iter().find(Result::is_ok).unwrap_or_else(|| self.noted(&format!("restart {unit}")))
    }

    /// Whether systemctl was run with this command.
    fn noted(&self, command: &str) -> Outcome {
        let log = std::fs::read_to_string(format!("/proc/{}/root/tmp/systemctl", self.keeper.pid()))?;
        lab::ensure(log.lines().any(|line| line == command), || format!("nobody asked for {command}: {log}"))
    }

    /// Where programs of this room make control groups of units.
    fn groups(&self) -> Option<PathBuf> {
        Some(unified_groups()?.join(format!("sockwarden-rules-{}", self.keeper.pid())))
    }

    /// What sockwarden says of this network namespace.
    fn findings(&self) -> Outcome<Vec<Value>> {
        let mut command = lab::sockwarden(["audit", "--json", "--netns", "current"]);
        self.here.enter(&mut command)?;
        let done = command.stdin(Stdio::null()).output()?;
        if !matches!(done.status.code(), Some(0 | 1)) {
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            return Err(Stop::Fail(format!("sockwarden: {}: {said}", done.status)));
        }
        let report: Value = serde_json::from_slice(&done.stdout)?;
        report["findings"].as_array().cloned().ok_or_else(|| "a report without findings".into())
    }

    /// Asks until the rule fires; a program may need a moment to take up its place.
    fn finding(&self, rule: &str) -> Outcome<Option<Value>> {
        for _ in 0..TRIES {
            if let Some(found) = self.findings()?.into_iter().find(|found| text(&found["rule"]) == rule) {
                return Ok(Some(found));
            }
            std::thread::sleep(BETWEEN);
        }
        Ok(None)
    }

    /// Asks until the rule is quiet; a program that was told to end may need a moment.
    fn quiet(&self, rule: &str) -> Outcome {
        let mut last = Value::Null;
        for _ in 0..TRIES {
            match self.findings()?.into_iter().find(|found| text(&found["rule"]) == rule) {
                None => return Ok(()),
                Some(found) => last = found,
            }
            std::thread::sleep(BETWEEN);
        }
        Err(Stop::Fail(format!("{rule} fires after its own fix: {last}")))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        fn remove(group: &Path) {
            for inner in std::fs::read_dir(group).into_iter().flatten().flatten() {
                if inner.file_type().is_ok_and(|kind| kind.is_dir()) {
                    remove(&inner.path());
                }
            }
            // Its programs were told to end and may take a moment.
            for _ in 0..TRIES {
                match std::fs::remove_dir(group) {
                    Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                        std::thread::sleep(BETWEEN);
                    }
                    _ => break,
                }
            }
        }
        if let Some(groups) = self.groups().filter(|groups| groups.exists()) {
            remove(&groups);
        }
    }
}

/// Where the unified hierarchy of control groups is mounted.
fn unified_groups() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (point, kind) = (words.next()?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(point))
    })
}

/// Private copies of the folders that services and fixes write to, a `systemctl` that takes notes,
/// and the program under test under its own name. `/tmp` goes last: the rest lies below it.
const KEEPER: &str = r#"
mount -t tmpfs none /mnt
for dir in etc var run root srv opt; do
    mkdir -p /mnt/$dir.upper /mnt/$dir.work
    mount -t overlay none -o lowerdir=/$dir,upperdir=/mnt/$dir.upper,workdir=/mnt/$dir.work /$dir
done
mount -t tmpfs none /tmp
chmod 1777 /tmp
mkdir /tmp/stub
cat > /tmp/stub/systemctl <<'END'
#!/bin/sh
echo "$*" >> /tmp/systemctl
[ "$1" = stop ] || exit 0
pid=$(cat /tmp/stub/pid)
kill -- "-$pid"
for _ in $(seq 100); do
    grep -qs 'State:.[^Z]' "/proc/$pid/status" || exit 0
    sleep 0.05
done
END
printf '#!/bin/sh\nexec "%s" "$@"\n' "$1" > /tmp/stub/sockwarden
cat > /tmp/stub/unit <<'END'
#!/bin/sh
group=$GROUPS_HERE/system.slice/$1
[ -z "$GROUPS_HERE" ] || { mkdir -p "$group" && echo $$ > "$group/cgroup.procs"; }
shift
exec "$@"
END
chmod 755 /tmp/stub/*
touch /tmp/systemctl
echo ready
read -r _
"#;
