//! From a service to the text of its rule: `[when]` for a program that is known, `[probably]` for
//! its port alone.

use super::sensitivity::{CLASSES, Severities, guess};
use super::text::{list, quote, table};
use super::{Program, Service, WIDE};

/// What takes connections for others, so that the port says more than the program.
const FORWARDERS: &str = r#"["docker-proxy", "rootlessport", "rootlesskit", "slirp4netns", "pasta*", "passt*", "systemd-socket-proxyd", "gvproxy", "conmon", "systemd"]"#;
const TCP: &str = r#"["tcp", "mptcp"]"#;
const UDP: &str = r#""udp""#;

/// The whole rule; `fixes` are its remedies and `examples` its examples, as text.
pub(super) fn rule(service: &Service<'_>, fixes: &str, examples: &str) -> String {
    let guess = Guess::new(service);
    let sure = sure(service);
    let mut text = String::new();
    match (sure, guess) {
        (Some(when), guess) => {
            head(service, &service.title, &service.severities, &service.confidence, &mut text);
            text.push_str(&format!("\n[when]\n{when}"));
            if let Some(guess) = guess {
                text.push_str(&format!(
                    "\n[probably]\ntitle = {}\nseverity = {}\nconfidence = {}\n\n[probably.when]\n{}",
                    quote(&guess.title),
                    severity(&guess.severities),
                    quote(guess.confidence),
                    guess.when
                ));
            }
        }
        // No program is known: the port is all there is.
        (None, Some(guess)) => {
            head(service, &guess.title, &guess.severities, guess.confidence, &mut text);
            text.push_str(&format!("\n[when]\n{}", guess.when));
        }
        (None, None) => {}
    }
    text.push_str(fixes);
    text.push_str(examples);
    text
}

fn head(service: &Service<'_>, title: &str, severities: &Severities, confidence: &str, text: &mut String) {
    text.push_str(&format!(
        "title = {}\nseverity = {}\nconfidence = {}\nwhy = {}\n",
        quote(title),
        severity(severities),
        quote(confidence),
        quote(&service.why)
    ));
    if !service.references.is_empty() {
        text.push_str(&format!("references = {}\n", list(&service.references)));
    }
    if service.overrides {
        text.push_str("override = true\n");
    }
}

fn severity(severities: &Severities) -> String {
    let named: Vec<String> = CLASSES
        .iter()
        .zip(severities)
        .filter_map(|(class, severity)| {
            Some(format!("{} = {}", class.name(), quote(severity.as_ref()?.name())))
        })
        .collect();
    format!("{{ {} }}", named.join(", "))
}

fn reach(severities: &Severities) -> String {
    let named: Vec<String> = CLASSES
        .iter()
        .zip(severities)
        .filter(|(_, severity)| severity.is_some())
        .map(|(class, _)| class.name().to_owned())
        .chain(["unknown".to_owned()])
        .collect();
    format!("reach = {}\n", list(&named))
}

/// Protocols and roles that can matter at all; more roles than these may be `published`.
fn kinds(service: &Service<'_>, published: bool) -> String {
    let (tcp, udp) = (!service.tcp.is_empty(), !service.udp.is_empty());
    let protocols = match (tcp, udp) {
        (true, false) => TCP,
        (false, true) => UDP,
        (true, true) | (false, false) => r#"["tcp", "mptcp", "udp"]"#,
    };
    let mut roles = Vec::new();
    roles.extend(tcp.then(|| "listener".to_owned()));
    roles.extend(udp.then(|| "receiver".to_owned()));
    roles.extend(published.then(|| "published".to_owned()));
    format!("protocol = {protocols}\nrole = {}\n", list(&roles))
}

/// Lines of a condition that must hold together.
type Parts = Vec<String>;

/// Where the program says what it is; `None` when no program is known.
fn sure(service: &Service<'_>) -> Option<String> {
    let both: Vec<Program<'_>> = service.programs.iter().chain(&service.at_port).cloned().collect();
    let port = |ranges| format!("port = {}", ports(ranges, false));
    let mut branches: Vec<(&str, Parts)> = Vec::new();
    if !service.tcp.is_empty() {
        branches.extend(known(&service.programs).map(|who| (TCP, vec![who])));
        branches.extend(known(&service.at_port).map(|who| (TCP, vec![port(&service.tcp), who])));
    }
    if !service.udp.is_empty() {
        // A program sends from many UDP ports and receives on few.
        branches.extend(known(&both).map(|who| (UDP, vec![port(&service.udp), who])));
    }
    if service.kernel {
        let kernel = || "owner_gap = \"kernel\"".to_owned();
        for (protocol, ranges) in [(TCP, &service.tcp), (UDP, &service.udp)] {
            branches.extend((!ranges.is_empty()).then(|| (protocol, vec![port(ranges), kernel()])));
        }
    }
    if branches.is_empty() {
        return None;
    }
    // Who is not seen is told of by its port, and of all others by the gap about hidden owners.
    Some(format!(
        "{}{}not.owner_gap = \"hidden\"\n{}",
        kinds(service, false),
        reach(&service.severities),
        one_of(branches, service)
    ))
}

/// One of these ways, each of them for one protocol.
fn one_of(branches: Vec<(&str, Parts)>, service: &Service<'_>) -> String {
    let single = service.tcp.is_empty() || service.udp.is_empty();
    match &branches[..] {
        [(_, parts)] if single => format!("{}\n", parts.join("\n")),
        _ => {
            let branch = |(protocol, parts): &(&str, Parts)| {
                format!("    {{ protocol = {protocol}, {} }},\n", parts.join(", "))
            };
            format!("any = [\n{}]\n", branches.iter().map(branch).collect::<String>())
        }
    }
}

/// `process = { any = [ … ] }` for one of these programs.
fn known(programs: &[Program<'_>]) -> Option<String> {
    let words: Vec<String> = programs
        .iter()
        .filter_map(|program| match program {
            Program::Word(word) => Some(word.clone()),
            Program::Facts(_) => None,
        })
        .collect();
    let mut ways = Vec::new();
    if !words.is_empty() {
        ways.push(format!("{{ program = {} }}", list(&words)));
        // Debian's redis-server is a link, and a program may be a script: then its name tells.
        let short: Vec<String> = words.into_iter().filter(|word| fits_comm(word)).collect();
        if !short.is_empty() {
            ways.push(format!("{{ name = {} }}", list(&short)));
        }
    }
    ways.extend(programs.iter().filter_map(|program| match program {
        Program::Facts(facts) => Some(table(facts)),
        Program::Word(_) => None,
    }));
    match &ways[..] {
        [] => None,
        [one] => Some(format!("process = {one}")),
        _ => Some(format!("process = {{ any = [{}] }}", ways.join(", "))),
    }
}

/// A pattern that no name of 15 bytes could match is an error in a rule; a plain word is cut.
fn fits_comm(word: &str) -> bool {
    !word.contains(['*', '?', '[']) || word.len() <= 15
}

fn ports(ranges: &[(u16, u16)], narrow: bool) -> String {
    let shown: Vec<String> = ranges
        .iter()
        .filter(|range| !narrow || is_narrow(range))
        .map(|(first, last)| if first == last { first.to_string() } else { format!("\"{first}-{last}\"") })
        .collect();
    format!("[{}]", shown.join(", "))
}

pub(super) fn is_narrow((first, last): &(u16, u16)) -> bool {
    last - first < WIDE
}

/// What the port alone says.
pub(super) struct Guess {
    pub(super) title: String,
    pub(super) severities: Severities,
    pub(super) confidence: &'static str,
    pub(super) when: String,
}

impl Guess {
    /// `None` where a port says too little: a wide range, or a shared one of small weight.
    pub(super) fn new(service: &Service<'_>) -> Option<Self> {
        let severities = service.severities.map(|sure| guess(sure?, service.shared));
        severities[0]?;
        let narrow = |ranges: &[(u16, u16)]| {
            ranges.iter().any(is_narrow).then(|| vec![format!("port = {}", ports(ranges, true))])
        };
        let mut branches: Vec<(&str, Parts)> = Vec::new();
        branches.extend(narrow(&service.tcp).map(|parts| (TCP, parts)));
        if let Some(mut parts) = narrow(&service.udp) {
            // A program sends from the kernel's range: a port of it is a service only by chance.
            if service.udp.iter().any(|(_, last)| *last >= 32768) {
                parts.push("ephemeral = false".to_owned());
            }
            branches.push((UDP, parts));
        }
        if branches.is_empty() {
            return None;
        }
        let mut when = one_of(branches, service);
        if service.shared {
            // Only where the program that is seen, if any, cannot tell.
            when.push_str(&format!(
                "all = [{{ any = [{{ owned = false }}, {{ owner_gap = \"hidden\" }}, {{ process.any = [{{ program = {FORWARDERS} }}, {{ name = {FORWARDERS} }}] }}] }}]\n"
            ));
        }
        let title = if service.shared {
            format!(
                "Probably {}, or another service of this port, can be reached from other computers",
                service.name
            )
        } else if service.title.starts_with(&service.name) {
            format!("Probably {}", service.title)
        } else {
            format!("Probably: {}", service.title)
        };
        let sound = !service.shared && service.confidence == "high";
        Some(Self {
            title,
            severities,
            confidence: if sound { "medium" } else { "low" },
            when: format!("{}{}{when}", kinds(service, true), reach(&severities)),
        })
    }
}
