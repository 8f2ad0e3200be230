//! The command line where it needs a machine: the demo and its end, the doctor, whose files are
//! believed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use libtest_mimic::Trial;
use serde_json::Value;

use crate::blind::{NOBODY, become_nobody, drop_ptrace};
use crate::lab::{self, Need, Netns, Outcome, Program, Stop, check, maker, sockwarden, trial};

pub(crate) fn trials() -> Vec<Trial> {
    const ROOT: &[Need] = &[Need::Root, Need::Tool("ip")];
    const USER: &[Need] =
        &[Need::Root, Need::Kernel("user namespace for ordinary users", user_namespaces_are_allowed)];
    vec![
        trial("cli::demo_shows_every_pattern_and_goes", &[Need::Root], || demo(|_| ())),
        trial("cli::demo_needs_no_root", USER, || demo(as_nobody)),
        trial("cli::demo_is_interrupted", &[Need::Root], interrupted),
        trial("cli::sources_agree_about_awkward_sockets", ROOT, sources_agree),
        trial("cli::doctor_tries_instead_of_guessing", &[Need::Root], doctor),
        trial("cli::root_believes_root_alone", &[Need::Root], root_believes_root),
        trial("cli::raw_recording_is_read_again", ROOT, recorded),
    ]
}

fn user_namespaces_are_allowed() -> bool {
    let mut command = Command::new("/proc/self/exe");
    let enter = || {
        become_nobody()?;
        lab::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET)
    };
    // SAFETY: the closure runs between fork and exec and makes system calls only.
    unsafe { command.pre_exec(enter) };
    command.args(["maker", "nothing"]).output().is_ok()
}

fn as_nobody(command: &mut Command) {
    // SAFETY: the closure runs between fork and exec and makes system calls only.
    unsafe { command.pre_exec(become_nobody) };
}

/// The program where every user may execute it, and a folder that everybody may write to.
fn public() -> Outcome<(tempfile::TempDir, PathBuf, PathBuf)> {
    let open = |mode| fs::Permissions::from_mode(mode);
    let dir = tempfile::Builder::new().permissions(open(0o755)).tempdir()?;
    let (program, tmp) = (dir.path().join("sockwarden"), dir.path().join("tmp"));
    crate::lab::copy_program(env!("CARGO_BIN_EXE_sockwarden"), &program)?;
    fs::create_dir(&tmp)?;
    fs::set_permissions(&tmp, open(0o1777))?;
    Ok((dir, program, tmp))
}

fn told(output: &Output) -> String {
    format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))
}

fn document(output: &Output) -> Outcome<Value> {
    serde_json::from_slice(&output.stdout).map_err(|error| Stop::Fail(format!("{error}: {}", told(output))))
}

fn is_empty(folder: &Path) -> Outcome {
    let left: Vec<_> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<_>>()?;
    if left.is_empty() { Ok(()) } else { Err(Stop::Fail(format!("left behind: {left:?}"))) }
}

fn demo(become_user: fn(&mut Command)) -> Outcome {
    let (_dir, program, tmp) = public()?;
    let mut command = Command::new(&program);
    command.args(["demo", "--json"]).env("TMPDIR", &tmp).env("HOME", "/nonexistent");
    become_user(&mut command);
    let output = command.output()?;
    if output.status.code() != Some(0) {
        return Err(Stop::Fail(told(&output)));
    }
    let report = document(&output)?;
    let rules: Vec<_> =
        report["findings"].as_array().into_iter().flatten().map(|each| &each["rule"]).collect();
    for rule in ["client-and-server", "listener-from-temporary-folder"] {
        if !rules.iter().any(|each| *each == rule) {
            return Err(Stop::Fail(format!("{rule} is not among {rules:?}")));
        }
    }
    let sockets = report["sockets"].as_array().ok_or("no sockets")?;
    let holds = |name: &str, role: &str, protocol: &str| {
        sockets.iter().any(|socket| {
            let owned = |owner: &Value| owner["name"] == name;
            socket["role"] == role
                && socket["protocol"] == protocol
                && socket["owners"].as_array().is_some_and(|owners| owners.iter().any(owned))
        })
    };
    for (name, role, protocol) in [
        ("web-server", "listener", "tcp"),
        ("web-server", "inbound", "tcp"),
        ("note-store", "inbound", "unix"),
        ("note-editor", "outbound", "unix"),
        ("note-store", "inbound", "tcp"),
        ("note-editor", "outbound", "tcp"),
        ("swarm-peer", "listener", "tcp"),
        ("swarm-peer", "outbound", "tcp"),
        ("updater", "listener", "tcp"),
    ] {
        if !holds(name, role, protocol) {
            return Err(Stop::Fail(format!("{name} has no {protocol} socket that is {role}: {sockets:#?}")));
        }
    }
    is_empty(&tmp)
}

/// SIGINT to the whole group, as a terminal sends it, as soon as the first program runs.
fn interrupted() -> Outcome {
    let (_dir, program, tmp) = public()?;
    let mut command = Command::new(&program);
    command.arg("demo").env("TMPDIR", &tmp).process_group(0).stdout(Stdio::null()).stderr(Stdio::piped());
    // A shell starts what it sends to the background with SIGINT ignored, and that is inherited.
    // SAFETY: signal(2) is safe between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            Ok(())
        });
    }
    let child = command.spawn()?;
    let group = i32::try_from(child.id())?;
    let marked = tmp.to_string_lossy().into_owned();
    lab::wait("the demo's first program", || (!running(&marked).is_empty()).then_some(()))?;
    // SAFETY: takes numbers only.
    check(unsafe { libc::kill(-group, libc::SIGINT) })?;
    let output = child.wait_with_output()?;
    if output.status.code() != Some(130) {
        return Err(Stop::Fail(told(&output)));
    }
    lab::wait("the programs' end", || running(&marked).is_empty().then_some(()))?;
    lab::wait("the folder's end", || is_empty(&tmp).is_ok().then_some(()))
}

/// Processes whose command line names this folder.
fn running(folder: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .filter(|line| line.contains(folder) && line.contains("sockwarden-demo-"))
        .collect()
}

/// A namespace with the interface that awkward sockets want, and what is at its other end.
fn wired() -> Outcome<(Netns, Netns)> {
    let (one, other) = (Netns::new()?, Netns::new()?);
    lab::cable(
        (&one, "eth0", &["192.0.2.1/24", "2001:db8::1/64"]),
        (&other, "eth0", &["192.0.2.2/24", "2001:db8::2/64"]),
    )?;
    one.sysctl("net/ipv4/ping_group_range", "0 2147483647")?;
    Ok((one, other))
}

fn sources_agree() -> Outcome {
    let (netns, _other) = wired()?;
    let dir = tempfile::tempdir()?;
    let mut programs = Vec::new();
    for (name, argument) in
        [("awkward-inet", None), ("awkward-other", None), ("awkward-local", Some(dir.path().as_os_str()))]
    {
        let mut command = maker(name);
        netns.enter(&mut command)?;
        let mut program = Program::start(command.args(argument))?;
        program.until_ready()?;
        programs.push(program);
    }
    let mut command = sockwarden(["doctor", "--cross-check", "--json", "--fail-on", "high"]);
    netns.enter(&mut command)?;
    let output = command.output()?;
    let found = document(&output)?;
    if output.status.code() == Some(0) {
        return Ok(());
    }
    Err(Stop::Fail(format!("{}: {:#}", output.status, found["disagreements"])))
}

fn doctor() -> Outcome {
    let (_dir, program, _tmp) = public()?;
    let state = |restrict: Option<fn() -> std::io::Result<()>>, id: &str| -> Outcome<String> {
        let mut command = Command::new(&program);
        command.args(["doctor", "--json"]).env("HOME", "/nonexistent");
        if let Some(restrict) = restrict {
            // SAFETY: `restrict` runs between fork and exec and makes system calls only.
            unsafe { command.pre_exec(restrict) };
        }
        let document = document(&command.output()?)?;
        let abilities = document["abilities"].as_array().ok_or("no abilities")?;
        let found = abilities.iter().find(|ability| ability["id"] == id).ok_or(format!("no {id}"))?;
        Ok(found["outcome"].as_str().unwrap_or_default().to_owned())
    };
    for (who, restrict, id, wanted) in [
        ("root", None, "nftables", &["works"][..]),
        ("root", None, "netns-enter", &["works"]),
        ("root without ptrace", Some(drop_ptrace as fn() -> _), "duplicate-sockets", &["refused", "limited"]),
        ("nobody", Some(become_nobody as fn() -> _), "nftables", &["refused"]),
        ("nobody", Some(become_nobody as fn() -> _), "netns-enter", &["refused"]),
        ("nobody", Some(become_nobody as fn() -> _), "file-tables", &["refused", "limited"]),
        ("nobody", Some(become_nobody as fn() -> _), "diag-tcp", &["works"]),
    ] {
        let found = state(restrict, id)?;
        if !wanted.contains(&found.as_str()) {
            return Err(Stop::Fail(format!("{id} as {who} is {found:?}, not {wanted:?}")));
        }
    }
    Ok(())
}

/// A private /etc, so that the machine's own stays as it is.
fn root_believes_root() -> Outcome {
    let (dir, program, _tmp) = public()?;
    let etc = dir.path().join("etc");
    let folder = etc.join("sockwarden");
    let home = dir.path().join("home");
    fs::create_dir_all(home.join(".config/sockwarden"))?;
    fs::create_dir_all(&folder)?;
    fs::write(home.join(".config/sockwarden/config.toml"), "[host]\nupstream = \"nonsense\"\n")?;
    let config = folder.join("config.toml");
    fs::write(&config, "[host]\nupstream = \"router\"\n")?;
    for place in [&etc, &folder, &home, &home.join(".config"), &home.join(".config/sockwarden")] {
        fs::set_permissions(place, fs::Permissions::from_mode(0o755))?;
    }
    let config_of = |word: &str, restrict: bool| -> Outcome<Output> {
        let mut command = Command::new(&program);
        command.args(["config", word]).env("HOME", &home);
        let source = std::ffi::CString::new(etc.to_string_lossy().into_owned())?;
        let enter = move || {
            lab::unshare(libc::CLONE_NEWNS)?;
            // SAFETY: NUL-terminated strings that outlive the calls, and no data.
            unsafe {
                let (none, flags) = (c"none".as_ptr(), libc::MS_REC | libc::MS_PRIVATE);
                check(libc::mount(none, c"/".as_ptr(), none, flags, std::ptr::null()))?;
                let etc = c"/etc".as_ptr();
                check(libc::mount(source.as_ptr(), etc, none, libc::MS_BIND, std::ptr::null()))?;
            }
            if restrict { become_nobody() } else { Ok(()) }
        };
        // SAFETY: the closure runs between fork and exec and makes system calls only.
        unsafe { command.pre_exec(enter) };
        Ok(command.output()?)
    };
    let says = |word: &str, what: &str, restrict: bool, code: i32, says: &str| -> Outcome {
        let output = config_of(word, restrict)?;
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), told(&output));
        if output.status.code() == Some(code) && text.contains(says) {
            Ok(())
        } else {
            Err(Stop::Fail(format!("{what}: {text}")))
        }
    };
    let expect = |what: &str, restrict: bool, code: i32, part: &str| says("show", what, restrict, code, part);
    expect("root reads /etc and not $HOME", false, 0, "/etc/sockwarden/config.toml:2")?;
    expect("a user's own file counts for the user", true, 2, ".config/sockwarden/config.toml")?;
    fs::remove_file(home.join(".config/sockwarden/config.toml"))?;
    expect("a user reads /etc", true, 0, "/etc/sockwarden/config.toml:2")?;
    let accepted = folder.join("suppressions");
    fs::create_dir(&accepted)?;
    let suppression =
        |rule: &str| format!("[[suppression]]\nrule = \"{rule}\"\nreason = \"r\"\nuntil = 2027-01-31\n");
    fs::write(accepted.join("a.toml"), suppression("redis-reachable"))?;
    says("check", "a rule that exists", false, 0, "suppressions: in order")?;
    fs::write(accepted.join("a.toml"), suppression("redis-reachabel"))?;
    says("check", "no such rule", false, 2, "a.toml:2:8")?;
    says("check", "no such rule", false, 2, "did you mean `redis-reachable`?")?;
    fs::remove_dir_all(&accepted)?;
    fs::set_permissions(&config, fs::Permissions::from_mode(0o666))?;
    expect("writable by others", false, 2, "/etc/sockwarden/config.toml")?;
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644))?;
    std::os::unix::fs::chown(&config, Some(NOBODY), None)?;
    expect("somebody else's", false, 2, "belongs to user 65534")?;
    expect("somebody else's, for a user", true, 2, "belongs to user 65534")
}

/// What `snapshot --raw` keeps tells the same again.
fn recorded() -> Outcome {
    let (netns, _other) = wired()?;
    let dir = tempfile::tempdir()?;
    let (raw, file) = (dir.path().join("raw"), dir.path().join("host.json"));
    let mut command = maker("awkward-inet");
    netns.enter(&mut command)?;
    let mut program = Program::start(&mut command)?;
    program.until_ready()?;
    let mut command = sockwarden(["snapshot", "--netns", "current", "--raw"]);
    command.arg(&raw).arg("-o").arg(&file);
    netns.enter(&mut command)?;
    lab::output(&mut command)?;
    if fs::metadata(&file)?.permissions().mode() & 0o777 != 0o600 {
        return Err(Stop::Fail("the snapshot is for others to read".to_owned()));
    }
    let list = |from: &Path| -> Outcome<Value> {
        let mut command = sockwarden(["list", "--json", "--netns", "current", "--from"]);
        Ok(serde_json::from_slice(&lab::output(command.arg(from))?)?)
    };
    let (bytes, mut whole) = (list(&raw)?, list(&file)?);
    // What was recorded cannot be looked at again with more rights.
    for gap in whole["visibility"]["gaps"].as_array_mut().into_iter().flatten() {
        gap["remedy"] = Value::Null;
    }
    for field in ["sockets", "host", "taken_at", "visibility"] {
        if bytes[field] != whole[field] {
            return Err(Stop::Fail(format!("{field} differs: {:#} and {:#}", bytes[field], whole[field])));
        }
    }
    if whole["sockets"].as_array().is_none_or(|sockets| sockets.len() < 5) {
        return Err(Stop::Fail(format!("too few sockets: {:#}", whole["sockets"])));
    }
    Ok(())
}
