//! Reach against the kernel: real listeners of every kind of bind in a namespace with a WAN and a LAN
//! side, real connects and datagrams from chosen addresses. Without a packet filter every answer of
//! `expose` must agree with what happened.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use sockwarden::firewall::{ask, expose};
use sockwarden::model::sample::{Sample, interface};
use sockwarden::model::{
    Exposure, Fact, FilterState, FrontEnd, Interface, InterfaceKind, NamespaceId, Path, Protocol, Reach,
    Snapshot, SocketIndex, State, Verdict, Wants,
};
use sockwarden::source::{NetnsPlace, Source};

use crate::lab::{Need, Netns, Outcome, Stop, cable, check, find_program, output, trial, wait};

pub(crate) fn trials() -> Vec<Trial> {
    const NEEDS: &[Need] = &[Need::Root, Need::Tool("ip")];
    const NFT: &[Need] = &[Need::Root, Need::Tool("ip"), Need::Tool("nft")];
    const LEGACY: &[Need] = &[Need::Root, Need::Tool("ip"), Need::Tool("iptables-legacy")];
    vec![
        trial("reach::agrees_with_the_kernel", NEEDS, || agrees(true)),
        trial("reach::agrees_with_the_kernel_without_a_default_route", NEEDS, || agrees(false)),
        trial("reach::a_table_of_nftables_is_noticed", NFT, nftables_is_noticed),
        trial("reach::a_table_of_legacy_iptables_is_noticed", LEGACY, legacy_is_noticed),
        trial("reach::translation_is_noticed", NFT, translation_is_noticed),
    ]
}

/// A namespace in the middle of two others.
pub(crate) struct Town {
    pub(crate) host: Netns,
    pub(crate) wan: Netns,
    pub(crate) lan: Netns,
}

impl Town {
    pub(crate) fn build(default_route: bool) -> Outcome<Self> {
        let town = Self { host: Netns::new()?, wan: Netns::new()?, lan: Netns::new()? };
        for netns in [&town.host, &town.wan, &town.lan] {
            // Link-local addresses that are usable at once.
            netns.run(|| {
                for which in ["all", "default"] {
                    std::fs::write(format!("/proc/sys/net/ipv6/conf/{which}/accept_dad"), "0")?;
                }
                Ok::<_, io::Error>(())
            })??;
        }
        cable(
            (&town.host, "wan0", &["203.0.113.5/24", "2001:db8:1::5/64"]),
            (&town.wan, "w0", &["203.0.113.9/24", "2001:db8:1::9/64"]),
        )?;
        cable(
            (&town.host, "lan0", &["192.168.7.1/24", "169.254.7.1/16", "fd07::1/64"]),
            (&town.lan, "l0", &["192.168.7.9/24", "169.254.7.9/16", "fd07::9/64"]),
        )?;
        town.wan.ip("addr add 8.8.8.8/32 dev lo")?;
        town.wan.ip("addr add 2a00::8/128 dev lo nodad")?;
        town.wan.ip("route add default via 203.0.113.5")?;
        town.wan.ip("-6 route add default via 2001:db8:1::5")?;
        town.lan.ip("route add default via 192.168.7.1")?;
        town.lan.ip("-6 route add default via fd07::1")?;
        if default_route {
            town.host.ip("route add default via 203.0.113.9")?;
            town.host.ip("-6 route add default via 2001:db8:1::9")?;
        }
        Ok(town)
    }

    pub(crate) fn index(&self, netns: &Netns, name: &str) -> Outcome<u32> {
        let text = netns.run(|| std::fs::read_to_string("/proc/thread-self/net/dev_mcast"))??;
        let found = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let index = found.filter(|words| words.get(1) == Some(&name)).find_map(|words| words[0].parse().ok());
        index.ok_or_else(|| Stop::Fail(format!("no interface {name} in {}", netns.name())))
    }

    /// The link-local address of an interface, once it is there.
    pub(crate) fn link_local(&self, netns: &Netns, name: &str) -> Outcome<SocketAddrV6> {
        let address = wait("a link-local address", || {
            let text = netns.run(|| std::fs::read_to_string("/proc/thread-self/net/if_inet6")).ok()?.ok()?;
            let line = text.lines().find(|line| line.starts_with("fe80") && line.ends_with(name))?;
            u128::from_str_radix(line.get(..32)?, 16).ok()
        })?;
        Ok(SocketAddrV6::new(address.into(), 0, 0, self.index(netns, name)?))
    }

    /// The host as a snapshot without sockets: interfaces by hand, the rest asked of the kernel.
    fn snapshot(&self, default_route: bool) -> Outcome<Snapshot> {
        let made = |name: &str, kind, addresses: &[&str]| -> Outcome<Interface> {
            let index = if name == "lo" { 1 } else { self.index(&self.host, name)? };
            let mut made = interface(index, name, kind, addresses);
            made.default_v4 = default_route && name == "wan0";
            made.default_v6 = made.default_v4;
            Ok(made)
        };
        let wan = ["203.0.113.5/24", "2001:db8:1::5/64"];
        let lan = ["192.168.7.1/24", "169.254.7.1/16", "fd07::1/64"];
        let interfaces = vec![
            made("lo", InterfaceKind::Loopback, &["127.0.0.1/8", "::1/128"])?,
            made("wan0", InterfaceKind::Ethernet, &wan)?,
            made("lan0", InterfaceKind::Ethernet, &lan)?,
        ];
        let mut snapshot = Sample::new().snapshot;
        snapshot.namespaces[0].inode = self.host.inode();
        snapshot.namespaces[0].interfaces = Fact::Known(interfaces);
        snapshot.namespaces[0].filter = FilterState::Unasked;
        let source = Source::live()?;
        let path = self.host.path().into_os_string().into_encoded_bytes();
        source.keep_netns(self.host.inode(), &NetnsPlace::Mount(path))?;
        ask(&mut snapshot, &source);
        Ok(snapshot)
    }
}

impl Town {
    /// What sockwarden itself sees of these sockets: the whole way from the kernel to the exposure.
    fn look(&self, listeners: &[OwnedFd], devices: &[u32]) -> Outcome<(Snapshot, Vec<SocketIndex>)> {
        let wants = Wants { owners: false, processes: false, packages: false, ..Wants::EVERYTHING };
        let source = Source::live()?;
        let mut snapshot = sockwarden::collect::sockets(&source, &wants);
        sockwarden::enrich::context(&mut snapshot, &source, &wants);
        ask(&mut snapshot, &source);
        // Towns are alike: by the numbers of their interfaces, cables of other tests would seem to end here.
        let ours = [&self.host, &self.wan, &self.lan].map(Netns::inode);
        for other in snapshot.namespaces.iter_mut().filter(|each| !ours.contains(&each.inode)) {
            other.interfaces = Fact::Known(Vec::new());
        }
        let mut found = Vec::new();
        for (fd, device) in listeners.iter().zip(devices) {
            let inode = std::fs::metadata(format!("/proc/self/fd/{}", fd.as_raw_fd()))?.ino();
            let seen = snapshot.observations().find(|each| each.socket.inode == inode);
            let index = seen.ok_or_else(|| format!("socket {inode} was not seen"))?.index;
            let socket = &mut snapshot.sockets[index.0 as usize];
            // What a kernel with raw_diag tells of a raw socket.
            if socket.cookie == 0 {
                (socket.cookie, socket.interface) = (inode, *device);
            }
            found.push(index);
        }
        expose(&mut snapshot, None);
        Ok((snapshot, found))
    }
}

/// What the laboratory can make.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    Tcp,
    Udp,
    UdpLite,
    Raw,
}

/// How a socket is made and bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    pub(crate) protocol: Kind,
    pub(crate) address: SocketAddr,
    pub(crate) v6only: bool,
    pub(crate) device: Option<&'static str>,
}

/// IP protocol numbers: UDP-Lite (RFC 3828), and one for experiments (RFC 3692).
const UDPLITE: i32 = 136;
const EXPERIMENT: i32 = 253;

pub(crate) fn new_socket(address: SocketAddr, protocol: Kind) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let (kind, number) = match protocol {
        Kind::Tcp => (libc::SOCK_STREAM, libc::IPPROTO_TCP),
        Kind::Udp => (libc::SOCK_DGRAM, libc::IPPROTO_UDP),
        Kind::UdpLite => (libc::SOCK_DGRAM, UDPLITE),
        Kind::Raw => (libc::SOCK_RAW, EXPERIMENT),
    };
    // SAFETY: takes numbers; a descriptor that is not negative is ours alone.
    let fd = check(unsafe { libc::socket(family, kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, number) })?;
    // SAFETY: just made.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn option<T>(fd: &OwnedFd, level: i32, name: i32, value: &T, length: usize) -> io::Result<()> {
    let length = libc::socklen_t::try_from(length).unwrap();
    // SAFETY: `value` is a plain value of at least `length` bytes that outlives the call.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length) })
        .map(|_| ())
}

pub(crate) fn flag(fd: &OwnedFd, level: i32, name: i32, on: bool) -> io::Result<()> {
    option(fd, level, name, &i32::from(on), size_of::<i32>())
}

pub(crate) fn to_device(fd: &OwnedFd, device: &str) -> io::Result<()> {
    let mut name = [0_u8; 16];
    name[..device.len()].copy_from_slice(device.as_bytes());
    option(fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &name, device.len())
}

/// Hands the address over in the kernel's form.
pub(crate) fn with_address<T>(
    address: SocketAddr,
    call: impl FnOnce(*const libc::sockaddr, libc::socklen_t) -> T,
) -> T {
    match address {
        SocketAddr::V4(v4) => {
            // SAFETY: all zeroes is a valid sockaddr_in.
            let mut raw: libc::sockaddr_in = unsafe { zeroed() };
            raw.sin_family = 2;
            raw.sin_port = v4.port().to_be();
            raw.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            call((&raw const raw).cast(), libc::socklen_t::try_from(size_of_val(&raw)).unwrap())
        }
        SocketAddr::V6(v6) => {
            // SAFETY: all zeroes is a valid sockaddr_in6.
            let mut raw: libc::sockaddr_in6 = unsafe { zeroed() };
            raw.sin6_family = 10;
            raw.sin6_port = v6.port().to_be();
            raw.sin6_addr.s6_addr = v6.ip().octets();
            raw.sin6_scope_id = v6.scope_id();
            call((&raw const raw).cast(), libc::socklen_t::try_from(size_of_val(&raw)).unwrap())
        }
    }
}

pub(crate) fn bind(fd: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    with_address(address, |raw, length| {
        // SAFETY: `with_address` gives a valid address of that length.
        check(unsafe { libc::bind(fd.as_raw_fd(), raw, length) }).map(|_| ())
    })
}

impl Spec {
    pub(crate) fn open(&self) -> io::Result<OwnedFd> {
        let fd = new_socket(self.address, self.protocol)?;
        // A raw socket has no such choice: its protocol counts as a port that is bound already.
        if self.address.is_ipv6() && self.protocol != Kind::Raw {
            flag(&fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, self.v6only)?;
        }
        if let Some(device) = self.device {
            to_device(&fd, device)?;
        }
        bind(&fd, self.address)?;
        if self.protocol == Kind::Tcp {
            // SAFETY: takes numbers.
            check(unsafe { libc::listen(fd.as_raw_fd(), 4096) })?;
        }
        Ok(fd)
    }
}

/// Every kind of bind, each on a port of its own (raw sockets have none).
fn specs(link: SocketAddrV6) -> Vec<Spec> {
    let lan0 = Some("lan0");
    let lo = Some("lo");
    let both: [(&str, bool, Option<&'static str>); 15] = [
        ("0.0.0.0", false, None),
        ("::", false, None),
        ("::", true, None),
        ("203.0.113.5", false, None),
        ("192.168.7.1", false, None),
        ("169.254.7.1", false, None),
        ("127.0.0.1", false, None),
        ("127.0.0.7", false, None),
        ("::1", false, None),
        ("2001:db8:1::5", false, None),
        ("0.0.0.0", false, lan0),
        ("::", false, lan0),
        ("0.0.0.0", false, lo),
        ("::", true, lo),
        ("203.0.113.5", false, lan0),
    ];
    let groups = ["239.1.2.3", "255.255.255.255", "203.0.113.255"];
    let mut found = Vec::new();
    let mut add = |protocol, ip: IpAddr, v6only, device| {
        let port = if protocol == Kind::Raw { 0 } else { 4000 + u16::try_from(found.len()).unwrap() };
        let mut address = SocketAddr::new(ip, port);
        if let SocketAddr::V6(v6) = &mut address
            && v6.ip().octets()[0] == 0xfe
        {
            v6.set_scope_id(link.scope_id());
        }
        found.push(Spec { protocol, address, v6only, device });
    };
    for protocol in [Kind::Tcp, Kind::Udp, Kind::UdpLite, Kind::Raw] {
        for (address, v6only, device) in both {
            add(protocol, address.parse().unwrap(), v6only, device);
        }
        add(protocol, (*link.ip()).into(), false, None);
    }
    for protocol in [Kind::Udp, Kind::Raw] {
        for address in groups {
            add(protocol, address.parse().unwrap(), false, None);
        }
        add(protocol, "ff05::77".parse().unwrap(), false, lan0);
    }
    found
}

/// Where probes start: namespace, the interface of the host by which they come in, source, and the
/// device that the sender is bound to.
#[derive(Clone, Copy, Debug)]
struct Origin {
    netns: usize,
    entry: &'static str,
    source: SocketAddr,
    device: Option<&'static str>,
}

fn origins(town: &Town) -> Outcome<Vec<Origin>> {
    let v6 = |scoped: SocketAddrV6| SocketAddr::V6(scoped);
    let plain = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
    let host_link = town.link_local(&town.host, "lan0")?;
    let mut found = Vec::new();
    let mut add = |netns, entry, source, device| found.push(Origin { netns, entry, source, device });
    for source in ["127.0.0.1", "127.3.2.1", "203.0.113.5", "192.168.7.1", "::1", "2001:db8:1::5", "fd07::1"]
    {
        add(0, "lo", plain(source), None);
    }
    add(0, "lo", v6(host_link), None);
    for source in ["127.0.0.1", "192.168.7.1", "203.0.113.5", "::1", "fd07::1", "2001:db8:1::5"] {
        add(0, "lo", plain(source), Some("lan0"));
    }
    add(0, "lo", v6(host_link), Some("lan0"));
    for source in ["203.0.113.9", "8.8.8.8", "2001:db8:1::9", "2a00::8"] {
        add(1, "wan0", plain(source), Some("w0"));
    }
    add(1, "wan0", v6(town.link_local(&town.wan, "w0")?), Some("w0"));
    for source in ["192.168.7.9", "169.254.7.9", "fd07::9"] {
        add(2, "lan0", plain(source), Some("l0"));
    }
    add(2, "lan0", v6(town.link_local(&town.lan, "l0")?), Some("l0"));
    Ok(found)
}

/// Destinations of one origin: the host's own addresses, broadcasts and groups.
fn destinations(origin: &Origin, links: &[(&str, SocketAddrV6)], scope: u32) -> Vec<(IpAddr, u32, bool)> {
    let unicast: &[&str] = if origin.netns == 0 {
        &[
            "127.0.0.1",
            "127.0.0.7",
            "203.0.113.5",
            "192.168.7.1",
            "169.254.7.1",
            "::1",
            "2001:db8:1::5",
            "fd07::1",
        ]
    } else {
        &["203.0.113.5", "192.168.7.1", "169.254.7.1", "2001:db8:1::5", "fd07::1"]
    };
    let many: &[&str] = &[
        "255.255.255.255",
        "203.0.113.255",
        "192.168.7.255",
        "239.1.2.3",
        "239.9.9.9",
        "224.0.0.1",
        "ff02::1",
        "ff05::77",
        "ff05::99",
        "ff01::1",
    ];
    let mut found: Vec<(IpAddr, u32, bool)> =
        unicast.iter().map(|text| (text.parse().unwrap(), 0, false)).collect();
    for (name, link) in links {
        // Another interface's link-local address cannot even be asked for across a link.
        if origin.netns == 0 && *name == "lan0" {
            found.push(((*link.ip()).into(), link.scope_id(), false));
        } else if origin.entry == *name {
            found.push(((*link.ip()).into(), scope, false));
        }
    }
    // A program here must say by which interface a broadcast goes out.
    if origin.netns != 0 || origin.device.is_some() {
        found.extend(many.iter().map(|text| (text.parse().unwrap(), scope, true)));
    }
    found.retain(|(address, ..)| address.is_ipv4() == origin.source.is_ipv4());
    found
}

#[derive(Debug)]
struct Probe {
    listener: usize,
    origin: Origin,
    to: SocketAddr,
    entry: &'static str,
    datagram: bool,
}

fn endpoint(address: IpAddr, port: u16, scope: u32) -> SocketAddr {
    match address {
        IpAddr::V4(v4) => SocketAddrV4::new(v4, port).into(),
        IpAddr::V6(v6) => {
            let scoped = v6.segments()[0] & 0xffc0 == 0xfe80 || v6.is_multicast();
            SocketAddrV6::new(v6, port, 0, if scoped { scope } else { 0 }).into()
        }
    }
}

/// Connects of one namespace, all at once: those whose handshake completed, still open.
fn connects(probes: &[(usize, &Probe)], patience: Duration) -> Vec<(usize, OwnedFd)> {
    let mut results = Vec::new();
    for chunk in probes.chunks(250) {
        let begin = |(number, probe): &(usize, &Probe)| {
            let device = probe.origin.device.filter(|_| probe.origin.netns == 0);
            Some((*number, begin(probe.to, probe.origin.source, device).ok()?))
        };
        results.extend(completed(chunk.iter().filter_map(begin).collect(), patience));
    }
    results
}

/// A TCP connect that is under way.
pub(crate) fn begin(to: SocketAddr, source: SocketAddr, device: Option<&str>) -> io::Result<OwnedFd> {
    let fd = new_socket(to, Kind::Tcp)?;
    if let Some(device) = device {
        to_device(&fd, device)?;
    }
    bind(&fd, source)?;
    with_address(to, |raw, length| {
        // SAFETY: a valid address of that length.
        match check(unsafe { libc::connect(fd.as_raw_fd(), raw, length) }) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(fd),
        }
    })
}

/// Of connects under way, those whose handshake completes in time.
pub(crate) fn completed(mut open: Vec<(usize, OwnedFd)>, patience: Duration) -> Vec<(usize, OwnedFd)> {
    let mut found = Vec::new();
    let end = Instant::now() + patience;
    while !open.is_empty() && Instant::now() < end {
        let mut polls: Vec<libc::pollfd> = open
            .iter()
            .map(|(_, fd)| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLOUT, revents: 0 })
            .collect();
        // SAFETY: an array of that length that outlives the call.
        unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, 50) };
        let mut still = Vec::new();
        for ((number, fd), poll) in open.into_iter().zip(polls) {
            if poll.revents == 0 {
                still.push((number, fd));
            } else if poll.revents & (libc::POLLERR | libc::POLLHUP) == 0 {
                found.push((number, fd));
            }
        }
        open = still;
    }
    found
}

/// Sends the number of each probe as a datagram.
fn datagrams(probes: &[(usize, &Probe)], specs: &[Spec]) -> Vec<(usize, i32)> {
    type Key = (Kind, SocketAddr, Option<&'static str>);
    let mut senders: BTreeMap<Key, Option<OwnedFd>> = BTreeMap::new();
    let mut errors = Vec::new();
    for (number, probe) in probes {
        let protocol = specs[probe.listener].protocol;
        let origin = probe.origin;
        let fd = senders.entry((protocol, origin.source, origin.device)).or_insert_with(|| {
            let fd = new_socket(origin.source, protocol).unwrap();
            flag(&fd, libc::SOL_SOCKET, libc::SO_BROADCAST, true).unwrap();
            if let Some(device) = origin.device {
                to_device(&fd, device).unwrap();
            }
            // Some sources cannot be had on some devices (::1 but on lo).
            bind(&fd, origin.source).is_ok().then_some(fd)
        });
        let Some(fd) = fd else { continue };
        let payload = u32::try_from(*number).unwrap().to_be_bytes();
        let sent = with_address(probe.to, |raw, length| {
            // SAFETY: four bytes and a valid address of that length.
            check(unsafe { libc::sendto(fd.as_raw_fd(), payload.as_ptr().cast(), 4, 0, raw, length) as i32 })
        });
        if let Err(error) = sent {
            errors.push((*number, error.raw_os_error().unwrap_or(0)));
        }
    }
    errors
}

/// The numbers that arrived at a socket.
fn arrived(fd: &OwnedFd) -> Vec<usize> {
    let mut found = Vec::new();
    loop {
        let mut buffer = [0_u8; 256];
        // SAFETY: a buffer of that length.
        let length = unsafe { libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        let Ok(length) = usize::try_from(length) else { return found };
        if length >= 4 {
            // A raw IPv4 socket hands over the IP header too.
            let number: [u8; 4] = buffer[length - 4..length].try_into().unwrap();
            found.push(u32::from_be_bytes(number) as usize);
        }
    }
}

fn says(exposure: &[Path], netns: NamespaceId, probe: &Probe) -> Option<Verdict> {
    let (source, to) = (probe.origin.source.ip(), probe.to);
    let found = exposure.iter().find(|path| {
        path.entry.netns == netns
            && path.entry.interfaces.iter().any(|name| name.as_bytes() == probe.entry.as_bytes())
            && path.sources.iter().any(|range| range.contains(source))
            && path.destinations.iter().any(|range| range.contains(to.ip()))
            && path
                .ports
                .as_ref()
                .is_none_or(|all| all.iter().any(|p| p.first <= to.port() && to.port() <= p.last))
    });
    found.map(|path| path.verdict)
}

/// A town with listeners, and everything that is asked of them.
pub(crate) struct Bench {
    pub(crate) town: Town,
    specs: Vec<Spec>,
    listeners: Vec<OwnedFd>,
    devices: Vec<u32>,
    probes: Vec<Probe>,
    _members: [OwnedFd; 2],
}

fn agrees(default_route: bool) -> Outcome {
    let bench = Bench::new(default_route, specs)?;
    let (snapshot, found) = bench.look()?;
    if snapshot.observe(found[0]).namespace().filter != FilterState::None {
        return Err(Stop::Fail("a filter in a new namespace".to_owned()));
    }
    let got_in = bench.ask_kernel(Duration::from_millis(900))?;
    let count = bench.judge(&snapshot, &found, &got_in, |spec, to| {
        spec.address.is_ipv6() && to.is_ipv4() && to.is_multicast()
    })?;
    println!("{count}");
    if count.open * 10 < count.all {
        return Err(Stop::Fail(format!("the laboratory is broken: {count}")));
    }
    Ok(())
}

impl Bench {
    pub(crate) fn new(default_route: bool, specs: impl Fn(SocketAddrV6) -> Vec<Spec>) -> Outcome<Self> {
        let town = Town::build(default_route)?;
        let lan_link = town.link_local(&town.host, "lan0")?;
        let wan_link = town.link_local(&town.host, "wan0")?;
        let origins = origins(&town)?;
        let specs = specs(lan_link);
        // Somebody else joins the groups: a wildcard socket receives them all the same.
        let members = town.host.run(|| join_groups(lan_link.scope_id()))??;
        let listeners = town.host.run(|| specs.iter().map(Spec::open).collect::<io::Result<Vec<_>>>())??;
        let devices = specs.iter().map(|spec| match (spec.device, spec.address) {
            (Some("lo"), _) => 1,
            (Some(_), _) => lan_link.scope_id(),
            (None, SocketAddr::V6(v6)) => v6.scope_id(), // the kernel binds a link-local address so
            (None, SocketAddr::V4(_)) => 0,
        });
        let devices = devices.collect();
        let scopes = BTreeMap::from([
            ("w0", town.index(&town.wan, "w0")?),
            ("l0", town.index(&town.lan, "l0")?),
            ("lan0", lan_link.scope_id()),
        ]);
        let links = [("wan0", wan_link), ("lan0", lan_link)];
        let mut probes = Vec::new();
        for (listener, spec) in specs.iter().enumerate() {
            for origin in &origins {
                let scope = origin.device.map_or(0, |device| scopes[device]);
                for (to, scope, many) in destinations(origin, &links, scope) {
                    let datagram = spec.protocol != Kind::Tcp;
                    if many && !datagram {
                        continue;
                    }
                    let entry = if many && origin.netns == 0 { "lan0" } else { origin.entry };
                    let to = endpoint(to, spec.address.port(), scope);
                    probes.push(Probe { listener, origin: *origin, to, entry, datagram });
                }
            }
        }
        Ok(Self { town, specs, listeners, devices, probes, _members: members })
    }

    pub(crate) fn look(&self) -> Outcome<(Snapshot, Vec<SocketIndex>)> {
        self.town.look(&self.listeners, &self.devices)
    }

    pub(crate) fn ask_kernel(&self, patience: Duration) -> Outcome<Vec<bool>> {
        ask_kernel(&self.town, &self.specs, &self.listeners, &self.probes, patience)
    }

    /// Compares; a disagreement, or a doubt that `may_doubt` does not allow, is a failure.
    pub(crate) fn judge(
        &self,
        snapshot: &Snapshot,
        found: &[SocketIndex],
        got_in: &[bool],
        may_doubt: impl Fn(&Spec, IpAddr) -> bool,
    ) -> Outcome<Count> {
        judge(snapshot, found, &self.specs, &self.probes, got_in, may_doubt)
    }
}

/// How many answers were compared.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) all: usize,
    pub(crate) open: usize,
    pub(crate) unknown: usize,
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} answers compared, {} got in, {} unknown", self.all, self.open, self.unknown)
    }
}

/// Sends every probe; which of them got in: a datagram that arrived, a connection to accept.
fn ask_kernel(
    town: &Town,
    specs: &[Spec],
    listeners: &[OwnedFd],
    probes: &[Probe],
    patience: Duration,
) -> Outcome<Vec<bool>> {
    let mut got_in = vec![false; probes.len()];
    for (number, netns) in [&town.host, &town.wan, &town.lan].into_iter().enumerate() {
        let mine = |datagram: bool| {
            let all = probes.iter().enumerate();
            all.filter(move |(_, probe)| probe.origin.netns == number && probe.datagram == datagram)
                .collect::<Vec<_>>()
        };
        let (streams, datagram) = (mine(false), mine(true));
        for part in streams.chunks(250) {
            let open = netns.run(|| connects(part, patience))?;
            // Only with the third packet has the listener a connection.
            let mut accepted = BTreeSet::new();
            wait_briefly();
            for (listener, fd) in listeners.iter().enumerate() {
                while specs[listener].protocol == Kind::Tcp
                    && let Some(peer) = accept(fd)
                {
                    accepted.insert((listener, peer));
                }
            }
            for (probe, fd) in open {
                let socket = TcpStream::from(fd);
                let local = socket.local_addr()?;
                got_in[probe] = accepted.contains(&(probes[probe].listener, (local.ip(), local.port())));
            }
        }
        // Few enough at a time for the receive buffers.
        for part in datagram.chunks(400) {
            netns.run(|| datagrams(part, specs))?;
            std::thread::sleep(Duration::from_millis(30));
            for (listener, fd) in listeners.iter().enumerate() {
                if specs[listener].protocol == Kind::Tcp {
                    continue;
                }
                for probe in arrived(fd) {
                    if probes[probe].listener == listener {
                        got_in[probe] = true;
                    }
                }
            }
        }
    }
    Ok(got_in)
}

fn wait_briefly() {
    std::thread::sleep(Duration::from_millis(20));
}

/// Address and port of the next waiting connection, closed at once.
fn accept(listener: &OwnedFd) -> Option<(IpAddr, u16)> {
    let listener = TcpListener::from(listener.try_clone().ok()?);
    let (_, peer) = listener.accept().ok()?;
    Some((peer.ip().to_canonical(), peer.port()))
}

/// Compares, joining probes that differ only in what the sender was bound to: a path says that
/// somebody at this source gets in.
fn judge(
    snapshot: &Snapshot,
    found: &[SocketIndex],
    specs: &[Spec],
    probes: &[Probe],
    got_in: &[bool],
    may_doubt: impl Fn(&Spec, IpAddr) -> bool,
) -> Outcome<Count> {
    type Question<'a> = (usize, &'a str, IpAddr, SocketAddr);
    let mut truths: BTreeMap<Question<'_>, (bool, Option<Verdict>)> = BTreeMap::new();
    for (probe, got_in) in probes.iter().zip(got_in) {
        let socket = snapshot.observe(found[probe.listener]).socket;
        let exposure = socket.exposure.as_ref().ok_or_else(|| format!("no exposure: {socket:?}"))?;
        let said = says(&exposure.paths, socket.netns, probe);
        let mut to = probe.to;
        if let SocketAddr::V6(v6) = &mut to {
            v6.set_scope_id(0);
        }
        let key = (probe.listener, probe.entry, probe.origin.source.ip(), to);
        truths.entry(key).or_insert((false, said)).0 |= got_in;
    }
    let mut wrong = Vec::new();
    let mut count = Count { all: truths.len(), ..Count::default() };
    for ((listener, entry, source, to), (truth, said)) in &truths {
        count.open += usize::from(*truth);
        let spec = &specs[*listener];
        let fine = match said {
            Some(Verdict::Unknown) => {
                count.unknown += 1;
                may_doubt(spec, to.ip())
            }
            Some(Verdict::Accept) => *truth,
            None => !*truth,
        };
        if !fine {
            let Spec { protocol, address, v6only, device } = spec;
            wrong.push(format!(
                "{protocol:?} {address} v6only={v6only} dev={device:?}: {source} -> {to} by {entry}: kernel {truth}, said {said:?}"
            ));
        }
    }
    if wrong.is_empty() {
        return Ok(count);
    }
    let total = wrong.len();
    wrong.truncate(40);
    Err(Stop::Fail(format!("{total} of {} answers differ:\n{}", truths.len(), wrong.join("\n"))))
}

/// Sockets that joined 239.1.2.3 and ff05::77 on one interface, and receive nothing themselves.
fn join_groups(index: u32) -> io::Result<[OwnedFd; 2]> {
    let v4 = new_socket("0.0.0.0:0".parse().unwrap(), Kind::Udp)?;
    // SAFETY: all zeroes is a valid ip_mreqn.
    let mut request: libc::ip_mreqn = unsafe { zeroed() };
    request.imr_multiaddr.s_addr = u32::from_ne_bytes([239, 1, 2, 3]);
    request.imr_ifindex = i32::try_from(index).unwrap();
    option(&v4, libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &request, size_of_val(&request))?;
    let v6 = new_socket("[::]:0".parse().unwrap(), Kind::Udp)?;
    // SAFETY: all zeroes is a valid ipv6_mreq.
    let mut request: libc::ipv6_mreq = unsafe { zeroed() };
    request.ipv6mr_multiaddr.s6_addr = "ff05::77".parse::<std::net::Ipv6Addr>().unwrap().octets();
    request.ipv6mr_interface = index;
    option(&v6, libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP, &request, size_of_val(&request))?;
    Ok([v4, v6])
}

/// A host with one rule set; what it says of a wildcard listener.
fn with_rules(program: &str, args: &[&str]) -> Outcome<Snapshot> {
    let town = Town::build(true)?;
    let program = find_program(program).ok_or("program is gone")?;
    output(town.host.command(program)?.args(args))?;
    let mut snapshot = town.snapshot(true)?;
    let mut sample = Sample { snapshot };
    sample.socket(Protocol::Tcp, State::Listen, "0.0.0.0:80", &[]);
    snapshot = sample.snapshot;
    expose(&mut snapshot, None);
    Ok(snapshot)
}

pub(crate) fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Outcome {
    if found == expected { Ok(()) } else { Err(Stop::Fail(format!("{what}: {found:?}, not {expected:?}"))) }
}

fn nftables_is_noticed() -> Outcome {
    let rules = "table inet mine { chain c { type filter hook input priority 0; tcp dport 80 drop; }; }";
    let snapshot = with_rules("nft", &[rules])?;
    let namespace = &snapshot.namespaces[0];
    let exposure = snapshot.sockets[0].exposure.as_ref().ok_or("no exposure")?;
    expect("reach", (exposure.reach, exposure.certain), (Reach::None, true))?;
    expect("gaps", snapshot.gaps.len(), 0)?;
    expect("filter", namespace.filter.clone(), FilterState::Some(vec!["nftables: inet mine".into()]))?;
    expect("front ends", namespace.front_ends.clone(), vec![FrontEnd::Nftables])?;
    expect("translation", namespace.translates, Some(false))
}

fn legacy_is_noticed() -> Outcome {
    let snapshot =
        with_rules("iptables-legacy", &["-A", "INPUT", "-p", "tcp", "--dport", "80", "-j", "DROP"])?;
    // The listener stands on that port.
    let closed = Exposure { reach: Reach::None, certain: true, paths: Vec::new() };
    expect("exposure", snapshot.sockets[0].exposure.as_deref(), Some(&closed))?;
    let namespace = &snapshot.namespaces[0];
    expect("filter", namespace.filter.clone(), FilterState::Some(vec!["iptables: filter".into()]))?;
    expect("front ends", namespace.front_ends.clone(), vec![FrontEnd::IptablesLegacy])
}

fn translation_is_noticed() -> Outcome {
    let chain = |hook: &str, rule: &str| format!("table ip t {{ chain c {{ type {hook}; {rule}; }}; }}");
    let (nat, filter) = ("nat hook prerouting priority dstnat", "filter hook prerouting priority mangle");
    // Rule, whether every path is certain, and the ports by which it can be reached from a network.
    let cases: [(&str, &str, bool, &[u16]); 5] = [
        (nat, "tcp dport 8080 redirect to :80", true, &[80, 8080]),
        (nat, "dnat to 192.168.7.9", true, &[]),
        (filter, "tcp dport 80 ip daddr set 192.168.7.9", false, &[80]),
        (filter, "tcp dport 8080 tproxy to :80", false, &[80, 8080]),
        ("nat hook postrouting priority srcnat", "masquerade", true, &[80]),
    ];
    for (hook, rule, certain, ports) in cases {
        let snapshot = with_rules("nft", &[&chain(hook, rule)])?;
        let exposure = snapshot.sockets[0].exposure.as_ref().ok_or("no exposure")?;
        let from_wan = exposure.paths.iter().filter(|path| path.entry.interfaces.contains(&"wan0".into()));
        let offered: BTreeSet<u16> =
            from_wan.flat_map(|path| path.ports.iter().flatten()).map(|range| range.first).collect();
        expect(rule, exposure.certain, certain)?;
        expect(rule, ports.iter().all(|port| offered.contains(port)), true)?;
        expect(rule, offered.is_empty(), ports.is_empty())?;
        expect(rule, snapshot.gaps.len(), 0)?;
        expect(rule, snapshot.namespaces[0].translates, Some(!hook.contains("postrouting")))?;
    }
    Ok(())
}
