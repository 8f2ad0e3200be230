//! What a line of `watch --json` means to somebody at a desk. Reads any bytes; what it does not
//! understand is no news.

use serde::Deserialize;

use crate::finding::Severity;
use crate::model::Reach;

/// Longer lines are no news of ours.
pub(crate) const LONGEST: usize = 4 << 20;
/// What one item shows of a text, in characters.
const SHOWN: usize = 300;

/// One thing to tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// By which it is known again.
    pub key: String,
    /// What it is grouped by, and what it is called.
    pub program: String,
    pub name: String,
    pub severity: Severity,
    /// In plain words.
    pub title: String,
    pub text: String,
    /// What `sockwarden why` is asked: `tcp/6379`.
    pub target: Option<String>,
    /// Commands with their undo, to read and copy.
    pub fix: Vec<String>,
}

/// What a line asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum News {
    /// `standing`: it stood when the watch began.
    Come { item: Item, standing: bool },
    /// The finding or listener of this key has gone.
    Gone(String),
}

#[derive(Deserialize)]
struct Line {
    kind: String,
    change: String,
    #[serde(default)]
    seen_by: String,
    socket: Option<Socket>,
    before: Option<Socket>,
    finding: Option<Finding>,
    #[serde(default)]
    sockets: Vec<Socket>,
}

#[derive(Deserialize)]
struct Socket {
    protocol: String,
    local: Option<Local>,
    #[serde(default)]
    owners: Vec<Owner>,
    exposure: Option<Exposure>,
}

#[derive(Deserialize)]
struct Local {
    address: Option<String>,
    port: Option<u32>,
}

#[derive(Deserialize)]
struct Owner {
    name: String,
    exe: Option<String>,
    unit: Option<String>,
}

#[derive(Deserialize)]
struct Exposure {
    reach: String,
}

#[derive(Deserialize)]
struct Finding {
    rule: String,
    title: String,
    severity: String,
    message: String,
    fingerprint: String,
    #[serde(default)]
    remedies: Vec<Remedy>,
}

#[derive(Deserialize)]
struct Remedy {
    title: String,
    #[serde(default)]
    commands: Vec<String>,
    #[serde(default)]
    undo: Vec<String>,
}

/// Understands one line; `least`: findings below are no news.
pub fn read(line: &str, least: Severity) -> Option<News> {
    if line.len() > LONGEST {
        return None;
    }
    let line: Line = serde_json::from_str(line).ok().filter(|line: &Line| line.kind == "change")?;
    let standing = line.seen_by == "start";
    match line.change.as_str() {
        "finding" => {
            let item = of_finding(&line, least)?;
            Some(News::Come { item, standing })
        }
        "cleared" => Some(News::Gone(line.finding?.fingerprint)),
        "opened" | "reach" => {
            let item = of_listener(&line)?;
            Some(News::Come { item, standing })
        }
        "closed" => Some(News::Gone(listener_key(line.socket.as_ref()?))),
        _ => None,
    }
}

fn of_finding(line: &Line, least: Severity) -> Option<Item> {
    let finding = line.finding.as_ref()?;
    let severity = Severity::from_name(&finding.severity).filter(|severity| *severity >= least)?;
    let socket = line.sockets.first();
    let fix = finding.remedies.iter().flat_map(|remedy| {
        let commands = remedy.commands.iter().map(|command| format!("    {command}"));
        let undo = remedy.undo.iter().map(|command| format!("    undo: {command}"));
        std::iter::once(remedy.title.clone()).chain(commands).chain(undo).collect::<Vec<_>>()
    });
    Some(Item {
        key: finding.fingerprint.clone(),
        program: socket.map_or_else(|| finding.rule.clone(), program),
        name: socket.map_or_else(|| finding.rule.clone(), name),
        severity,
        title: short(&finding.title),
        text: short(&finding.message),
        target: socket.and_then(target),
        fix: fix.take(200).map(|line| short(&line)).collect(),
    })
}

/// A listener that others can reach, and could not before.
fn of_listener(line: &Line) -> Option<Item> {
    let socket = line.socket.as_ref()?;
    let reach = |socket: &Socket| Reach::from_name(&socket.exposure.as_ref()?.reach);
    let now = reach(socket).filter(|reach| beyond(*reach))?;
    if line.change == "reach" && line.before.as_ref().and_then(reach).is_some_and(|was| was >= now) {
        return None;
    }
    let from = match now {
        Reach::Internet => "can now be reached from the internet",
        Reach::Lan => "can now be reached from your whole network",
        Reach::Link => "can now be reached from its own network link",
        Reach::Container => "can now be reached from containers",
        Reach::Unknown | Reach::None | Reach::Process | Reach::Host => "may now be reached from elsewhere",
    };
    let local = socket.local.as_ref()?;
    let port = local.port.map(|port| format!(" port {port}")).unwrap_or_default();
    let address = local.address.clone().unwrap_or_default();
    Some(Item {
        key: listener_key(socket),
        program: program(socket),
        name: name(socket),
        severity: Severity::Low,
        title: short(&format!("{} {from}", name(socket))),
        text: short(&format!("{}{port} on {address}", socket.protocol)),
        target: target(socket),
        fix: Vec::new(),
    })
}

fn beyond(reach: Reach) -> bool {
    match reach {
        Reach::Container | Reach::Link | Reach::Lan | Reach::Internet | Reach::Unknown => true,
        Reach::None | Reach::Process | Reach::Host => false,
    }
}

/// A listener once each: by program, protocol and port.
fn listener_key(socket: &Socket) -> String {
    let port = socket.local.as_ref().and_then(|local| local.port).unwrap_or_default();
    format!("listener {} {} {port}", program(socket), socket.protocol)
}

fn program(socket: &Socket) -> String {
    let Some(owner) = socket.owners.first() else { return "nobody".to_owned() };
    owner.unit.as_ref().or(owner.exe.as_ref()).unwrap_or(&owner.name).clone()
}

fn name(socket: &Socket) -> String {
    socket.owners.first().map_or_else(|| "a program that nobody saw".to_owned(), |owner| short(&owner.name))
}

/// Made of a protocol's name and a number: harmless wherever it goes.
fn target(socket: &Socket) -> Option<String> {
    let port = socket.local.as_ref()?.port?;
    crate::model::Protocol::from_name(&socket.protocol).map(|protocol| format!("{}/{port}", protocol.name()))
}

fn short(text: &str) -> String {
    text.chars().take(SHOWN).map(|c| if crate::model::harmless(c) { c } else { '\u{fffd}' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(change: &str, reach: &str, seen_by: &str) -> String {
        format!(
            r#"{{"schema":"sockwarden/v1","kind":"change","change":"{change}","seen_by":"{seen_by}",
            "socket":{{"protocol":"tcp","local":{{"address":"0.0.0.0","port":6379}},
            "owners":[{{"name":"redis-server","exe":"/usr/bin/redis-server","unit":null}}],
            "exposure":{{"reach":"{reach}","certain":true,"paths":[]}}}},"before":null,"finding":null}}"#
        )
    }

    #[test]
    fn a_listener_beyond_loopback_is_told_in_plain_words() {
        let Some(News::Come { item, standing }) = read(&line("opened", "lan", "look"), Severity::High) else {
            panic!("no news")
        };
        assert_eq!(item.title, "redis-server can now be reached from your whole network");
        assert_eq!((item.target.as_deref(), standing), (Some("tcp/6379"), false));
        assert_eq!(read(&line("opened", "host", "look"), Severity::High), None);
        assert!(matches!(read(&line("closed", "lan", "look"), Severity::High), Some(News::Gone(_))));
    }

    #[test]
    fn a_hostile_name_loses_its_teeth() {
        let hostile = line("opened", "lan", "look").replace("\"redis-server\"", "\"a\\u001b[2J\\u202e\\n\"");
        let Some(News::Come { item, .. }) = read(&hostile, Severity::High) else { panic!("no news") };
        assert!(item.title.chars().all(crate::model::harmless), "{:?}", item.title);
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_it_panic(text in "\\PC{0,200}", cut in 0_usize..400) {
            let _ = read(&text, Severity::Info);
            let whole = line("opened", "lan", "look");
            let _ = read(&whole[..cut.min(whole.len())], Severity::Info);
        }
    }
}
