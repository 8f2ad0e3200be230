//! Who may not look says so: the same command as an ordinary user, without the right to look into
//! other processes, behind hidepid, in a user namespace.
//!
//! Every socket is still listed; those whose holder cannot be seen say `hidden`; the view says that
//! it is incomplete and what lifts it; `--strict` exits 3.

use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::awkward::{Want, judge, sys};
use crate::lab::{self, Maker, Need, Netns, Outcome, Program, Stop, check, ensure, maker, trial};

pub(crate) const NOBODY: u32 = 65534;
const CAP_SYS_PTRACE: libc::c_ulong = 19;

pub(crate) fn makers() -> Vec<Maker> {
    vec![("blind-holder", holder), ("blind-box", boxed), ("blind-host-proc", beside_the_hosts_proc)]
}

pub(crate) fn trials() -> Vec<Trial> {
    const NEEDS: &[Need] = &[Need::Root, Need::Tool("ip")];
    vec![
        trial("blind::ordinary_user", NEEDS, || blind(become_nobody, true)),
        trial("blind::root_without_ptrace", NEEDS, || {
            blind(
                || {
                    drop_ptrace()?;
                    lab::forbid_bpf()
                },
                false,
            )
        }),
        trial("blind::root_without_ptrace_whom_the_kernel_tells", NEEDS, told),
        trial("blind::hidepid", NEEDS, || blind(hide_processes, true)),
        trial(
            "blind::user_namespace",
            &[
                Need::Root,
                Need::Tool("ip"),
                Need::Kernel("user namespace for ordinary users", || {
                    let mut command = Command::new("/proc/self/exe");
                    // SAFETY: the closure runs between fork and exec and makes system calls only.
                    unsafe { command.pre_exec(enter_user_namespace) };
                    command.args(["maker", "nothing"]).output().is_ok()
                }),
            ],
            || blind(enter_user_namespace, false),
        ),
        trial("blind::pid_namespace", NEEDS, pid_namespace),
        trial("blind::pid_namespace_with_the_hosts_proc", NEEDS, hosts_proc),
    ]
}

/// Holds a TCP and an abstract UNIX listener. Argument: `root` or `nobody`, whose they are.
fn holder(args: &[OsString]) -> io::Result<()> {
    let who = args.first().and_then(|text| text.to_str()).unwrap_or("root");
    if who == "nobody" {
        become_nobody()?;
        lab::end_with_parent(); // forgotten at a change of user
        // Else nobody could look into us: a change of user takes that away (prctl(2)).
        // SAFETY: takes numbers only.
        check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) })?;
    }
    let tcp = TcpListener::bind("127.0.0.1:0")?;
    let address = tcp.local_addr()?;
    let fields = json!({
        "protocol": "tcp", "state": "listen",
        "local": {"address": address.ip().to_string(), "port": address.port()},
    });
    Want::new(&format!("TCP of {who}"), &tcp, fields)?.keep(tcp)?;
    let unix = sys::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
    let name = format!("sw-blind-{}", std::process::id());
    sys::bind(&unix, &sys::unix(format!("\0{name}").as_bytes()))?;
    sys::listen(&unix)?;
    let fields = json!({"protocol": "unix", "local": {"path": name, "abstract": true}});
    Want::new(&format!("UNIX of {who}"), &unix, fields)?.keep(unix)?;
    lab::hold()
}

pub(crate) fn become_nobody() -> io::Result<()> {
    // SAFETY: take numbers and a null list only.
    unsafe {
        check(libc::setgroups(0, std::ptr::null()))?;
        check(libc::setresgid(NOBODY, NOBODY, NOBODY))?;
        check(libc::setresuid(NOBODY, NOBODY, NOBODY))?;
    }
    Ok(())
}

/// Root as in most containers.
pub(crate) fn drop_ptrace() -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_PTRACE, 0, 0, 0) }).map(|_| ())
}

/// A new `/proc` that shows nobody's processes to others; a remount would change the whole machine.
fn hide_processes() -> io::Result<()> {
    lab::unshare(libc::CLONE_NEWNS)?;
    // SAFETY: NUL-terminated strings that outlive the calls.
    unsafe {
        let flags = libc::MS_REC | libc::MS_PRIVATE;
        check(libc::mount(c"none".as_ptr(), c"/".as_ptr(), c"none".as_ptr(), flags, std::ptr::null()))?;
        let options = c"hidepid=2".as_ptr().cast();
        check(libc::mount(c"proc".as_ptr(), c"/proc".as_ptr(), c"proc".as_ptr(), 0, options))?;
    }
    become_nobody()
}

/// All capabilities, and none of them counts for processes outside.
fn enter_user_namespace() -> io::Result<()> {
    become_nobody()?;
    lab::unshare(libc::CLONE_NEWUSER)
}

/// A listing made after `restrict`: root's sockets are there and say `hidden`; nobody's have their
/// owner where `sees_own`.
fn blind(restrict: fn() -> io::Result<()>, sees_own: bool) -> Outcome {
    let netns = Netns::new()?;
    // Where every user may execute it.
    let dir = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()?;
    let program = dir.path().join("sockwarden");
    crate::lab::copy_program(env!("CARGO_BIN_EXE_sockwarden"), &program)?;
    let list = |options: &[&str]| -> Outcome<Command> {
        let mut command = netns.command(&program)?;
        command.args(["list", "--netns", "current"]).args(options).env("HOME", "/nonexistent");
        // SAFETY: `restrict` runs between fork and exec and makes system calls only.
        unsafe { command.pre_exec(restrict) };
        Ok(command)
    };
    let mut hidden = hold(&netns, "root")?;
    let done = list(&["--json"])?.output()?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    if !done.status.success() {
        return Err(Stop::Fail(format!("{}: {said}", done.status)));
    }
    let document: Value = serde_json::from_slice(&done.stdout)?;
    for want in &mut hidden.1 {
        want.owners.clear();
        want.fields["owner_gap"] = json!("hidden");
        see(want, &document)?;
    }
    incomplete(&document)?;
    let strict = list(&["--strict"])?.output()?;
    if strict.status.code() != Some(3) {
        return Err(Stop::Fail(format!("--strict: {}, not 3", strict.status)));
    }
    drop(hidden);

    let own = hold(&netns, "nobody")?;
    let document: Value = serde_json::from_slice(&list(&["--json"])?.output()?.stdout)?;
    for mut want in own.1 {
        if !sees_own {
            want.owners.clear();
            want.fields["owner_gap"] = json!("hidden");
        }
        see(&want, &document)?;
    }
    Ok(())
}

/// The program in the kernel tells owners to whoever may load it, whatever /proc denies.
fn told() -> Outcome {
    let netns = Netns::new()?;
    let list = |options: &[&str]| -> Outcome<Value> {
        let mut command = netns.command(env!("CARGO_BIN_EXE_sockwarden"))?;
        // SAFETY: system calls only between fork and exec.
        unsafe { command.args(options).arg("--json").pre_exec(drop_ptrace) };
        Ok(serde_json::from_slice(&lab::output(&mut command)?)?)
    };
    let doctor = list(&["doctor"])?;
    let mut abilities = doctor["abilities"].as_array().into_iter().flatten();
    if !abilities.any(|each| each["id"] == "bpf-owners" && each["outcome"] == "works") {
        println!("skip: the kernel does not take the program");
        return Ok(());
    }
    let holder = hold(&netns, "root")?;
    let document = list(&["list", "--netns", "current"])?;
    holder.1.iter().try_for_each(|want| see(want, &document))
}

/// In a pid namespace of its own nobody knows which network namespaces the processes outside have:
/// the whole is incomplete, our own namespace is not.
fn pid_namespace() -> Outcome {
    let answers = answers("blind-box")?;
    let whole = &answers[0];
    let gap = unseen(whole).ok_or_else(|| format!("no gap netns-unseen: {}", whole["visibility"]))?;
    let told = gap["why"] == "sockwarden runs in a pid namespace of its own"
        && gap["remedy"].as_str().is_some_and(|remedy| remedy.contains("--pid=host"));
    ensure(told && whole["visibility"]["complete"] == false, || whole["visibility"].to_string())?;
    let codes: Vec<_> = answers[1..].iter().map(Value::as_i64).collect();
    ensure(codes == [Some(3), Some(0)], || format!("--strict, --netns current --strict: {codes:?}"))
}

/// With the host's `/proc` (as with `--pid=host`) every process is seen from there too.
fn hosts_proc() -> Outcome {
    let answers = answers("blind-host-proc")?;
    let gap = unseen(&answers[0]).filter(|gap| gap["why"] != "permission denied on /proc/PID/ns/net");
    ensure(gap.is_none(), || format!("{gap:?}"))
}

fn unseen(document: &Value) -> Option<&Value> {
    document["visibility"]["gaps"].as_array()?.iter().find(|gap| gap["id"] == "netns-unseen")
}

/// What a maker that lists has printed, a JSON value a line.
fn answers(name: &str) -> Outcome<Vec<Value>> {
    let done = maker(name).output()?;
    let text = String::from_utf8_lossy(&done.stdout);
    let values: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
    match values {
        Ok(values) if done.status.success() && !values.is_empty() => Ok(values),
        _ => Err(Stop::Fail(format!("{}: {text}{}", done.status, String::from_utf8_lossy(&done.stderr)))),
    }
}

fn boxed(_: &[OsString]) -> io::Result<()> {
    lab::in_box(|| {
        let _own = TcpListener::bind("127.0.0.1:0")?;
        print_list()?;
        let code = |options: &[&str]| Ok(list(options)?.status.code().unwrap_or(-1));
        println!("{}", code(&["--strict"])?);
        // Whoever lists all namespaces from outside has a socket in ours for a moment, hidden from us.
        let tries = (0..10).map(|_| code(&["--netns", "current", "--strict"]));
        let best = tries.collect::<io::Result<Vec<_>>>()?.into_iter().min();
        println!("{}", best.unwrap_or(-1));
        Ok(())
    })
}

fn beside_the_hosts_proc(_: &[OsString]) -> io::Result<()> {
    lab::unshare(libc::CLONE_NEWPID)?;
    print_list() // its processes are born in the new namespace
}

fn print_list() -> io::Result<()> {
    let document: Value = serde_json::from_slice(&list(&["--json"])?.stdout)?;
    println!("{document}");
    Ok(())
}

fn list(options: &[&str]) -> io::Result<std::process::Output> {
    Command::new(env!("CARGO_BIN_EXE_sockwarden")).arg("list").args(options).output()
}

fn hold(netns: &Netns, who: &str) -> Outcome<(Program, Vec<Want>)> {
    let mut command = maker("blind-holder");
    netns.enter(&mut command)?;
    let mut program = Program::start(command.arg(who))?;
    let wants =
        program.until_ready()?.iter().map(|line| serde_json::from_str(line)).collect::<Result<_, _>>()?;
    Ok((program, wants))
}

fn see(want: &Want, document: &Value) -> Outcome {
    let rows = document["sockets"].as_array().ok_or("the document has no sockets")?;
    judge(want, rows).map_err(|why| Stop::Fail(format!("{}: {why}", want.case)))
}

/// The document says that owners are hidden, how many, why, and what lifts it.
fn incomplete(document: &Value) -> Outcome {
    let visibility = &document["visibility"];
    let gap =
        visibility["gaps"].as_array().and_then(|gaps| gaps.iter().find(|gap| gap["id"] == "owners-hidden"));
    let told = gap.is_some_and(|gap| {
        gap["count"].as_u64() >= Some(1) && gap["why"].is_string() && gap["remedy"].is_string()
    });
    if visibility["complete"] == false && told {
        Ok(())
    } else {
        Err(Stop::Fail(format!("visibility does not tell of hidden owners: {visibility}")))
    }
}
