//! What is offered really closes the door: every command is checked, then run in a namespace of its
//! own, a connect from outside fails while one from inside works, and the undo opens it again.

use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Trial;
use sockwarden::finding::Remedy;
use sockwarden::firewall::suggest::remedies;
use sockwarden::firewall::{ask, expose};
use sockwarden::model::sample::{Sample, interface};
use sockwarden::model::{Fact, FrontEnd, InterfaceKind, NamespaceId, Protocol, Reach, State};
use sockwarden::source::{NetnsPlace, Source};

use crate::lab::{Need, Netns, Outcome, Program, Stop, cable, find_program, output, trial};

pub(crate) fn trials() -> Vec<Trial> {
    const NFT: &[Need] = &[Need::Root, Need::Tool("ip"), Need::Tool("nft")];
    const NSENTER: &[Need] = &[Need::Root, Need::Tool("ip"), Need::Tool("nft"), Need::Tool("nsenter")];
    const LEGACY: &[Need] = &[Need::Root, Need::Tool("ip"), Need::Tool("iptables-legacy")];
    const IPTABLES: &[Need] = &[Need::Root, Need::Tool("ip"), Need::Tool("iptables-nft")];
    const UFW: &[Need] = &[Need::Root, Need::Tool("ip"), Need::Tool("ufw")];
    vec![
        trial("suggest::nftables_closes_and_opens", NFT, || closes(&[FrontEnd::Nftables])),
        trial("suggest::iptables_legacy_closes_and_opens", LEGACY, || closes(&[FrontEnd::IptablesLegacy])),
        trial("suggest::iptables_nft_closes_and_opens", IPTABLES, || closes(&[FrontEnd::IptablesNft])),
        trial("suggest::a_published_port_closes_before_translation", NFT, published),
        trial("suggest::a_namespace_closes_on_its_way_through", NFT, || forwarded(&[])),
        trial("suggest::a_namespace_beside_ours_closes_inside", NSENTER, beside),
        trial("suggest::a_container_closes_in_the_chain_of_docker", IPTABLES, || {
            forwarded(&[FrontEnd::Docker, FrontEnd::IptablesNft])
        }),
        trial("suggest::ufw_closes_and_opens", UFW, ufw),
        trial("suggest::nftables_checks_every_kind_of_rule", NFT, every_kind),
    ]
}

/// Runs a command line as a person would, in a namespace.
fn shell(netns: &Netns, line: &str) -> Outcome {
    output(netns.command("sh")?.args(["-ec", line])).map(|_| ())
}

fn connects(netns: &Netns, to: &str) -> Outcome<bool> {
    let to: SocketAddr = to.parse()?;
    // Long enough for a second SYN, which the kernel sends after a second: the first may be lost
    // while the neighbour is still looked for.
    let tried = netns.run(|| TcpStream::connect_timeout(&to, Duration::from_millis(1500)))?;
    match tried {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::TimedOut => Ok(false),
        Err(error) => Err(Stop::Fail(format!("{to}: {error}, neither open nor dropped"))),
    }
}

/// Whether a datagram gets there.
fn arrives(from: &Netns, to: &str, receiver: &UdpSocket) -> Outcome<bool> {
    let bind = if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let mut buffer = [0; 8];
    // Three, since the first may be lost while the neighbour is still looked for.
    for _ in 0..3 {
        from.run(|| UdpSocket::bind(bind).and_then(|socket| socket.send_to(b"x", to)))??;
        match receiver.recv(&mut buffer) {
            Ok(_) => return Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

fn expect(what: &str, found: bool, expected: bool) -> Outcome {
    if found == expected { Ok(()) } else { Err(Stop::Fail(format!("{what}: {found}"))) }
}

/// The one remedy of the packet filter.
fn firewall_remedy(sample: &Sample) -> Outcome<Remedy> {
    let mut found = remedies(&sample.snapshot, &sample.everything());
    found.retain(|remedy| remedy.kind == "firewall");
    match (found.pop(), found.is_empty()) {
        (Some(remedy), true) => Ok(remedy),
        other => Err(Stop::Fail(format!("not one remedy: {other:?}"))),
    }
}

/// A host and a stranger joined by a cable.
fn pair() -> Outcome<(Netns, Netns)> {
    let (host, stranger) = (Netns::new()?, Netns::new()?);
    cable(
        (&host, "eth0", &["192.0.2.1/24", "2001:db8::1/64"]),
        (&stranger, "eth0", &["192.0.2.2/24", "2001:db8::2/64"]),
    )?;
    Ok((host, stranger))
}

/// A dual-stack listener and a UDP receiver, on all addresses.
fn closes(keepers: &[FrontEnd]) -> Outcome {
    let (host, stranger) = pair()?;
    let _tcp = host.run(|| TcpListener::bind("[::]:8080"))??;
    let udp = host.run(|| UdpSocket::bind("[::]:5353"))??;
    udp.set_read_timeout(Some(Duration::from_millis(300)))?;
    let mut sample = Sample::new();
    sample.snapshot.namespaces[0].front_ends = keepers.to_vec();
    sample.listener("[::]:8080", Reach::Internet, &[]).v6only = Some(false);
    let receiver = sample.listener("[::]:5353", Reach::Internet, &[]);
    (receiver.protocol, receiver.v6only) = (Protocol::Udp, Some(false));
    let remedy = firewall_remedy(&sample)?;
    let state = |open: bool| -> Outcome {
        for address in ["192.0.2.1", "[2001:db8::1]"] {
            expect("tcp from outside", connects(&stranger, &format!("{address}:8080"))?, open)?;
            expect("udp from outside", arrives(&stranger, &format!("{address}:5353"), &udp)?, open)?;
        }
        expect("tcp from inside", connects(&host, "127.0.0.1:8080")?, true)?;
        expect("tcp from inside", connects(&host, "[::1]:8080")?, true)?;
        expect("udp from inside", arrives(&host, "127.0.0.1:5353", &udp)?, true)
    };
    state(true)?;
    for line in &remedy.commands {
        shell(&host, line)?;
    }
    state(false)?;
    if keepers != [FrontEnd::Nftables] {
        test_restore(&host, keepers[0])?;
    }
    for line in &remedy.undo {
        shell(&host, line)?;
    }
    state(true)
}

/// What is in force now is text that iptables-restore accepts.
fn test_restore(host: &Netns, keeper: FrontEnd) -> Outcome {
    let suffix = if keeper == FrontEnd::IptablesLegacy { "legacy" } else { "nft" };
    for family in ["iptables", "ip6tables"] {
        let name = |action: &str| format!("{family}-{suffix}-{action}");
        let program = find_program(&name("save")).ok_or_else(|| name("save"))?;
        let saved = output(&mut host.command(program)?)?;
        let text = String::from_utf8_lossy(&saved);
        if !text.contains("--dport 8080 -j DROP") {
            return Err(Stop::Fail(format!("no such rule:\n{text}")));
        }
        let program = find_program(&name("restore")).ok_or_else(|| name("restore"))?;
        let mut restore = host.command(program)?.arg("--test").stdin(Stdio::piped()).spawn()?;
        restore.stdin.take().ok_or("no pipe")?.write_all(&saved)?;
        expect("iptables-restore --test", restore.wait()?.success(), true)?;
    }
    Ok(())
}

/// A port of the host that is translated to a socket in an inner namespace.
fn published() -> Outcome {
    let (host, stranger) = pair()?;
    let inner = Netns::new()?;
    join_inner(&host, &inner)?;
    let dnat = "table ip pub { chain c { type nat hook prerouting priority -100; tcp dport 8080 dnat to \
                172.17.0.2:80; }; }";
    output(host.command(find_program("nft").ok_or("nft")?)?.arg(dnat))?;
    let _server = inner.run(|| TcpListener::bind("0.0.0.0:80"))??;
    let mut sample = Sample::new();
    sample.snapshot.namespaces[0].translates = Some(true);
    sample.listener("0.0.0.0:8080", Reach::Internet, &[]).state = State::Published;
    check(&host, &stranger, &firewall_remedy(&sample)?, "192.0.2.1:8080")
}

fn join_inner(host: &Netns, inner: &Netns) -> Outcome {
    cable((host, "br0", &["172.17.0.1/16"]), (inner, "eth0", &["172.17.0.2/16"]))?;
    inner.ip("route add default via 172.17.0.1")?;
    host.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))??;
    Ok(())
}

fn check(host: &Netns, stranger: &Netns, remedy: &Remedy, to: &str) -> Outcome {
    expect("before", connects(stranger, to)?, true)?;
    for line in &remedy.commands {
        shell(host, line)?;
    }
    expect("closed", connects(stranger, to)?, false)?;
    for line in &remedy.undo {
        shell(host, line)?;
    }
    expect("open again", connects(stranger, to)?, true)
}

/// A socket in an inner namespace, reached by its own address through the host.
fn forwarded(keepers: &[FrontEnd]) -> Outcome {
    let (host, stranger) = pair()?;
    let inner = Netns::new()?;
    join_inner(&host, &inner)?;
    stranger.ip("route add 172.17.0.0/16 via 192.0.2.1")?;
    let _server = inner.run(|| TcpListener::bind("0.0.0.0:6379"))??;
    if keepers.contains(&FrontEnd::Docker) {
        shell(&host, "iptables-nft -N DOCKER-USER && iptables-nft -A FORWARD -j DOCKER-USER")?;
    }
    let mut sample = Sample::new();
    sample.snapshot.namespaces[0].front_ends = keepers.to_vec();
    add_inner(&mut sample, 7);
    if let Fact::Known(ours) = &mut sample.snapshot.namespaces[0].interfaces {
        ours.push(interface(3, "br0", InterfaceKind::Veth, &["172.17.0.1/16"]));
    }
    sample.listener("0.0.0.0:6379", Reach::Internet, &[]).netns = NamespaceId(1);
    check(&host, &stranger, &firewall_remedy(&sample)?, "172.17.0.2:6379")
}

/// A second namespace with 172.17.0.2 at its end of a cable.
fn add_inner(sample: &mut Sample, inode: u64) {
    let mut place = sample.snapshot.namespaces[0].clone();
    (place.inode, place.own) = (inode, false);
    place.interfaces = Fact::Known(vec![interface(2, "eth0", InterfaceKind::Veth, &["172.17.0.2/16"])]);
    sample.snapshot.namespaces.push(place);
}

/// A socket in a namespace whose cable ends in a third one: the host never sees the packets.
fn beside() -> Outcome {
    let (host, stranger, inner) = (Netns::new()?, Netns::new()?, Netns::new()?);
    cable((&stranger, "eth0", &["172.17.0.1/16"]), (&inner, "eth0", &["172.17.0.2/16"]))?;
    let _server = inner.run(|| TcpListener::bind("0.0.0.0:6379"))??;
    let holder = Program::start(inner.command("sleep")?.arg("600"))?;
    let mut sample = Sample::new();
    add_inner(&mut sample, inner.inode());
    sample.process(holder.pid(), "/usr/bin/sleep").netns = Fact::Known(inner.inode());
    sample.listener("0.0.0.0:6379", Reach::Container, &[holder.pid()]).netns = NamespaceId(1);
    let remedy = firewall_remedy(&sample)?;
    check(&host, &stranger, &remedy, "172.17.0.2:6379")?;
    expect("from inside", connects(&inner, "127.0.0.1:6379")?, true)
}

/// The real ufw, with a copy of its configuration: noticed by its chains, closed and opened by its own
/// commands.
fn ufw() -> Outcome {
    let (host, stranger) = pair()?;
    let config = tempfile::tempdir()?;
    let copy = config.path().join("ufw");
    output(Command::new("cp").args(["-a", "/etc/ufw"]).arg(&copy))?;
    // Each command in a mount namespace of its own, where the copy stands for the original.
    let run = |line: &str| -> Outcome {
        let script = format!("mount --bind {} /etc/ufw; {line}", copy.display());
        output(host.command("unshare")?.args(["-m", "sh", "-ec", &script])).map(|_| ())
    };
    run("ufw allow 8080/tcp; ufw --force enable")?;
    let _tcp = host.run(|| TcpListener::bind("[::]:8080"))??;
    let mut sample = Sample::new();
    sample.snapshot.namespaces[0].inode = host.inode();
    let source = Source::live()?;
    let path = host.path().into_os_string().into_encoded_bytes();
    source.keep_netns(host.inode(), &NetnsPlace::Mount(path))?;
    ask(&mut sample.snapshot, &source);
    let keepers = &sample.snapshot.namespaces[0].front_ends;
    expect(&format!("ufw among {keepers:?}"), keepers.contains(&FrontEnd::Ufw), true)?;
    expect("translates", sample.snapshot.namespaces[0].translates == Some(false), true)?;
    sample.listener("[::]:8080", Reach::Internet, &[]).v6only = Some(false);
    sample.listener("192.0.2.1:53", Reach::Internet, &[]).protocol = Protocol::Udp;
    // What ufw lets in is certain, and what it denies too.
    sample.listener("[::]:8081", Reach::Internet, &[]).v6only = Some(false);
    expose(&mut sample.snapshot, None);
    let said = |index: usize| {
        sample.snapshot.sockets[index].exposure.as_ref().map(|each| (each.reach, each.certain))
    };
    expect(&format!("{:?}", said(0)), said(0) == Some((Reach::Internet, true)), true)?;
    expect(&format!("{:?}", said(2)), said(2) == Some((Reach::Host, true)), true)?;
    sample.snapshot.sockets.pop();
    sample.snapshot.sockets[1].exposure = sample.snapshot.sockets[0].exposure.clone();
    let remedy = firewall_remedy(&sample)?;
    for (lines, open) in [(&[][..], true), (&remedy.commands, false), (&remedy.undo, true)] {
        for line in lines {
            run(line)?;
        }
        for address in ["192.0.2.1", "[2001:db8::1]"] {
            expect(&format!("{lines:?}"), connects(&stranger, &format!("{address}:8080"))?, open)?;
        }
    }
    Ok(())
}

/// Every protocol, family and kind of bind, as `nft -c -f -` reads it.
fn every_kind() -> Outcome {
    let host = Netns::new()?;
    let nft = find_program("nft").ok_or("nft")?;
    for translates in [false, true] {
        let mut sample = Sample::new();
        sample.snapshot.namespaces[0].translates = Some(translates);
        let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::UdpLite, Protocol::Sctp, Protocol::Dccp];
        for protocol in protocols {
            for local in ["0.0.0.0:1", "0.0.0.0:2", "[::]:3", "203.0.113.5:4", "[2001:db8::5]:5", "[::]:6"] {
                let socket = sample.listener(local, Reach::Internet, &[]);
                socket.protocol = protocol;
                socket.v6only = local.starts_with('[').then_some(local.ends_with('6'));
            }
        }
        let remedy = firewall_remedy(&sample)?;
        let script = remedy.commands[0].strip_prefix("nft '").and_then(|rest| rest.strip_suffix('\''));
        let script = script.ok_or("not an nft command")?;
        let mut check: Command = host.command(&nft)?;
        let mut child = check.args(["-c", "-f", "-"]).stdin(Stdio::piped()).spawn()?;
        child.stdin.take().ok_or("no pipe")?.write_all(script.as_bytes())?;
        expect(script, child.wait()?.success(), true)?;
    }
    Ok(())
}
