//! `[[fires]]` and `[[quiet]]`: small hosts, built into snapshots. What an example does not give is
//! unknown.

mod fields;
mod host;
mod process;
mod socket;

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::reader::{Node, Reader, shorten};
use super::schema::SEVERITIES;
use crate::finding::Severity;
use crate::model::{How, ProcessId, Snapshot, SocketIndex};
use process::PROCESS;
use socket::SOCKET;

/// A small host and what the rule must say of its first socket.
#[derive(Clone, Debug)]
pub(super) struct Example {
    pub(super) name: String,
    pub(super) fires: bool,
    pub(super) severity: Option<Severity>,
    pub(super) span: Range<usize>,
    pub(super) snapshot: Snapshot,
}

/// The socket that an example is about.
pub(super) const JUDGED: SocketIndex = SocketIndex(0);

const MAX_EXAMPLES: usize = 100;
const EXAMPLE: &[&str] = &["name", "severity", "socket", "process", "others", "host"];
const CHANGE: &[&str] = &["name", "severity", "like", "change", "unset"];

/// All examples of a rule that could be read.
pub(super) fn read(reader: &mut Reader, table: &DeTable<'_>) -> Vec<Example> {
    let mut plain: Vec<(String, Node<'_>)> = Vec::new();
    let mut examples = Vec::new();
    for (kind, fires) in [("fires", true), ("quiet", false)] {
        let Some(node) = table.get(kind) else { continue };
        let nodes = reader.list(node, kind);
        if nodes.len() > MAX_EXAMPLES {
            reader.say(node.span(), format!("more than {MAX_EXAMPLES} examples"));
        }
        for each in nodes.into_iter().take(MAX_EXAMPLES) {
            let Some(fields) = reader.table(each, kind) else { continue };
            let Some(whole) = whole(reader, each, fields, &plain) else { continue };
            let Some(fields) = whole.get_ref().as_table() else { continue };
            let example = Builder::new(reader).example(fields, fires, each.span());
            if let Some(example) = example {
                if fires {
                    plain.push((example.name.clone(), whole));
                }
                examples.push(example);
            }
        }
    }
    for (index, example) in examples.iter().enumerate() {
        if examples[..index].iter().any(|other| other.name == example.name) {
            reader.say(example.span.clone(), format!("there are two examples `{}`", shorten(&example.name)));
        }
    }
    examples
}

/// The example with everything that it takes from another one.
fn whole<'i>(
    reader: &mut Reader,
    node: &Node<'i>,
    fields: &DeTable<'i>,
    plain: &[(String, Node<'i>)],
) -> Option<Node<'i>> {
    let derived = ["like", "change", "unset"].iter().any(|key| fields.contains_key(*key));
    check_keys(reader, fields, "an example", if derived { CHANGE } else { EXAMPLE });
    if !derived {
        return Some(node.clone());
    }
    let base = match fields.get("like") {
        None => plain.first(),
        Some(like) => {
            let name = reader.text(like, "like")?;
            let found = plain.iter().find(|(known, _)| known == name);
            if found.is_none() {
                let names = plain.iter().map(|(name, _)| name.as_str());
                reader.unknown_word(like.span(), name, "`[[fires]]` before this", names);
            }
            Some(found?)
        }
    };
    let Some((_, base)) = base else {
        reader.say(node.span(), "there is no `[[fires]]` that this could be a change of");
        return None;
    };
    let mut merged = base.get_ref().as_table()?.clone();
    merged.remove("name");
    merged.remove("severity");
    if let Some(change) = fields.get("change") {
        let change = reader.table(change, "change")?;
        check_keys(reader, change, "`change`", &["socket", "process", "others", "host"]);
        merge(&mut merged, change);
    }
    for each in fields.get("unset").map_or_else(Vec::new, |node| reader.list(node, "unset")) {
        let path = reader.text(each, "unset")?;
        if !unset(&mut merged, path) {
            reader.say(each.span(), format!("the example has no `{}` that could be unset", shorten(path)));
        }
    }
    for key in ["name", "severity"] {
        if let Some((key, value)) = fields.get_key_value(key) {
            merged.insert(key.clone(), value.clone());
        }
    }
    Some(Spanned::new(node.span(), DeValue::Table(merged)))
}

fn merge<'i>(base: &mut DeTable<'i>, change: &DeTable<'i>) {
    for (key, value) in change {
        if let (Some(DeValue::Table(old)), DeValue::Table(new)) =
            (base.get_mut(&**key.get_ref()).map(Spanned::get_mut), value.get_ref())
        {
            merge(old, new);
        } else {
            base.insert(key.clone(), value.clone());
        }
    }
}

fn unset(table: &mut DeTable<'_>, path: &str) -> bool {
    match path.split_once('.') {
        None => table.remove(path).is_some(),
        Some((first, rest)) => match table.get_mut(first).map(Spanned::get_mut) {
            Some(DeValue::Table(inner)) => unset(inner, rest),
            _ => false,
        },
    }
}

fn check_keys(reader: &mut Reader, table: &DeTable<'_>, place: &str, known: &[&str]) {
    for (key, _) in table.iter().filter(|(key, _)| !known.contains(&&**key.get_ref())) {
        reader.unknown_key(key.span(), key.get_ref(), place, known.iter().copied());
    }
}

/// The processes that hold a socket of an example.
#[derive(Clone, Default)]
struct Holders {
    list: Vec<(ProcessId, How)>,
    /// The example says that there is none; else an empty list means that nobody can tell.
    nobody: bool,
}

struct Builder<'r> {
    reader: &'r mut Reader,
    snapshot: Snapshot,
}

impl<'r> Builder<'r> {
    fn new(reader: &'r mut Reader) -> Self {
        Self { reader, snapshot: Snapshot::default() }
    }

    fn example(mut self, table: &DeTable<'_>, fires: bool, span: Range<usize>) -> Option<Example> {
        for key in ["name", "socket"] {
            if !table.contains_key(key) {
                self.reader.say(span.clone(), format!("this example has no `{key}`"));
            }
        }
        let name = self.reader.text(table.get("name")?, "name")?.to_owned();
        let severity = table.get("severity").and_then(|node| {
            let word = self.reader.text(node, "severity")?;
            let severity = Severity::from_name(word);
            if severity.is_none() {
                self.reader.unknown_word(node.span(), word, "severity", SEVERITIES.iter().copied());
            } else if !fires {
                self.reader.say(node.span(), "a quiet example has no severity");
            }
            severity
        });
        self.host(table.get("host"));
        let (node, holders) = (table.get("socket")?, self.holders(table.get("process"))?);
        let fields = self.reader.table(node, "socket")?;
        check_keys(self.reader, fields, "the socket of an example", SOCKET);
        self.socket(fields, node.span(), &holders)?;
        for each in table.get("others").map_or_else(Vec::new, |node| self.some(node, "others")) {
            self.other(each, &holders)?;
        }
        self.streams();
        Some(Example { name, fires, severity, span, snapshot: self.snapshot })
    }

    /// Elements of a list that may be empty.
    fn some<'n, 'i>(&mut self, node: &'n Node<'i>, what: &str) -> Vec<&'n Node<'i>> {
        let empty = node.get_ref().as_array().is_some_and(|array| array.is_empty());
        if empty { Vec::new() } else { self.reader.list(node, what) }
    }

    fn other(&mut self, node: &Node<'_>, holders: &Holders) -> Option<()> {
        let fields = self.reader.table(node, "others")?;
        let known: Vec<&str> = SOCKET.iter().copied().chain(["process", "peer"]).collect();
        check_keys(self.reader, fields, "a socket of an example", &known);
        let own = match fields.get("process") {
            None => holders.clone(),
            Some(node) => self.holders(Some(node))?,
        };
        let other = self.socket(fields, node.span(), &own)?;
        if let Some(peer) = fields.get("peer")
            && self.reader.flag(peer, "peer")?
        {
            self.snapshot.sockets[0].peer = Some(other);
            self.snapshot.sockets[other.0 as usize].peer = Some(JUDGED);
        }
        Some(())
    }

    /// The processes that hold a socket. Nothing given: nobody can tell.
    fn holders(&mut self, node: Option<&Node<'_>>) -> Option<Holders> {
        let Some(node) = node else { return Some(Holders::default()) };
        if node.get_ref().as_str() == Some("none") {
            return Some(Holders { list: Vec::new(), nobody: true });
        }
        let mut holders = Holders::default();
        for each in self.reader.list(node, "process") {
            let fields = self.reader.table(each, "process")?;
            check_keys(self.reader, fields, "the process of an example", PROCESS);
            holders.list.push(self.process(fields)?);
        }
        Some(holders)
    }
}
