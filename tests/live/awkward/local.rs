//! UNIX sockets: every kind of name, type and state.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use libc::{AF_UNIX, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM};
use serde_json::{Value, json};

use super::sys;
use super::want::{Want, inode, netns, pid};
use crate::lab::hold;

const TYPES: [(&str, i32); 3] =
    [("stream", SOCK_STREAM), ("dgram", SOCK_DGRAM), ("seqpacket", SOCK_SEQPACKET)];

fn path(path: &Path) -> Value {
    json!({"path": path.to_string_lossy(), "abstract": false})
}

/// Bound to a path, or to an abstract name (leading NUL); listening where the type can.
fn open(kind: i32, name: &[u8]) -> io::Result<OwnedFd> {
    let fd = sys::socket(AF_UNIX, kind, 0)?;
    sys::bind(&fd, &sys::unix(name))?;
    if kind != SOCK_DGRAM {
        sys::listen(&fd)?;
    }
    Ok(fd)
}

fn call(kind: i32, name: &[u8]) -> io::Result<OwnedFd> {
    let fd = sys::socket(AF_UNIX, kind, 0)?;
    sys::connect(&fd, &sys::unix(name))?;
    Ok(fd)
}

fn row(kind: &str, state: &str, local: Value) -> Value {
    json!({"protocol": "unix", "type": kind, "state": state, "local": local})
}

/// Argument: an empty folder of the test's.
pub(super) fn make(args: &[OsString]) -> io::Result<()> {
    let dir = Path::new(args.first().ok_or_else(|| io::Error::other("which folder?"))?);
    named(dir)?;
    unnamed()?;
    connected(dir)?;
    hold()
}

fn named(dir: &Path) -> io::Result<()> {
    for (kind, number) in TYPES {
        let file = dir.join(kind);
        let fd = open(number, file.as_os_str().as_bytes())?;
        let state = if number == SOCK_DGRAM { "unconnected" } else { "listen" };
        Want::new(&format!("UNIX {kind} at a path"), &fd, row(kind, state, path(&file)))?.keep(fd)?;
    }
    let file = dir.join("two\nlines \x1b[31m");
    let fd = open(SOCK_STREAM, file.as_os_str().as_bytes())?;
    Want::new("UNIX path with newline and escape", &fd, row("stream", "listen", path(&file)))?.keep(fd)?;

    let file = dir.join(OsStr::from_bytes(b"not \xff utf-8"));
    let fd = open(SOCK_STREAM, file.as_os_str().as_bytes())?;
    Want::new("UNIX path that is not UTF-8", &fd, row("stream", "listen", path(&file)))?.keep(fd)?;

    let file = dir.join("gone");
    let fd = open(SOCK_STREAM, file.as_os_str().as_bytes())?;
    std::fs::remove_file(&file)?;
    Want::new("UNIX path whose file is gone", &fd, row("stream", "listen", path(&file)))?.keep(fd)?;

    std::env::set_current_dir(dir)?;
    let fd = open(SOCK_STREAM, b"relative")?;
    Want::new("UNIX relative path", &fd, row("stream", "listen", path(Path::new("relative"))))?.keep(fd)?;

    // One pid a name, so that suites running side by side do not collide.
    let unique = format!("sw-{}", pid()?);
    for (case, kind, tail) in [
        ("UNIX abstract", SOCK_STREAM, &b""[..]),
        ("UNIX abstract datagram", SOCK_DGRAM, b"-d"),
        ("UNIX abstract seqpacket", SOCK_SEQPACKET, b"-s"),
        ("UNIX abstract name with newline", SOCK_STREAM, b"-two\nlines"),
        ("UNIX abstract name that is not UTF-8", SOCK_STREAM, b"-\xff\xfe"),
        ("UNIX abstract name with NUL inside", SOCK_STREAM, b"-a\0b\0"),
    ] {
        let name = [unique.as_bytes(), tail].concat();
        let fd = open(kind, &[b"\0", &name[..]].concat())?;
        let text = String::from_utf8_lossy(&name).into_owned();
        let word = TYPES.iter().find(|(_, number)| *number == kind).map_or("", |(word, _)| word);
        let state = if kind == SOCK_DGRAM { "unconnected" } else { "listen" };
        let local = json!({"path": text, "abstract": true});
        Want::new(case, &fd, row(word, state, local))?.keep(fd)?;
    }

    let fd = open(SOCK_STREAM, b"")?; // five hexadecimal digits of the kernel's choice (unix(7))
    Want::new("UNIX name of the kernel's choice", &fd, row("stream", "listen", json!({"abstract": true})))?
        .keep(fd)?;
    Ok(())
}

fn unnamed() -> io::Result<()> {
    for (kind, number) in TYPES {
        let fd = sys::socket(AF_UNIX, number, 0)?;
        let fields = json!({"protocol": "unix", "type": kind, "local": null, "remote": null});
        Want::new(&format!("UNIX {kind} without name"), &fd, fields)?.keep(fd)?;

        let (a, b) = sys::pair(number)?;
        for (end, other) in [(&a, &b), (&b, &a)] {
            let fields = row(kind, "established", Value::Null);
            Want::new(&format!("UNIX {kind} pair"), end, fields)?.peer(inode(other)?).say()?;
        }
        sys::keep([a, b]);
    }
    Ok(())
}

fn connected(dir: &Path) -> io::Result<()> {
    let file = dir.join("served");
    let name = file.as_os_str().as_bytes();
    let server = open(SOCK_STREAM, name)?;
    let client = call(SOCK_STREAM, name)?;
    let served = sys::accept(&server)?;
    let (near, far) = (inode(&client)?, inode(&served)?);
    let fields = row("stream", "established", Value::Null);
    Want::new("UNIX client", &client, fields)?.peer(far).say()?;
    let fields = row("stream", "established", path(&file));
    Want::new("UNIX connection served", &served, fields)?.peer(near).keep(served)?;
    sys::keep([client]);

    // Its other end waits in the queue of the listener: no table lists it, the listener counts it.
    let waiting = call(SOCK_STREAM, name)?;
    Want::new("UNIX client not yet accepted", &waiting, row("stream", "established", Value::Null))?
        .keep(waiting)?;
    let mut fields = row("stream", "listen", path(&file));
    fields["recv_q"] = json!(1);
    Want::new("UNIX listener with one waiting", &server, fields)?.say()?;
    sys::keep([server]);

    let file = dir.join("receiver");
    let name = file.as_os_str().as_bytes();
    let receiver = open(SOCK_DGRAM, name)?;
    let sender = call(SOCK_DGRAM, name)?;
    let fields = row("dgram", "established", Value::Null);
    Want::new("UNIX datagram sender", &sender, fields)?.peer(inode(&receiver)?).keep(sender)?;
    let fields = row("dgram", "unconnected", path(&file));
    Want::new("UNIX datagram receiver with a sender", &receiver, fields)?.keep(receiver)?;
    Ok(())
}

/// A pair whose other end a process in another network namespace holds. Argument: the path of that
/// namespace.
pub(super) fn across(args: &[OsString]) -> io::Result<()> {
    let other = args.first().ok_or_else(|| io::Error::other("which namespace?"))?;
    let (near, far) = sys::pair(SOCK_STREAM)?;
    let home = json!({"inode": netns()?});
    let (near_inode, far_inode) = (inode(&near)?, inode(&far)?);
    let keeper = {
        let far = far.try_clone()?;
        sys::fork(move || {
            super::place::enter(Path::new(other))?;
            sys::keep([far]);
            sys::sleep_forever()
        })?
    };
    let fields = row("stream", "established", Value::Null);
    let want = Want::new("UNIX pair across namespaces", &near, fields.clone())?;
    want.owners(&[pid()?, keeper]).peer(far_inode).say()?;
    let mut want = Want::new("UNIX pair across namespaces, other end", &far, fields)?.peer(near_inode);
    want.fields["netns"] = home;
    want.owners(&[pid()?, keeper]).keep(far)?;
    sys::keep([near]);
    hold()
}
