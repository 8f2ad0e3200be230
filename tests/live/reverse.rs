//! The kernel's reverse path filter against real packets that come in by another way than the answer
//! would leave.

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::lab::{Need, Netns, Outcome, ensure, find_program, output, sockwarden, trial};
use crate::told::within;

pub(crate) fn trials() -> Vec<Trial> {
    const NEEDS: &[Need] = &[Need::Root, Need::Tool("ip")];
    const NFT: &[Need] = &[Need::Root, Need::Tool("ip"), Need::Tool("nft")];
    vec![
        trial("reverse::asymmetric_routes", NEEDS, asymmetric),
        trial("reverse::in_a_namespace_behind_the_host", NFT, behind),
    ]
}

const PORT: u16 = 5353;
/// The other side's addresses: on the one cable, on the other, and on neither.
const ONE: &str = "203.0.113.9";
const OTHER: &str = "198.51.100.9";
const FAR: &str = "192.0.2.77";

/// A cable whose ends have numbers that no other test's have.
fn wire(a: (&Netns, &str, &str), b: (&Netns, &str, &str)) -> Outcome {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let ours = 20_000_000 + std::process::id() % 100_000 * 100 + NUMBER.fetch_add(2, Ordering::Relaxed);
    let (theirs, name) = (ours + 1, b.0.name());
    a.0.ip(&format!(
        "link add {} index {ours} type veth peer name {} index {theirs} netns {name}",
        a.1, b.1
    ))?;
    for (netns, interface, address) in [a, b] {
        netns.ip(&format!("link set {interface} up"))?;
        netns.ip(&format!("addr add {address} dev {interface}"))?;
    }
    Ok(())
}

/// Two cables to one neighbour, who sends from any of its addresses by either.
struct Scene {
    host: Netns,
    there: Netns,
    datagrams: UdpSocket,
    _streams: TcpListener,
}

impl Scene {
    fn new() -> Outcome<Self> {
        let (host, there) = (Netns::new()?, Netns::new()?);
        wire((&host, "one", "203.0.113.5/24"), (&there, "eth0", "203.0.113.9/24"))?;
        wire((&host, "other", "198.51.100.5/24"), (&there, "eth1", "198.51.100.9/24"))?;
        there.ip("addr add 192.0.2.77/32 dev lo")?;
        for name in ["all", "eth0", "eth1"] {
            there.sysctl(&format!("net/ipv4/conf/{name}/rp_filter"), "0")?;
        }
        let datagrams = host.run(|| UdpSocket::bind(("0.0.0.0", PORT)))??;
        datagrams.set_read_timeout(Some(Duration::from_millis(400)))?;
        let streams = host.run(|| TcpListener::bind(("0.0.0.0", PORT)))??;
        Ok(Self { host, there, datagrams, _streams: streams })
    }

    fn filters(&self, all: &str, one: &str, other: &str) -> Outcome {
        for (name, value) in [("all", all), ("one", one), ("other", other)] {
            self.host.sysctl(&format!("net/ipv4/conf/{name}/rp_filter"), value)?;
        }
        Ok(())
    }

    /// Whether a datagram from this address gets in, and a connection.
    fn get_in(&self, from: &str, to: &str) -> Outcome<[bool; 2]> {
        let datagram = arrives(&self.there, &self.datagrams, from, to)?;
        let connected = self.there.connect(from, (to, PORT), Duration::from_millis(400))?;
        Ok([datagram, connected.is_ok()])
    }
}

/// Whether a datagram comes to the socket.
fn arrives(sender: &Netns, receiver: &UdpSocket, from: &str, to: &str) -> Outcome<bool> {
    sender.run(|| UdpSocket::bind((from, 0))?.send_to(b"?", (to, PORT)))??;
    Ok(receiver.recv(&mut [0; 8]).is_ok())
}

fn listed(netns: &Netns, breadth: &str) -> Outcome<Value> {
    let port = format!("port:{PORT}");
    let mut command = sockwarden(["list", "-l", &port, "--json", "--netns", breadth]);
    netns.enter(&mut command)?;
    Ok(serde_json::from_slice(&output(&mut command)?)?)
}

/// The verdict for a source and destination at one door; `None` where it does not get in.
fn verdict(
    said: &Value,
    (protocol, netns): (&str, u64),
    (entry, door): (u64, &str),
    (source, to): (&str, &str),
) -> Option<String> {
    let (source, to): (IpAddr, IpAddr) = (source.parse().ok()?, to.parse().ok()?);
    let mut sockets = said["sockets"].as_array()?.iter();
    let socket = sockets.find(|each| each["protocol"] == protocol && each["netns"]["inode"] == netns)?;
    let path = socket["exposure"]["paths"].as_array()?.iter().find(|path| {
        path["entry"]["netns"] == entry
            && path["entry"]["interfaces"].as_array().unwrap().contains(&door.into())
            && path["sources"].as_array().unwrap().iter().any(|range| within(range, source))
            && path["destinations"].as_array().unwrap().iter().any(|range| within(range, to))
    })?;
    Some(path["verdict"].as_str()?.to_owned())
}

/// Every setting, with and without a route for everybody: each answer is the kernel's, none is unknown.
fn asymmetric() -> Outcome {
    let scene = Scene::new()?;
    let (mut in_, mut out) = (0, 0);
    for route in [true, false] {
        let change = if route { "add" } else { "del" };
        scene.host.ip(&format!("route {change} default via 203.0.113.9"))?;
        // Whichever of both is the larger number counts: 2, loose, beats 1, strict.
        for (all, own) in [("0", "0"), ("1", "0"), ("0", "1"), ("2", "0"), ("1", "2")] {
            scene.filters(all, own, own)?;
            let said = listed(&scene.host, "current")?;
            for (door, to, sources) in
                [("one", "203.0.113.5", [ONE, FAR]), ("other", "198.51.100.5", [OTHER, FAR])]
            {
                for source in sources {
                    let got_in = scene.get_in(source, to)?;
                    for (protocol, got_in) in ["udp", "tcp"].into_iter().zip(got_in) {
                        let here = scene.host.inode();
                        let told = verdict(&said, (protocol, here), (here, door), (source, to));
                        let right = told.as_deref() == got_in.then_some("accept");
                        ensure(right, || {
                            format!(
                                "rp_filter all {all}, own {own}, default route {route}: {protocol} from {source} \
                                 by {door}: kernel {got_in}, said {told:?}"
                            )
                        })?;
                        *(if got_in { &mut in_ } else { &mut out }) += 1;
                    }
                }
            }
        }
    }
    ensure(in_ > 20 && out > 10, || format!("{in_} in, {out} out: both must be seen"))?;
    chosen(&scene)
}

/// Rules choose a table by the address that was asked: the answer is the kernel's, or unknown where
/// the filter turns away those who ask for some addresses only.
fn chosen(scene: &Scene) -> Outcome {
    let here = scene.host.inode();
    let mut counts = [0; 3];
    for change in
        ["rule add from 198.51.100.5 lookup 100", "route add default via 198.51.100.9 dev other table 100"]
    {
        scene.host.ip(change)?;
        for filter in ["0", "1", "2"] {
            scene.filters(filter, "0", "0")?;
            let said = listed(&scene.host, "current")?;
            for (door, to, source) in [("other", "198.51.100.5", FAR), ("one", "203.0.113.5", FAR)] {
                let got_in = scene.get_in(source, to)?;
                for (protocol, got_in) in ["udp", "tcp"].into_iter().zip(got_in) {
                    let told = verdict(&said, (protocol, here), (here, door), (source, to));
                    let known = match told.as_deref() {
                        Some("accept") => Some(true),
                        None => Some(false),
                        Some(_) => None,
                    };
                    ensure(known.is_none_or(|known| known == got_in), || {
                        format!(
                            "{change}: filter {filter}, {protocol} by {door}: kernel {got_in}, said {told:?}"
                        )
                    })?;
                    ensure(known.is_some() || filter != "0", || {
                        format!("{change}: {protocol} by {door}: {told:?}")
                    })?;
                    counts[known.map_or(2, usize::from)] += 1;
                }
            }
        }
    }
    ensure(counts[0] > 5 && counts[1] > 3, || format!("{counts:?} out, in, unknown: all must be seen"))
}

/// The filter of a namespace that the host passes packets on to.
fn behind() -> Outcome {
    let (host, there, inner) = (Netns::new()?, Netns::new()?, Netns::new()?);
    wire((&host, "wan0", "203.0.113.5/24"), (&there, "eth0", "203.0.113.9/24"))?;
    wire((&host, "docker0", "172.17.0.1/16"), (&inner, "eth0", "172.17.0.2/16"))?;
    wire((&inner, "eth1", "10.9.0.1/24"), (&there, "eth1", "10.9.0.2/24"))?;
    let rule = "add table ip nat; add chain ip nat before { type nat hook prerouting priority -100; }; \
                add rule ip nat before udp dport 5353 dnat to 172.17.0.2";
    output(host.command(find_program("nft").ok_or("nft")?)?.arg(rule))?;
    host.sysctl("net/ipv4/ip_forward", "1")?;
    // The answer would leave by another cable.
    inner.ip("route add default via 10.9.0.2")?;
    let datagrams = inner.run(|| UdpSocket::bind(("0.0.0.0", PORT)))??;
    datagrams.set_read_timeout(Some(Duration::from_millis(400)))?;
    for (setting, gets_in) in [("0", true), ("1", false), ("2", true)] {
        inner.sysctl("net/ipv4/conf/eth0/rp_filter", setting)?;
        let got_in = arrives(&there, &datagrams, ONE, "203.0.113.5")?;
        ensure(got_in == gets_in, || format!("the kernel with {setting}: {got_in}"))?;
        let said = listed(&host, "all")?;
        let told = verdict(&said, ("udp", inner.inode()), (host.inode(), "wan0"), (ONE, "203.0.113.5"));
        ensure(told.as_deref() == gets_in.then_some("accept"), || format!("rp_filter {setting}: {told:?}"))?;
    }
    Ok(())
}
