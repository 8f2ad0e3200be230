//! A rule's remedies: text with placeholders, filled with one socket's values so that no value can
//! become part of a command.

use std::ops::Range;

use super::facts::{self, unit_of};
use super::reader::Reader;
use crate::finding::Remedy;
use crate::model::{Endpoint, Observation, Owner, Text};

/// A remedy as the rule has it.
#[derive(Clone, Debug)]
pub struct Template {
    pub kind: String,
    pub(super) title: Line,
    pub(super) commands: Vec<Line>,
    pub(super) undo: Vec<Line>,
    pub(super) verify: Option<Line>,
    pub(super) note: Option<Line>,
}

/// Text with placeholders.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Line {
    pub(super) written: String,
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Plain(String),
    Value(Name, Quote),
}

/// The quotes of the shell in which a placeholder stands; `Prose`: no shell reads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Quote {
    Prose,
    Bare,
    Single,
    Double,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Name {
    Port,
    Address,
    Protocol,
    Unit,
    Process,
    Exe,
    Pid,
    User,
    Path,
    Interface,
}

const NAMES: [(&str, Name); 10] = [
    ("port", Name::Port),
    ("address", Name::Address),
    ("protocol", Name::Protocol),
    ("unit", Name::Unit),
    ("process", Name::Process),
    ("exe", Name::Exe),
    ("pid", Name::Pid),
    ("user", Name::User),
    ("path", Name::Path),
    ("interface", Name::Interface),
];

impl Line {
    /// `span` is where the text stands in its file; `shell` whether it is a command.
    pub(super) fn read(reader: &mut Reader, text: &str, span: Range<usize>, shell: bool) -> Self {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut quote = if shell { Quote::Bare } else { Quote::Prose };
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let dollar = plain.ends_with('$');
            if c == '{'
                && !dollar
                && let Some((word, behind)) = placeholder(rest)
            {
                match NAMES.iter().find(|(name, _)| *name == word) {
                    Some((_, name)) => {
                        parts.push(Part::Plain(std::mem::take(&mut plain)));
                        parts.push(Part::Value(*name, quote));
                    }
                    None => reader.unknown_key(
                        span.clone(),
                        word,
                        "the list of placeholders",
                        NAMES.iter().map(|(name, _)| *name),
                    ),
                }
                rest = behind;
                continue;
            }
            let escaped = matches!(quote, Quote::Bare | Quote::Double)
                && plain.ends_with('\\')
                && !plain.ends_with("\\\\");
            quote = match (quote, c) {
                (Quote::Bare, '\'') if !escaped => Quote::Single,
                (Quote::Single, '\'') | (Quote::Double, '"') if !escaped => Quote::Bare,
                (Quote::Bare, '"') if !escaped => Quote::Double,
                (quote, _) => quote,
            };
            plain.push(c);
            rest = &rest[c.len_utf8()..];
        }
        parts.push(Part::Plain(plain));
        Self { written: text.to_owned(), parts }
    }

    /// `None` when a value is not there or could not be shown safely.
    fn fill(&self, values: &Values<'_>) -> Option<String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Plain(plain) => text.push_str(plain),
                Part::Value(name, quote) => text.push_str(&quoted(&values.get(*name)?, *quote)),
            }
        }
        Some(text)
    }
}

/// A word in braces at the start of the text, and what follows it.
fn placeholder(text: &str) -> Option<(&str, &str)> {
    let (word, behind) = text.strip_prefix('{')?.split_once('}')?;
    let name = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    name.then_some((word, behind))
}

fn quoted(value: &str, quote: Quote) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:@%+=,-".contains(&byte);
    match quote {
        Quote::Prose => value.to_owned(),
        Quote::Bare if !value.is_empty() && value.bytes().all(safe) => value.to_owned(),
        Quote::Bare => format!("'{}'", value.replace('\'', r"'\''")),
        Quote::Single => value.replace('\'', r"'\''"),
        Quote::Double => value.chars().fold(String::new(), |mut text, c| {
            match c {
                '"' | '$' | '`' | '\\' => text.extend(['\\', c]),
                '!' => text.push_str("\"'!'\""), // history expansion of an interactive bash
                _ => text.push(c),
            }
            text
        }),
    }
}

struct Values<'s> {
    observation: Observation<'s>,
    owner: Option<Owner<'s>>,
}

impl Values<'_> {
    fn get(&self, name: Name) -> Option<String> {
        let socket = self.observation.socket;
        let process = self.owner.map(|owner| owner.process);
        match name {
            Name::Port => facts::port(&socket.local).map(|port| port.to_string()),
            Name::Address => match &socket.local {
                Endpoint::Inet(address, _) => Some(address.to_string()),
                Endpoint::None
                | Endpoint::UnixPath(_)
                | Endpoint::UnixAbstract(_)
                | Endpoint::Vsock { .. }
                | Endpoint::Interface(_) => None,
            },
            Name::Protocol => Some(socket.protocol.name().into_owned()),
            Name::Unit => unit_of(self.observation, process?).and_then(shown),
            Name::Process => shown(&process?.name),
            Name::Exe => shown(process?.exe.known()?),
            Name::Pid => Some(process?.pid.to_string()),
            Name::User => shown(process?.user.known()?),
            Name::Path => match &socket.local {
                Endpoint::UnixPath(path) => shown(path),
                Endpoint::None
                | Endpoint::Inet(..)
                | Endpoint::UnixAbstract(_)
                | Endpoint::Vsock { .. }
                | Endpoint::Interface(_) => None,
            },
            Name::Interface => shown(facts::interface(self.observation)?),
        }
    }
}

/// A foreign value as it is; `None` when a person could not read what the command would do.
fn shown(text: &Text) -> Option<String> {
    let plain = text.as_str()?;
    (!plain.is_empty() && text.to_string().replace("\\x5c", "\\") == plain).then(|| plain.to_owned())
}

impl Template {
    /// The remedy for one socket; `None` when it does not apply to it (no unit, no path).
    pub(super) fn fill(&self, observation: Observation<'_>, owner: Option<Owner<'_>>) -> Option<Remedy> {
        let values = Values { observation, owner };
        let all = |lines: &[Line]| lines.iter().map(|line| line.fill(&values)).collect::<Option<Vec<_>>>();
        let one = |line: &Option<Line>| line.as_ref().map_or(Some(None), |line| line.fill(&values).map(Some));
        Some(Remedy {
            kind: self.kind.clone(),
            title: self.title.fill(&values)?,
            commands: all(&self.commands)?,
            undo: all(&self.undo)?,
            verify: one(&self.verify)?,
            note: one(&self.note)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> (Line, usize) {
        let mut reader = Reader::new("x.toml".into(), "".into());
        let line = Line::read(&mut reader, text, 0..0, true);
        (line, reader.finish().len())
    }

    #[test]
    fn placeholders_stand_in_the_quotes_of_the_shell() {
        let (found, problems) = line(r#"a {port} 'b {unit}' "c {user}" ${port} { x; } \" {path}"#);
        let quotes: Vec<Quote> = found
            .parts
            .iter()
            .filter_map(|part| if let Part::Value(_, quote) = part { Some(*quote) } else { None })
            .collect();
        assert_eq!(quotes, [Quote::Bare, Quote::Single, Quote::Double, Quote::Bare]);
        assert_eq!(problems, 0);
        assert_eq!(line("kill {pdi}").1, 1);
    }

    #[test]
    fn a_hostile_value_stays_one_word_of_the_shell() {
        let value = "x'; rm -rf / $(id) `id` \" a!b";
        for (quote, around) in [(Quote::Bare, ""), (Quote::Single, "'"), (Quote::Double, "\"")] {
            let script = format!("printf %s {around}{}{around}", quoted(value, quote));
            let output = std::process::Command::new("sh").arg("-c").arg(&script).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), value, "{script}");
        }
        assert_eq!(shown(&Text::from("a\u{1b}[2J")), None);
        assert_eq!(shown(&Text::from(r"x\x2dy.service")), Some(r"x\x2dy.service".to_owned()));
    }
}
