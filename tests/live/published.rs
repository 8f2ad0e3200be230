//! Ports that address translation publishes: one row each, which tells where it leads, against the
//! kernel's own translation and real connections.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::lab::{
    Maker, Need, Netns, Outcome, Program, ensure, find_program, hold, maker, output, sockwarden, trial,
};
use crate::told::within;

pub(crate) fn trials() -> Vec<Trial> {
    const NFT: &[Need] = &[Need::Root, Need::Tool("ip"), Need::Tool("nft")];
    const NEW: &[Need] = &[Need::Root, Need::Tool("ip"), Need::Tool("iptables-nft")];
    const OLD: &[Need] = &[Need::Root, Need::Tool("ip"), Need::Tool("iptables-legacy")];
    vec![
        trial("published::leads_into_a_container", NFT, into_a_container),
        trial("published::to_nobody_and_elsewhere", NFT, to_nobody_and_elsewhere),
        trial("published::a_snapshot_and_a_difference", NFT, offline),
        trial("published::by_iptables_beside_a_proxy", NEW, || beside_a_proxy("iptables-nft")),
        trial("published::by_legacy_iptables_beside_a_proxy", OLD, || beside_a_proxy("iptables-legacy")),
    ]
}

/// `WORD tcp:80 udp:53`: answers whoever calls with its word.
fn greet(args: &[OsString]) -> io::Result<()> {
    let mut args = args.iter().map(|arg| arg.to_string_lossy().into_owned());
    let word = args.next().unwrap_or_default();
    for place in args {
        let port: u16 = place[4..].parse().map_err(io::Error::other)?;
        let word = word.clone();
        if place.starts_with("tcp") {
            let listener = TcpListener::bind(("0.0.0.0", port))?;
            std::thread::spawn(move || {
                for mut caller in listener.incoming().flatten() {
                    let _ = caller.write_all(word.as_bytes());
                }
            });
        } else {
            let socket = UdpSocket::bind(("0.0.0.0", port))?;
            std::thread::spawn(move || {
                while let Ok((_, caller)) = socket.recv_from(&mut [0; 64]) {
                    let _ = socket.send_to(word.as_bytes(), caller);
                }
            });
        }
    }
    hold()
}

pub(crate) fn makers() -> Vec<Maker> {
    vec![("greet", greet)]
}

const HOST: &str = "203.0.113.5";
const FRIEND: &str = "203.0.113.9";
const FOE: &str = "203.0.113.200";
const INNER: &str = "172.17.0.2";

const RULES: &str = "
table ip nat {
    chain before {
        type nat hook prerouting priority dstnat; policy accept;
        fib daddr type local tcp dport 8080 dnat to 172.17.0.2:80
        fib daddr type local udp dport 5353 dnat to 172.17.0.2:53
        fib daddr type local tcp dport 8081 dnat to 172.17.0.2:81
        ip daddr 203.0.113.5 tcp dport 8082 dnat to 198.51.100.7:80
        tcp dport 9000 redirect to :9001
        tcp dport 9002 redirect to :9003
        tcp dport 7000-7999 dnat to 172.17.0.2
    }
}
table ip filter {
    chain passing {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        ip saddr 203.0.113.200 drop
        ip daddr 172.17.0.2 tcp dport { 80, 81, 7500 } accept
        udp dport 53 accept
        ip daddr 198.51.100.7 accept
    }
}
";

/// A host between a network and a container.
struct Scene {
    host: Netns,
    inner: Netns,
    there: Netns,
    _programs: Vec<Program>,
}

impl Scene {
    fn new(own: &[&str]) -> Outcome<Self> {
        let (host, inner, there) = (Netns::new()?, Netns::new()?, Netns::new()?);
        let theirs = ["203.0.113.9/24", "203.0.113.200/24"];
        wire((&host, "wan0", &["203.0.113.5/24"]), (&there, "eth0", &theirs))?;
        wire((&host, "docker0", &["172.17.0.1/16"]), (&inner, "eth0", &["172.17.0.2/16"]))?;
        inner.ip("route add default via 172.17.0.1")?;
        host.ip("route add default via 203.0.113.9")?;
        host.sysctl("net/ipv4/ip_forward", "1")?;
        let programs = vec![
            started(&inner, &["container", "tcp:80", "udp:53", "tcp:7500"])?,
            started(&host, &[&["host"], own].concat())?,
        ];
        Ok(Self { host, inner, there, _programs: programs })
    }

    fn asked(&self, args: &[&str]) -> Outcome<Value> {
        let mut command = sockwarden(args.iter().chain(&["--json"]));
        self.host.enter(&mut command)?;
        let said: Value = serde_json::from_slice(&output(&mut command)?)?;
        let schema = include_str!("../../docs/sockwarden-v1.schema.json");
        let schema = jsonschema::validator_for(&serde_json::from_str(schema)?)?;
        let wrong = schema.iter_errors(&said).next().map(|error| error.to_string());
        ensure(wrong.is_none(), || format!("{args:?}: {wrong:?}"))?;
        Ok(said)
    }

    /// The row for a port of the host, among those of one protocol.
    fn row(&self, said: &Value, protocol: &str, port: u64) -> Option<Value> {
        let mut rows = said["sockets"].as_array()?.iter();
        let mine = |row: &&Value| {
            row["state"] == "published"
                && row["netns"]["inode"] == self.host.inode()
                && row["protocol"] == protocol
                && row["local"]["port"] == port
        };
        rows.find(mine).cloned()
    }

    /// What answers at a port of the host, and nothing where nobody does.
    fn called(&self, from: &str, port: u16) -> Outcome<Option<String>> {
        let patience = Duration::from_millis(1500);
        let Ok(mut stream) = self.there.connect(from, (HOST, port), patience)? else { return Ok(None) };
        stream.set_read_timeout(Some(patience))?;
        let mut word = String::new();
        Ok(stream.read_to_string(&mut word).is_ok().then_some(word))
    }

    fn asked_by_datagram(&self, port: u16) -> Outcome<Option<String>> {
        self.there.run(move || {
            let call = || -> io::Result<String> {
                let socket = UdpSocket::bind((FRIEND, 0))?;
                socket.set_read_timeout(Some(Duration::from_millis(1500)))?;
                socket.send_to(b"?", (HOST, port))?;
                let mut word = [0; 64];
                let length = socket.recv(&mut word)?;
                Ok(String::from_utf8_lossy(&word[..length]).into_owned())
            };
            call().ok()
        })
    }
}

/// A cable whose ends have numbers that no other test's have: by those alone the ends of a cable know
/// each other.
fn wire(a: (&Netns, &str, &[&str]), b: (&Netns, &str, &[&str])) -> Outcome {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = 1_000_000 + std::process::id() % 100_000 * 100 + NUMBER.fetch_add(2, Ordering::Relaxed);
    let (ours, theirs) = (number, number + 1);
    a.0.ip(&format!(
        "link add {} index {ours} type veth peer name {} index {theirs} netns {}",
        a.1,
        b.1,
        b.0.name()
    ))?;
    for (netns, interface, addresses) in [a, b] {
        netns.ip(&format!("link set {interface} up"))?;
        addresses.iter().try_for_each(|address| netns.ip(&format!("addr add {address} dev {interface}")))?;
    }
    Ok(())
}

fn started(netns: &Netns, args: &[&str]) -> Outcome<Program> {
    let mut command = maker("greet");
    command.args(args);
    netns.enter(&mut command)?;
    let mut program = Program::start(&mut command)?;
    program.until_ready()?;
    Ok(program)
}

/// The verdict for one source at the network's door; `None` where it does not get in.
fn verdict(row: &Value, source: &str, port: u64) -> Option<String> {
    let source: IpAddr = source.parse().ok()?;
    let has = |ports: &Value| match ports.as_str().and_then(|text| text.split_once('-')) {
        Some((first, last)) => (first.parse::<u64>().unwrap()..=last.parse().unwrap()).contains(&port),
        None => *ports == port,
    };
    let path = row["exposure"]["paths"].as_array().unwrap().iter().find(|path| {
        path["entry"]["interfaces"].as_array().unwrap().contains(&"wan0".into())
            && path["sources"].as_array().unwrap().iter().any(|range| within(range, source))
            && path["ports"].as_array().unwrap().iter().any(has)
    })?;
    Some(path["verdict"].as_str()?.to_owned())
}

fn targets(row: &Value) -> &Vec<Value> {
    row["published"]["targets"].as_array().unwrap()
}

/// The rows of a list in one protocol say of each source what the kernel does, and where it leads.
fn into_a_container() -> Outcome {
    let scene = Scene::new(&["tcp:9001"])?;
    scene.host.nft(RULES)?;
    let said = scene.asked(&["list", "-l"])?;
    let row = scene.row(&said, "tcp", 8080).ok_or("no row for 8080")?;
    let inner = scene.inner.inode();
    let container = said["sockets"].as_array().unwrap().iter().find(|socket| {
        socket["netns"]["inode"] == inner && socket["local"]["port"] == 80 && socket["state"] == "listen"
    });
    let container = container.ok_or("the container's own socket is not listed")?;
    let wanted =
        serde_json::json!([{"netns": inner, "address": INNER, "port": 80, "socket": container["id"]}]);
    ensure(row["published"]["targets"] == wanted, || format!("targets: {row}"))?;
    ensure(row["owner_gap"].is_null() && row["owners"] == serde_json::json!([]), || {
        format!("owners: {row}")
    })?;
    ensure(row["role"] == "published" && row["exposure"]["reach"] == container["exposure"]["reach"], || {
        format!("reach: {row}, {container}")
    })?;
    ensure(verdict(&row, FRIEND, 8080).as_deref() == Some("accept"), || format!("friend: {row}"))?;
    ensure(verdict(&row, FOE, 8080).is_none(), || format!("foe: {row}"))?;
    ensure(scene.called(FRIEND, 8080)?.as_deref() == Some("container"), || {
        "the kernel lets the friend in".into()
    })?;
    ensure(scene.called(FOE, 8080)?.is_none(), || "the kernel keeps the foe out".into())?;
    let row = scene.row(&said, "udp", 5353).ok_or("no row for UDP")?;
    ensure(verdict(&row, FRIEND, 5353).as_deref() == Some("accept"), || format!("datagrams: {row}"))?;
    ensure(scene.asked_by_datagram(5353)?.as_deref() == Some("container"), || "a datagram gets in".into())?;
    // A thousand ports are one row, whose ways name those that lead to somebody.
    let many = said["sockets"].as_array().unwrap().iter().find(|row| {
        row["netns"]["inode"] == scene.host.inode()
            && row["state"] == "published"
            && row["local"]["port"].is_null()
    });
    let many = many.ok_or("no row for a thousand ports")?;
    ensure(verdict(many, FRIEND, 7500).as_deref() == Some("accept"), || format!("7500: {many}"))?;
    ensure(verdict(many, FRIEND, 7501).is_none(), || format!("7501: {many}"))?;
    ensure(scene.called(FRIEND, 7500)?.as_deref() == Some("container"), || "7500 is open".into())?;
    ensure(scene.called(FRIEND, 7501)?.is_none(), || "7501 is not".into())?;
    // A test beside this one may publish the same port.
    let ours = format!("netns:{}", scene.host.inode());
    let found = scene.asked(&["list", "port:7500", "state:published", &ours])?;
    ensure(found["sockets"].as_array().unwrap().len() == 1, || format!("port:7500: {found}"))?;
    let mut command = sockwarden(["list", "-H", "--netns", "current", "--columns", "port", "port:8080"]);
    scene.host.enter(&mut command)?;
    let told = String::from_utf8(output(&mut command)?).unwrap_or_default();
    ensure(told.trim() == "8080", || format!("a row hangs on columns: {told:?}"))?;
    // What is redirected to a socket of the same namespace is that socket's own.
    ensure(scene.row(&said, "tcp", 9000).is_none(), || "a row for 9000".into())?;
    ensure(scene.called(FRIEND, 9000)?.as_deref() == Some("host"), || "9000 is the host's".into())?;
    let why = scene.asked(&["why", "tcp/8080"])?;
    let id = &scene.row(&why, "tcp", 8080).ok_or("why knows no row for 8080")?["id"];
    let explained = why["explained"].as_array().unwrap().iter().find(|each| each["socket"] == *id);
    let explained = explained.ok_or("the row is not explained")?;
    let quoted = |list: &Value, field: &str| -> Vec<String> {
        let numbers = list.as_array().unwrap().iter().flat_map(|each| each[field].as_array().unwrap().iter());
        let quotes = numbers.map(|at| &why["evidence"][usize::try_from(at.as_u64().unwrap()).unwrap()]);
        quotes.map(|quote| quote["text"].as_str().unwrap().to_owned()).collect()
    };
    let publishes = "fib daddr type local tcp dport 8080 dnat to 172.17.0.2:80".to_owned();
    ensure(quoted(&explained["closing"], "evidence").contains(&publishes), || {
        format!("closing: {explained}")
    })?;
    let drops = "ip saddr 203.0.113.200 drop".to_owned();
    ensure(quoted(&explained["refused"], "because").contains(&drops), || format!("refused: {explained}"))?;
    // It comes true.
    scene.host.nft("delete rule ip nat before handle 2\n")?;
    ensure(scene.called(FRIEND, 8080)?.is_none(), || "closed without the rule".into())?;
    let said = scene.asked(&["list", "state:published"])?;
    ensure(scene.row(&said, "tcp", 8080).is_none(), || "published no more".into())
}

/// A target at which nobody listens lets nobody in; who is at a far one nobody here can tell.
fn to_nobody_and_elsewhere() -> Outcome {
    let scene = Scene::new(&[])?;
    scene.host.nft(RULES)?;
    let said = scene.asked(&["list", "state:published"])?;
    for (port, netns, address, inner) in
        [(8081, scene.inner.inode(), INNER, 81), (9002, scene.host.inode(), HOST, 9003)]
    {
        let row = scene.row(&said, "tcp", port).ok_or_else(|| format!("no row for {port}"))?;
        let place = |target: &Value| {
            target["netns"] == netns && target["address"] == address && target["port"] == inner
        };
        let nobody = targets(&row).iter().all(|target| target["socket"].is_null());
        ensure(nobody && targets(&row).iter().any(place), || format!("{port}: {row}"))?;
        ensure(row["exposure"]["reach"] == "none", || format!("{port}: {row}"))?;
        ensure(scene.called(FRIEND, u16::try_from(port)?)?.is_none(), || format!("the kernel opens {port}"))?;
    }
    let far = scene.row(&said, "tcp", 8082).ok_or("no row for 8082")?;
    let wanted = serde_json::json!([{"netns": null, "address": "198.51.100.7", "port": 80, "socket": null}]);
    ensure(far["published"]["targets"] == wanted, || format!("far: {far}"))?;
    ensure(far["local"]["address"] == HOST, || format!("one address is published: {far}"))?;
    ensure(verdict(&far, FRIEND, 8082).as_deref() == Some("unknown"), || format!("far: {far}"))?;
    ensure(verdict(&far, FOE, 8082).is_none(), || format!("dropped on the way: {far}"))?;
    ensure(far["exposure"]["certain"] == false, || format!("far: {far}"))?;
    // Whoever looks at one namespace only is told the same of what is behind it.
    let alone = scene.asked(&["list", "state:published", "--netns", "current"])?;
    let row = scene.row(&alone, "tcp", 8080).ok_or("no row for 8080")?;
    ensure(targets(&row)[0]["netns"].is_null(), || format!("alone: {row}"))?;
    ensure(verdict(&row, FRIEND, 8080).as_deref() == Some("unknown"), || format!("alone: {row}"))?;
    ensure(scene.called(FRIEND, 8080)?.as_deref() == Some("container"), || "and yet it is open".into())
}

/// A snapshot judges the same rows anew; what is published no more is told as closed.
fn offline() -> Outcome {
    let scene = Scene::new(&[])?;
    scene.host.nft(RULES)?;
    let folder = tempfile::tempdir()?;
    let take = |name: &str| -> Outcome<String> {
        let file = folder.path().join(name).display().to_string();
        let mut command = sockwarden(["snapshot", "--netns", "current", "-o", &file]);
        scene.host.enter(&mut command)?;
        output(&mut command)?;
        Ok(file)
    };
    let before = take("before")?;
    let live = scene.asked(&["list", "state:published", "--netns", "current"])?;
    ensure(!live["sockets"].as_array().unwrap().is_empty(), || "rows".into())?;
    let said = scene.asked(&["list", "state:published", "--from", &before])?;
    ensure(said["sockets"] == live["sockets"], || format!("from a snapshot: {said}, live: {live}"))?;
    scene.host.nft("flush table ip nat\n")?;
    let after = take("after")?;
    let mut command = sockwarden(["diff", "--json", &before, &after]);
    let done = command.stdin(Stdio::null()).output()?;
    ensure(done.status.code() == Some(1), || format!("diff ends with {}", done.status))?;
    let said: Value = serde_json::from_slice(&done.stdout)?;
    let closed = said.to_string().contains(r#""change":"closed""#);
    ensure(closed && said.to_string().contains("8080"), || format!("diff: {said}"))
}

/// A proxy holds the published port, as docker-proxy does: it is not taken for the service.
fn beside_a_proxy(iptables: &str) -> Outcome {
    let scene = Scene::new(&["tcp:8080"])?;
    let program = find_program(iptables).ok_or("iptables")?;
    for rule in [
        "-t nat -A PREROUTING -m addrtype --dst-type LOCAL -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80",
        "-t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
        "-A FORWARD -s 203.0.113.200/32 -j DROP",
        "-A INPUT -i wan0 -j DROP",
    ] {
        output(scene.host.command(&program)?.args(rule.split(' ')))?;
    }
    let said = scene.asked(&["list", "-l"])?;
    let row = scene.row(&said, "tcp", 8080).ok_or("no row for 8080")?;
    ensure(verdict(&row, FRIEND, 8080).as_deref() == Some("accept"), || format!("friend: {row}"))?;
    ensure(verdict(&row, FOE, 8080).is_none(), || format!("foe: {row}"))?;
    let proxy = said["sockets"]
        .as_array()
        .unwrap()
        .iter()
        .find(|socket| socket["netns"]["inode"] == scene.host.inode() && socket["state"] == "listen");
    let proxy = proxy.ok_or("the proxy is not listed")?;
    ensure(proxy["exposure"]["reach"] == "host" && proxy["exposure"]["certain"] == true, || {
        format!("the proxy: {proxy}")
    })?;
    ensure(scene.called(FRIEND, 8080)?.as_deref() == Some("container"), || "the container answers".into())?;
    ensure(scene.called(FOE, 8080)?.is_none(), || "the kernel keeps the foe out".into())
}
