//! IP sockets: every protocol of this kernel, every state.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;

use libc::{
    AF_INET, AF_INET6, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_IPV6, IPPROTO_MPTCP, IPPROTO_UDPLITE,
    IPV6_V6ONLY, SO_BINDTODEVICE, SO_REUSEPORT, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_RAW, SOCK_STREAM, SOL_SOCKET,
};
use serde_json::{Value, json};

use super::sys;
use super::want::{Want, inet, inode};
use crate::lab::hold;

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Bound to this address; the port may be 0.
fn bound(kind: i32, protocol: i32, address: impl Into<SocketAddr>) -> io::Result<OwnedFd> {
    let address = address.into();
    let fd = sys::socket(if address.is_ipv4() { AF_INET } else { AF_INET6 }, kind, protocol)?;
    sys::bind(&fd, &sys::inet(address))?;
    Ok(fd)
}

fn listening(protocol: i32, address: impl Into<SocketAddr>) -> io::Result<OwnedFd> {
    let fd = bound(SOCK_STREAM, protocol, address)?;
    sys::listen(&fd)?;
    Ok(fd)
}

/// `{"protocol", "type", "state", "local"}`
fn row(protocol: &str, kind: &str, state: &str, fd: &OwnedFd) -> io::Result<Value> {
    Ok(json!({"protocol": protocol, "type": kind, "state": state, "local": inet(sys::local(fd)?)}))
}

fn with(mut fields: Value, more: Value) -> Value {
    if let (Some(fields), Value::Object(more)) = (fields.as_object_mut(), more) {
        fields.extend(more);
    }
    fields
}

/// Arguments: none. Runs in a namespace with an `eth0` that has an IPv6 link-local address.
pub(super) fn make(_: &[std::ffi::OsString]) -> io::Result<()> {
    tcp()?;
    connections()?;
    udp()?;
    sys::if_there("UDP-Lite", udplite)?;
    sys::if_there("MPTCP", mptcp)?;
    raw()?;
    hold()
}

fn tcp() -> io::Result<()> {
    let say = |case: &str, fd: OwnedFd, more: Value| -> io::Result<()> {
        let fields = with(row("tcp", "stream", "listen", &fd)?, more);
        Want::new(case, &fd, with(fields, json!({"role": "listener", "remote": null})))?.keep(fd).map(|_| ())
    };
    say("TCP listener", listening(0, (LOOPBACK, 0))?, json!({}))?;
    say("TCP listener on every IPv4 address", listening(0, (Ipv4Addr::UNSPECIFIED, 0))?, json!({}))?;

    let fd = sys::socket(AF_INET6, SOCK_STREAM, 0)?;
    sys::set_int(&fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)?;
    sys::bind(&fd, &sys::inet((Ipv6Addr::UNSPECIFIED, 0).into()))?;
    sys::listen(&fd)?;
    say("IPv6-only TCP listener", fd, json!({"v6only": true}))?;

    let fd = sys::socket(AF_INET6, SOCK_STREAM, 0)?;
    sys::set_int(&fd, IPPROTO_IPV6, IPV6_V6ONLY, 0)?;
    sys::bind(&fd, &sys::inet((Ipv6Addr::UNSPECIFIED, 0).into()))?;
    sys::listen(&fd)?;
    say("dual-stack TCP listener", fd, json!({"v6only": false}))?;

    let mapped = LOOPBACK.to_ipv6_mapped();
    say("TCP listener on a mapped address", listening(0, (mapped, 0))?, json!({"v6only": false}))?;

    let fd = sys::socket(AF_INET, SOCK_STREAM, 0)?;
    sys::listen(&fd)?; // the kernel picks the port
    say("TCP listen without bind", fd, json!({}))?;

    let fd = sys::socket(AF_INET, SOCK_STREAM, 0)?;
    sys::set(&fd, SOL_SOCKET, SO_BINDTODEVICE, b"eth0\0")?;
    sys::bind(&fd, &sys::inet((Ipv4Addr::UNSPECIFIED, 0).into()))?;
    sys::listen(&fd)?;
    say("TCP listener bound to an interface", fd, json!({"interface": "eth0"}))?;

    let (scope, address) = link_local()?;
    let fd = listening(0, SocketAddrV6::new(address, 0, 0, scope))?;
    say("TCP listener on a link-local address", fd, json!({"interface": "eth0"}))?;

    let fd = bound(SOCK_STREAM, 0, (LOOPBACK, 0))?;
    let fields = row("tcp", "stream", "bound", &fd)?;
    Want::new("TCP bound, not listening", &fd, fields)?.keep(fd)?;
    let fd = bound(SOCK_STREAM, 0, (Ipv6Addr::LOCALHOST, 0))?;
    let fields = row("tcp", "stream", "bound", &fd)?;
    Want::new("TCP over IPv6 bound, not listening", &fd, fields)?.keep(fd)?;
    for (case, family) in [("TCP never bound", AF_INET), ("TCP over IPv6 never bound", AF_INET6)] {
        let fd = sys::socket(family, SOCK_STREAM, 0)?;
        let fields = json!({"protocol": "tcp", "type": "stream", "remote": null, "exposure": null});
        Want::new(case, &fd, fields)?.keep(fd)?;
    }
    Ok(())
}

/// Index and link-local address of eth0, from /proc/net/if_inet6.
fn link_local() -> io::Result<(u32, Ipv6Addr)> {
    let text = std::fs::read_to_string("/proc/thread-self/net/if_inet6")?;
    text.lines()
        .find_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let wanted = words.len() == 6 && words[3] == "20" && words[5] == "eth0";
            let address = u128::from_str_radix(words[0], 16).ok()?;
            wanted.then(|| Some((u32::from_str_radix(words[1], 16).ok()?, address.into())))?
        })
        .ok_or_else(|| io::Error::other("no link-local address on eth0"))
}

/// Pairs on loopback, in the states that two programs can bring about.
fn connections() -> io::Result<()> {
    let server = listening(0, (LOOPBACK, 0))?;
    let target = sys::local(&server)?;
    let call = || -> io::Result<OwnedFd> {
        let fd = sys::socket(AF_INET, SOCK_STREAM, 0)?;
        sys::connect(&fd, &sys::inet(target))?;
        Ok(fd)
    };

    let client = call()?;
    let served = sys::accept(&server)?;
    let (near, far) = (inode(&client)?, inode(&served)?);
    let fields = with(
        row("tcp", "stream", "established", &client)?,
        json!({"remote": inet(target), "role": "outbound", "exposure": null}),
    );
    Want::new("TCP client on loopback", &client, fields)?.peer(far).say()?;
    let fields = with(
        row("tcp", "stream", "established", &served)?,
        json!({"remote": inet(sys::local(&client)?), "role": "inbound", "exposure": null}),
    );
    Want::new("TCP connection served on loopback", &served, fields)?.peer(near).keep(served)?;
    sys::keep([client]);

    let client = call()?;
    let served = sys::accept(&server)?;
    rustix::net::shutdown(&client, rustix::net::Shutdown::Write)?;
    let fields = row("tcp", "stream", "fin-wait-2", &client)?;
    Want::new("TCP half closed by us", &client, fields)?.peer(inode(&served)?).say()?;
    let fields = row("tcp", "stream", "close-wait", &served)?;
    Want::new("TCP half closed by the other", &served, fields)?.peer(inode(&client)?).keep(served)?;
    sys::keep([client]);

    let client = call()?;
    let local = sys::local(&client)?;
    let served = sys::accept(&server)?;
    drop(client);
    drop(served);
    let fields =
        json!({"protocol": "tcp", "state": "time-wait", "local": inet(local), "remote": inet(target)});
    Want::with_inode("TCP in TIME_WAIT", 0, fields)?.gap("time-wait").say()?;

    let client = call()?;
    let fields = json!({
        "protocol": "tcp", "state": "established", "local": inet(target), "remote": inet(sys::local(&client)?),
    });
    Want::with_inode("TCP not yet accepted", 0, fields)?.gap("not-yet-accepted").say()?;
    sys::keep([client]);

    // Nobody answers for this neighbour: SYN_SENT until the kernel gives up, which takes minutes.
    let fd = sys::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)?;
    let silent = SocketAddr::from(([192, 0, 2, 77], 9));
    match sys::connect(&fd, &sys::inet(silent)) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        other => return Err(io::Error::other(format!("connect to nobody: {other:?}"))),
    }
    let fields = with(row("tcp", "stream", "syn-sent", &fd)?, json!({"remote": inet(silent)}));
    Want::new("TCP waiting for an answer", &fd, fields)?.keep(fd)?;
    sys::keep([server]);
    Ok(())
}

fn udp() -> io::Result<()> {
    let fd = bound(SOCK_DGRAM, 0, (LOOPBACK, 0))?;
    let fields = with(row("udp", "dgram", "unconnected", &fd)?, json!({"remote": null}));
    Want::new("UDP bound", &fd, fields)?.keep(fd)?;

    let fd = bound(SOCK_DGRAM, 0, (Ipv6Addr::UNSPECIFIED, 0))?;
    let fields = with(row("udp", "dgram", "unconnected", &fd)?, json!({"v6only": false}));
    Want::new("dual-stack UDP", &fd, fields)?.keep(fd)?;

    let a = bound(SOCK_DGRAM, 0, (LOOPBACK, 0))?;
    let b = bound(SOCK_DGRAM, 0, (LOOPBACK, 0))?;
    sys::connect(&a, &sys::inet(sys::local(&b)?))?;
    sys::connect(&b, &sys::inet(sys::local(&a)?))?;
    for (case, here, there) in [("UDP connected", &a, &b), ("UDP connected, other end", &b, &a)] {
        let remote = json!({"remote": inet(sys::local(there)?), "exposure": null});
        let fields = with(row("udp", "dgram", "established", here)?, remote);
        Want::new(case, here, fields)?.peer(inode(there)?).say()?;
    }
    sys::keep([a, b]);

    for (case, family) in [("UDP never bound", AF_INET), ("UDP over IPv6 never bound", AF_INET6)] {
        let fd = sys::socket(family, SOCK_DGRAM, 0)?;
        let fields = json!({"protocol": "udp", "type": "dgram", "remote": null});
        Want::new(case, &fd, fields)?.keep(fd)?;
    }

    let fd = bound(SOCK_DGRAM, 0, (Ipv4Addr::new(239, 1, 2, 3), 0))?;
    let join = [[239, 1, 2, 3], [127, 0, 0, 1]].concat(); // struct ip_mreq
    sys::set(&fd, libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &join)?;
    let fields = row("udp", "dgram", "unconnected", &fd)?;
    Want::new("UDP bound to a multicast group", &fd, fields)?.keep(fd)?;
    Ok(())
}

fn udplite() -> io::Result<()> {
    let fd = bound(SOCK_DGRAM, IPPROTO_UDPLITE, (LOOPBACK, 0))?;
    Want::new("UDP-Lite", &fd, row("udplite", "dgram", "unconnected", &fd)?)?.keep(fd)?;
    let fd = bound(SOCK_DGRAM, IPPROTO_UDPLITE, (Ipv6Addr::LOCALHOST, 0))?;
    Want::new("UDP-Lite over IPv6", &fd, row("udplite", "dgram", "unconnected", &fd)?)?.keep(fd)?;

    Ok(())
}

fn mptcp() -> io::Result<()> {
    let server = listening(IPPROTO_MPTCP, (LOOPBACK, 0))?;
    let target = sys::local(&server)?;
    Want::new("MPTCP listener", &server, row("mptcp", "stream", "listen", &server)?)?.say()?;
    let client = sys::socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP)?;
    sys::connect(&client, &sys::inet(target))?;
    let served = sys::accept(&server)?;
    let fields = with(row("mptcp", "stream", "established", &client)?, json!({"remote": inet(target)}));
    Want::new("MPTCP client", &client, fields)?.say()?;
    let remote = json!({"remote": inet(sys::local(&client)?)});
    let fields = with(row("mptcp", "stream", "established", &served)?, remote);
    Want::new("MPTCP connection served", &served, fields)?.keep(served)?;
    sys::keep([server, client]);
    let fd = sys::socket(AF_INET6, SOCK_STREAM, IPPROTO_MPTCP)?;
    let fields = json!({"protocol": "mptcp", "type": "stream"});
    Want::new("MPTCP never bound", &fd, fields)?.keep(fd)?;
    Ok(())
}

/// Raw and ping sockets. The port of a ping socket is its ICMP identifier.
fn raw() -> io::Result<()> {
    let fd = bound(SOCK_RAW, 253, (LOOPBACK, 0))?;
    let fields = json!({
        "protocol": "raw", "type": "raw", "protocol_number": 253, "local": {"address": "127.0.0.1"},
    });
    Want::new("raw IPv4, bound", &fd, fields)?.keep(fd)?;
    for (case, family, protocol, any) in [
        ("raw ICMP", AF_INET, IPPROTO_ICMP, "0.0.0.0"),
        ("raw ICMPv6", AF_INET6, IPPROTO_ICMPV6, "::"),
        ("raw, whole packets", AF_INET, libc::IPPROTO_RAW, "0.0.0.0"),
    ] {
        let fd = sys::socket(family, SOCK_RAW, protocol)?;
        let fields = json!({
            "protocol": "raw", "type": "raw", "protocol_number": protocol, "local": {"address": any},
        });
        Want::new(case, &fd, fields)?.keep(fd)?;
    }
    for (case, protocol, address) in [
        ("ping", IPPROTO_ICMP, SocketAddr::from((LOOPBACK, 4242))),
        ("ping over IPv6", IPPROTO_ICMPV6, SocketAddr::from((Ipv6Addr::LOCALHOST, 4243))),
    ] {
        let fd = bound(SOCK_DGRAM, protocol, address)?;
        let fields = json!({"protocol": "icmp", "type": "dgram", "local": inet(address)});
        Want::new(case, &fd, fields)?.keep(fd)?;
    }
    Ok(())
}

/// One listener of an SO_REUSEPORT group. Argument: the port.
pub(super) fn reuseport(args: &[std::ffi::OsString]) -> io::Result<()> {
    let port: u16 = args
        .first()
        .and_then(|text| text.to_str()?.parse().ok())
        .ok_or_else(|| io::Error::other("which port?"))?;
    let fd = sys::socket(AF_INET, SOCK_STREAM, 0)?;
    sys::set_int(&fd, SOL_SOCKET, SO_REUSEPORT, 1)?;
    sys::bind(&fd, &sys::inet((Ipv4Addr::UNSPECIFIED, port).into()))?;
    sys::listen(&fd)?;
    Want::new("one of an SO_REUSEPORT group", &fd, row("tcp", "stream", "listen", &fd)?)?.keep(fd)?;
    hold()
}

/// A TCP listener on loopback, by whatever program and user this is. Argument: the case, then JSON
/// of what every owner must show.
pub(super) fn listener(args: &[std::ffi::OsString]) -> io::Result<()> {
    let text = |n: usize| args.get(n).and_then(|text| text.to_str());
    let case = text(0).ok_or_else(|| io::Error::other("which case?"))?;
    let owner = serde_json::from_str(text(1).unwrap_or("{}"))?;
    plain(case, owner)?;
    hold()
}

/// Opens and keeps a TCP listener on loopback.
pub(super) fn plain(case: &str, owner: Value) -> io::Result<()> {
    let fd = listening(0, (LOOPBACK, 0))?;
    Want::new(case, &fd, row("tcp", "stream", "listen", &fd)?)?.owner(owner).keep(fd)?;
    Ok(())
}

/// A TCP listener on loopback with what is expected of it, for the caller to play with.
pub(super) fn toy(case: &str) -> io::Result<(OwnedFd, Want)> {
    let fd = listening(0, (LOOPBACK, 0))?;
    let want = Want::new(case, &fd, row("tcp", "stream", "listen", &fd)?)?;
    Ok((fd, want))
}
