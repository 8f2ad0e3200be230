//! Examples of a service: those of its file, and those that follow from what the file says, so that
//! every port, program and class of reach is tried both ways.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::expand::{Guess, is_narrow};
use super::sensitivity::CLASSES;
use super::text::{quote, value};
use super::{Program, Service};
use crate::finding::Severity;
use crate::model::Reach;
use crate::rules::example::{self, Example};
use crate::rules::reader::Reader;

/// The examples of the file as those of a rule: checked, and a socket without `protocol` and `role`
/// gets those of the service.
pub(super) fn written(reader: &mut Reader, table: &DeTable<'_>) -> Option<String> {
    let usual = if table.contains_key("tcp") { "tcp" } else { "udp" };
    let mut filled = DeTable::new();
    for key in ["fires", "quiet"] {
        if let Some((key, node)) = table.get_key_value(key) {
            let mut node = node.clone();
            let items: Vec<&mut DeValue<'_>> = if let DeValue::Array(items) = node.get_mut() {
                items.iter_mut().map(Spanned::get_mut).collect()
            } else {
                vec![node.get_mut()]
            };
            items.into_iter().for_each(|item| fill(item, usual));
            filled.insert(key.clone(), node);
        }
    }
    let known = example::read(reader, &filled);
    let mut text = String::new();
    for key in ["fires", "quiet"] {
        let Some(node) = filled.get(key) else { continue };
        for each in reader.list(node, key) {
            let Some(fields) = each.get_ref().as_table() else { continue };
            text.push_str(&format!("\n[[{key}]]\n"));
            for (name, field) in fields {
                text.push_str(&format!("{} = {}\n", name.get_ref(), value(field.get_ref())));
            }
        }
    }
    (!known.is_empty() || !reader.is_clean()).then_some(text)
}

fn fill(example: &mut DeValue<'_>, usual: &'static str) {
    let DeValue::Table(example) = example else { return };
    let Some(DeValue::Table(socket)) = example.get_mut("socket").map(Spanned::get_mut) else { return };
    let protocol = socket.get("protocol").map_or(Some(usual), |node| node.get_ref().as_str());
    let role = if protocol == Some("udp") { "receiver" } else { "listener" };
    if !socket.contains_key("role") && !socket.contains_key("state") {
        put(socket, "role", role);
    }
    if !socket.contains_key("protocol") {
        put(socket, "protocol", usual);
    }
}

fn put(table: &mut DeTable<'_>, key: &'static str, word: &'static str) {
    table.insert(Spanned::new(0..0, key.into()), Spanned::new(0..0, DeValue::String(word.into())));
}

/// The examples that follow from a service file.
pub(crate) fn made(file: &str, source: &str) -> Vec<Example> {
    let mut reader = Reader::new(file.to_owned(), source.into());
    let table = reader.parse(source);
    let Some(service) = super::read(&mut reader, &table) else { return Vec::new() };
    let text = text(&service);
    let mut reader = Reader::new(file.to_owned(), text.as_str().into());
    let table = reader.parse(&text);
    example::read(&mut reader, &table)
}

/// A port that no service file names.
const ELSEWHERE: u16 = 61_999;
const ANOTHER: &str = r#"{ name = "another", exe = "/usr/bin/another", cmdline = ["another", "--serve"], cwd = "/", unit = "another.service", package = "another", container = "none", user = "another", parents = ["init"] }"#;
const FORWARDER: &str = r#"{ name = "docker-proxy", exe = "/usr/bin/docker-proxy", cmdline = ["docker-proxy"], unit = "docker.service", container = "none" }"#;

/// Gathers `[[fires]]` and `[[quiet]]`.
#[derive(Default)]
struct Maker {
    text: String,
    count: usize,
}

/// One made example; what is not said is that of a listener on every address.
#[derive(Clone)]
struct Made<'s> {
    about: String,
    protocol: &'s str,
    role: &'s str,
    port: u16,
    reach: Reach,
    process: Option<&'s str>,
    more: &'s str,
    severity: Option<Severity>,
}

impl Maker {
    fn push(&mut self, made: &Made<'_>) {
        self.count += 1;
        let kind = if made.severity.is_some() { "fires" } else { "quiet" };
        let host = match made.reach {
            Reach::Lan => "192.168.1.5",
            Reach::Link => "169.254.3.3",
            Reach::Container => "172.17.0.1",
            Reach::Host => "127.0.0.1",
            Reach::Internet | Reach::Unknown | Reach::None | Reach::Process => "0.0.0.0",
        };
        self.text.push_str(&format!(
            "[[{kind}]]\nname = {}\nhost = {{ ephemeral = \"65100-65400\" }}\nsocket = {{ protocol = \"{}\", role = \"{}\", local = \"{host}:{}\", reach = \"{}\"{} }}\n",
            quote(&format!("made: {} ({})", made.about, self.count)),
            made.protocol,
            made.role,
            made.port,
            made.reach.name(),
            made.more,
        ));
        if let Some(process) = made.process {
            self.text.push_str(&format!("process = {process}\n"));
        }
        if let Some(severity) = made.severity {
            self.text.push_str(&format!("severity = \"{}\"\n", severity.name()));
        }
    }
}

fn text(service: &Service<'_>) -> String {
    let mut maker = Maker::default();
    let programs: Vec<String> = service.programs.iter().filter_map(process).collect();
    let at_port: Vec<String> = service.at_port.iter().filter_map(process).collect();
    let protocols: Vec<(&str, &[(u16, u16)])> = [("tcp", &service.tcp[..]), ("udp", &service.udp[..])]
        .into_iter()
        .filter(|(_, ports)| !ports.is_empty())
        .collect();
    let guess = Guess::new(service);
    let nobody = r#""none""#;
    for (protocol, ports) in protocols {
        let port = ports[0].0;
        let role = if protocol == "udp" { "receiver" } else { "listener" };
        let door = Made {
            about: String::new(),
            protocol,
            role,
            port,
            reach: Reach::Internet,
            process: None,
            more: "",
            severity: None,
        };
        let worst = service.severities[0];
        let (sure, owner): (Vec<&String>, &str) = (programs.iter().chain(&at_port).collect(), "");
        for process in &sure {
            maker.push(&Made {
                about: "its program".to_owned(),
                process: Some(process),
                severity: worst,
                more: owner,
                ..door.clone()
            });
        }
        let first = match sure.first() {
            Some(process) => Some((process.as_str(), "")),
            None if service.kernel => Some((nobody, ", owner_gap = \"kernel\"")),
            // No program is known, so any will do.
            None => Some((ANOTHER, "")).filter(|_| guess.is_some() && is_narrow(&ports[0])),
        };
        let by_class = match &guess {
            Some(guess) if sure.is_empty() && !service.kernel => guess.severities,
            Some(_) | None => service.severities,
        };
        if let Some((process, more)) = first {
            let first = Made { process: Some(process), more, ..door.clone() };
            for (class, severity) in CLASSES.into_iter().zip(by_class).chain([(Reach::Unknown, by_class[0])])
            {
                maker.push(&Made {
                    about: format!("reach {}", class.name()),
                    reach: class,
                    severity,
                    ..first.clone()
                });
            }
            maker.push(&Made {
                about: "by another protocol".to_owned(),
                protocol: "sctp",
                role: "listener",
                ..first.clone()
            });
            let far = ", remote = \"198.51.100.7:40000\"";
            maker.push(&Made {
                about: "a connection".to_owned(),
                role: "outbound",
                more: far,
                process: Some(process),
                ..door.clone()
            });
        }
        let elsewhere = Made { port: ELSEWHERE, ..door.clone() };
        for process in &programs {
            let severity = worst.filter(|_| protocol == "tcp");
            maker.push(&Made {
                about: "its program on another port".to_owned(),
                process: Some(process),
                severity,
                ..elsewhere.clone()
            });
        }
        for process in &at_port {
            maker.push(&Made {
                about: "its program for another service".to_owned(),
                process: Some(process),
                ..elsewhere.clone()
            });
        }
        if service.kernel {
            let kernel = Made { process: Some(nobody), more: ", owner_gap = \"kernel\"", ..door.clone() };
            maker.push(&Made { about: "the kernel".to_owned(), severity: worst, ..kernel.clone() });
            maker.push(&Made { about: "the kernel, elsewhere".to_owned(), port: ELSEWHERE, ..kernel });
        }
        maker.push(&Made {
            about: "another program on another port".to_owned(),
            process: Some(ANOTHER),
            ..elsewhere.clone()
        });
        let hidden = ", owner_gap = \"hidden\"";
        maker.push(&Made { about: "nobody seen on another port".to_owned(), more: hidden, ..elsewhere });
        let by_port = guess.as_ref().and_then(|guess| guess.severities[0]);
        for range in ports {
            let severity = by_port.filter(|_| is_narrow(range));
            for port in [range.0, range.1].into_iter().take(if range.0 == range.1 { 1 } else { 2 }) {
                let door = Made { port, ..door.clone() };
                maker.push(&Made {
                    about: format!("nobody seen on port {port}"),
                    more: hidden,
                    severity,
                    ..door.clone()
                });
                let alone = severity.filter(|_| !service.shared);
                maker.push(&Made {
                    about: format!("another program on port {port}"),
                    process: Some(ANOTHER),
                    severity: alone,
                    ..door.clone()
                });
                maker.push(&Made {
                    about: format!("port {port} for a container"),
                    process: Some(FORWARDER),
                    severity,
                    ..door.clone()
                });
                maker.push(&Made {
                    about: format!("port {port}, published"),
                    role: "published",
                    process: Some(nobody),
                    severity,
                    ..door
                });
            }
        }
        if let Some(guess) = &guess {
            let (class, severity) = (Reach::Host, guess.severities[4]);
            maker.push(&Made {
                about: "nobody seen, this computer only".to_owned(),
                reach: class,
                more: hidden,
                severity,
                ..door.clone()
            });
        }
        if protocol == "udp" && ports.iter().any(|(_, last)| *last >= 32768) && guess.is_some() {
            let made =
                Made { about: "a port of the kernel's range by chance".to_owned(), more: hidden, ..door };
            let before = maker.text.len();
            maker.push(&made);
            let chance = maker.text[before..].replace("65100-65400", "1024-65535");
            maker.text.truncate(before);
            maker.text.push_str(&chance);
        }
    }
    maker.text
}

/// A process that is this program, as an example has it; `None` for conditions that cannot be
/// turned round.
fn process(program: &Program<'_>) -> Option<String> {
    let facts = match program {
        Program::Word(word) => {
            let word = plain(word);
            return Some(format!(
                "{{ name = {0}, exe = {1}, cmdline = [{0}] }}",
                quote(&word),
                quote(&format!("/usr/bin/{word}"))
            ));
        }
        Program::Facts(facts) => facts,
    };
    let mut lines: Vec<String> = Vec::new();
    let mut cmdline = vec!["program".to_owned()];
    for (key, node) in facts {
        let first = match node.get_ref() {
            DeValue::Array(items) => items.first()?.get_ref().as_str()?,
            DeValue::String(text) => text,
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Table(_) => {
                return None;
            }
        };
        let word = plain(first.strip_prefix('!').map_or(first, |_| "another"));
        match &**key.get_ref() {
            "program" => {
                lines.push(format!("exe = {}", quote(&format!("/usr/bin/{word}"))));
                cmdline[0] = word;
            }
            "cmdline" => cmdline.extend(word.split(' ').map(str::to_owned)),
            "script" => {
                // An interpreter that runs the file or, by -m, the module.
                cmdline.extend((!word.contains('/')).then(|| "-m".to_owned()));
                cmdline.push(word);
            }
            key @ ("name" | "exe" | "cwd" | "unit" | "package" | "user") => {
                lines.push(format!("{key} = {}", quote(&word)))
            }
            _ => return None,
        }
    }
    lines.push(format!("cmdline = {}", super::text::list(&cmdline)));
    let process = format!("{{ {} }}", lines.join(", "));
    Some(process)
}

/// A word that a glob matches.
fn plain(glob: &str) -> String {
    let mut out = String::new();
    let mut signs = glob.chars();
    while let Some(sign) = signs.next() {
        match sign {
            '*' => {}
            '?' => out.push('x'),
            '[' => {
                out.extend(signs.next());
                signs.by_ref().find(|sign| *sign == ']');
            }
            sign => out.push(sign),
        }
    }
    out
}
