//! `why` against the kernel: the rule that it names is the one that nft lists under that handle, what it
//! supposes comes true when it is done, and a snapshot gives the same answers.

use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::lab::{
    Need, Netns, Outcome, Program, Stop, cable, find_program, maker, output, sockwarden, trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    const NEEDS: &[Need] = &[Need::Root, Need::Tool("ip"), Need::Tool("nft")];
    const IPTABLES: &[Need] = &[
        Need::Root,
        Need::Tool("ip"),
        Need::Tool("nft"),
        Need::Tool("iptables-nft"),
        Need::Tool("iptables-legacy"),
    ];
    vec![
        trial("whys::deciding_rules_are_those_of_nft", NEEDS, deciding_rules),
        trial("whys::what_would_close_does", NEEDS, closing),
        trial("whys::a_snapshot_answers_the_same", NEEDS, offline),
        trial("whys::rules_of_iptables_are_quoted_too", IPTABLES, iptables),
    ]
}

/// Listens on these ports of all addresses, IPv4 only, until it is told to end.
fn listen(args: &[std::ffi::OsString]) -> std::io::Result<()> {
    let ports = args.iter().map(|port| port.to_string_lossy().parse().unwrap_or(0));
    let held: Vec<_> = ports.map(|port: u16| std::net::TcpListener::bind(("0.0.0.0", port))).collect();
    let held: Result<Vec<_>, _> = held.into_iter().collect();
    let _held = held?;
    crate::lab::hold()
}

pub(crate) fn makers() -> Vec<crate::lab::Maker> {
    vec![("listen", listen)]
}

const RULES: &str = r#"
table inet filter {
    set admins { type ipv4_addr; flags interval; elements = { 192.0.2.0/28, 8.8.8.8 }
    }
    chain services {
        tcp dport 443 accept comment "the web: everybody"
    }
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iif "lo" accept
        ip saddr 192.0.2.9 drop
        tcp dport 22 ip saddr @admins accept
        jump services
        tcp dport 9000 limit rate 10/second accept
    }
}
"#;

/// A host with listeners and rules, and a neighbour with three addresses.
struct Scene {
    host: Netns,
    there: Netns,
    _listener: Program,
}

const HOST: &str = "192.0.2.1";
const ADMIN: &str = "192.0.2.2";
const BANNED: &str = "192.0.2.9";
const OTHER: &str = "192.0.2.77";

impl Scene {
    fn new() -> Outcome<Self> {
        let (host, there) = (Netns::new()?, Netns::new()?);
        let theirs = ["192.0.2.2/24", "192.0.2.9/24", "192.0.2.77/24"];
        cable((&host, "eth0", &["192.0.2.1/24"]), (&there, "eth0", &theirs))?;
        host.nft(RULES)?;
        let mut command = maker("listen");
        command.args(["22", "443", "8080", "9000"]);
        host.enter(&mut command)?;
        let mut listener = Program::start(&mut command)?;
        listener.until_ready()?;
        Ok(Self { host, there, _listener: listener })
    }

    fn connects(&self, from: &str, port: u16) -> Outcome<bool> {
        Ok(self.there.connect(from, (HOST, port), Duration::from_millis(1500))?.is_ok())
    }

    fn why(&self, args: &[&str]) -> Outcome<Value> {
        let mut command = sockwarden(["why"].iter().chain(args).chain(&["--json", "--netns", "current"]));
        self.host.enter(&mut command)?;
        Ok(serde_json::from_slice(&output(&mut command)?)?)
    }
}

/// The line with this handle, or the head of the chain, as nft lists it.
fn listed(host: &Netns, family: &str, chain: &str, handle: Option<u64>) -> Outcome<String> {
    let nft = find_program("nft").ok_or("nft")?;
    let said = output(host.command(nft)?.args(["-s", "-a", "list", "chain", family, "filter", chain]))?;
    let said = String::from_utf8_lossy(&said).into_owned();
    let line = match handle {
        Some(handle) => said.lines().find_map(|line| line.strip_suffix(&format!(" # handle {handle}"))),
        None => said.lines().find(|line| line.trim().starts_with("type ")),
    };
    Ok(line.ok_or_else(|| format!("no such line in {said}"))?.trim().to_owned())
}

/// Every rule that stands in `because` of these.
fn quoted<'v>(document: &'v Value, list: &'v Value) -> Vec<&'v Value> {
    let because = list.as_array().unwrap().iter().flat_map(|each| each["because"].as_array().unwrap());
    because.map(|at| &document["evidence"][usize::try_from(at.as_u64().unwrap()).unwrap()]).collect()
}

fn expect(is: bool, what: &str, document: &Value) -> Outcome {
    if is { Ok(()) } else { Err(Stop::Fail(format!("{what}: {}", document["explained"]))) }
}

/// For each source and port: the answer, what the kernel does, and the rule as nft lists it.
fn deciding_rules() -> Outcome {
    let scene = Scene::new()?;
    let cases = [
        (ADMIN, 22, "yes", "input", Some("tcp dport 22 ip saddr @admins accept")),
        (OTHER, 22, "no", "input", None),
        (BANNED, 22, "no", "input", Some("ip saddr 192.0.2.9 drop")),
        (OTHER, 443, "yes", "services", Some("tcp dport 443 accept comment \"the web: everybody\"")),
        (BANNED, 443, "no", "input", Some("ip saddr 192.0.2.9 drop")),
        (OTHER, 8080, "no", "input", None),
        (OTHER, 9000, "unknown", "input", Some("tcp dport 9000 limit rate 10/second accept")),
    ];
    for (source, port, answer, chain, rule) in cases {
        let document = scene.why(&[&port.to_string(), "--from", source, "--interface", "eth0"])?;
        let asked = &document["explained"][0]["asked"];
        let what = format!("{source} to {port}");
        expect(asked["answer"] == answer, &what, &document)?;
        if answer != "unknown" {
            expect(scene.connects(source, port)? == (answer == "yes"), &what, &document)?;
        }
        let list = if answer == "no" { &asked["refused"] } else { &asked["paths"] };
        let quotes = quoted(&document, list);
        expect(!quotes.is_empty(), &what, &document)?;
        for quote in quotes {
            let place = quote["where"].as_str().unwrap().rsplit('/').next().unwrap();
            let line = listed(&scene.host, "inet", place, quote["handle"].as_u64())?;
            expect(quote["text"] == line, &format!("{what}: nft says {line}, we {quote}"), &document)?;
        }
        let first = quoted(&document, list)[0];
        expect(first["where"] == format!("inet filter/{chain}"), &what, &document)?;
        match rule {
            Some(rule) => expect(first["text"] == rule, &what, &document)?,
            None => expect(first["handle"].is_null(), "the policy decides", &document)?,
        }
    }
    Ok(())
}

/// The rule that would have to go is deleted, and the way is shut.
fn closing() -> Outcome {
    let scene = Scene::new()?;
    let document = scene.why(&["443"])?;
    let explained = &document["explained"][0];
    let absent = explained["closing"].as_array().unwrap().iter().find(|each| each["by"] == "rule-absent");
    let absent = absent.ok_or_else(|| format!("no rule to take away: {explained}"))?;
    expect(absent["closes"] == true && absent["reach"] == "host", "the one rule that lets in", &document)?;
    let evidence = &document["evidence"][usize::try_from(absent["evidence"][0].as_u64().unwrap()).unwrap()];
    expect(evidence["where"] == "inet filter/services", "where it stands", &document)?;
    expect(scene.connects(OTHER, 443)?, "open before", &document)?;
    let handle = evidence["handle"].as_u64().unwrap();
    scene.host.nft(&format!("delete rule inet filter services handle {handle}\n"))?;
    expect(!scene.connects(OTHER, 443)?, "shut after", &document)?;
    let document = scene.why(&["443"])?;
    expect(document["sockets"][0]["exposure"]["reach"] == "host", "as it was foretold", &document)?;
    let closing = document["explained"][0]["closing"].as_array().unwrap();
    expect(closing.is_empty(), "nothing is open any more", &document)
}

/// Live, from a snapshot, and from the kernel's own bytes: one answer.
fn offline() -> Outcome {
    let scene = Scene::new()?;
    let folder = tempfile::tempdir()?;
    let (file, raw) = (folder.path().join("snapshot.json"), folder.path().join("raw"));
    let mut take = sockwarden(["snapshot", "--netns", "current", "-o"]);
    take.arg(&file).arg("--raw").arg(&raw);
    scene.host.enter(&mut take)?;
    output(&mut take)?;
    for port in ["22", "443", "9000"] {
        for asked in [&[][..], &["--from", OTHER, "--interface", "eth0"]] {
            let args: Vec<&str> = [port].iter().chain(asked).copied().collect();
            let live = scene.why(&args)?;
            for place in [&file, &raw] {
                let mut command = sockwarden(["why"].iter().chain(&args).chain(&["--json", "--from"]));
                let said: Value = serde_json::from_slice(&output(command.arg(place))?)?;
                expect(said["explained"] == live["explained"], "explained", &said)?;
                expect(said["evidence"] == live["evidence"], "evidence", &said)?;
            }
        }
    }
    Ok(())
}

/// Extensions of iptables inside nftables, and the older tables beside them: the words are those of the
/// programs that keep them, in a snapshot too.
fn iptables() -> Outcome {
    let scene = Scene::new()?;
    scene.host.nft("flush ruleset\n")?;
    for (program, rule) in [
        ("iptables-nft", "-A INPUT -p tcp -m multiport --dports 80,443 -m comment --comment web -j ACCEPT"),
        ("iptables-nft", "-A INPUT -i eth0 -j DROP"),
        ("iptables-legacy", "-A INPUT -i lo -j ACCEPT"),
        ("iptables-legacy", "-A INPUT -s 192.0.2.9/32 -p tcp -m tcp --dport 443 -j DROP"),
    ] {
        let program = find_program(program).ok_or("iptables")?;
        output(scene.host.command(program)?.args(rule.split(' ')))?;
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("snapshot.json");
    let mut take = sockwarden(["snapshot", "--netns", "current", "-o"]);
    take.arg(&file);
    scene.host.enter(&mut take)?;
    output(&mut take)?;
    let document = scene.why(&["443"])?;
    let explained = &document["explained"][0];
    let exposure = &document["sockets"][0]["exposure"];
    let eth0 =
        exposure["paths"].as_array().unwrap().iter().filter(|path| path["entry"]["interfaces"][0] == "eth0");
    let paths = Value::Array(eth0.cloned().collect());
    let web = quoted(&document, &paths)[0];
    let line = listed(&scene.host, "ip", "INPUT", web["handle"].as_u64())?;
    expect(
        web["where"] == "ip filter/INPUT" && web["text"] == line,
        &format!("nft says {line}, we {web}"),
        &document,
    )?;
    let refused = quoted(&document, &explained["refused"]);
    let banned = refused.iter().find(|each| each["where"] == "iptables filter/INPUT");
    let banned = banned.ok_or_else(|| format!("the legacy rule is not quoted: {refused:?}"))?;
    let words = "-A INPUT -s 192.0.2.9/32 -p tcp -m tcp --dport 443 -j DROP";
    expect(banned["text"] == words && banned["handle"] == 2, "in the words of iptables-save", &document)?;
    expect(!scene.connects(BANNED, 443)? && scene.connects(OTHER, 443)?, "as the kernel has it", &document)?;
    let mut command = sockwarden(["why", "443", "--json", "--from"]);
    let said: Value = serde_json::from_slice(&output(command.arg(&file))?)?;
    expect(said["evidence"] == document["evidence"], "a snapshot carries the words", &said)
}
