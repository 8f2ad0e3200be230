//! Suppression files: every fault at once, each at its place.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use jiff::civil::Date;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::selector::{self, KEYS, Selector};
use super::{Named, Suppression, What};
use crate::model::Problem;

/// No suppression file of a person comes near this.
const LIMIT: u64 = 4 << 20;

/// The file, or the `*.toml` of the folder in the order of their names, with their texts.
pub(super) fn texts(path: &Path) -> Result<Vec<(String, String)>, Problem> {
    let failed = |path: &Path, error: &io::Error| Problem {
        file: path.display().to_string(),
        source: Arc::from(""),
        span: None,
        message: error.to_string(),
        help: None,
    };
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        files =
            entries.map_err(|error| failed(path, &error))?.into_iter().map(|entry| entry.path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
        files.sort();
    }
    let read = |file: &Path| {
        if fs::metadata(file)?.len() > LIMIT {
            return Err(io::Error::other(format!("larger than {LIMIT} bytes")));
        }
        fs::read_to_string(file)
    };
    files
        .iter()
        .map(|file| Ok((file.display().to_string(), read(file).map_err(|error| failed(file, &error))?)))
        .collect()
}

pub(super) fn parse(file: &str, source: &Arc<str>) -> Result<Vec<Suppression>, Vec<Problem>> {
    let mut faults = Faults { file, source, found: Vec::new() };
    let (document, errors) = DeTable::parse_recoverable(source);
    for error in errors {
        faults.say(error.span(), error.message().to_owned(), None);
    }
    let mut read = Vec::new();
    for (key, value) in document.get_ref() {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("suppression", DeValue::Array(entries)) => {
                for entry in entries {
                    let Some(table) = entry.get_ref().as_table() else {
                        let found = entry.get_ref().type_str();
                        let message = format!("{found} where a [[suppression]] is expected");
                        faults.say(Some(entry.span()), message, None);
                        continue;
                    };
                    read.extend(faults.entry(entry.span(), table));
                }
            }
            ("suppression", DeValue::Table(_)) => {
                let help = "write `[[suppression]]`, with double brackets".to_owned();
                faults.say(Some(key.span()), "one table where a list is expected".to_owned(), Some(help));
            }
            (name, _) => faults.unknown(key.span(), name, &["suppression"]),
        }
    }
    if faults.found.is_empty() { Ok(read) } else { Err(faults.found) }
}

struct Faults<'f> {
    file: &'f str,
    source: &'f Arc<str>,
    found: Vec<Problem>,
}

impl Faults<'_> {
    fn say(&mut self, span: Option<Range<usize>>, message: String, help: Option<String>) {
        let source = Arc::clone(self.source);
        self.found.push(Problem { file: self.file.to_owned(), source, span, message, help });
    }

    fn unknown(&mut self, span: Range<usize>, name: &str, known: &[&str]) {
        let help = nearest(name, known).map_or_else(
            || format!("the keys are {}", known.join(", ")),
            |near| format!("did you mean `{near}`?"),
        );
        self.say(Some(span), format!("unknown key `{name}`"), Some(help));
    }

    fn entry(&mut self, at: Range<usize>, table: &DeTable<'_>) -> Option<Suppression> {
        let before = self.found.len();
        let (mut rule, mut fingerprint, mut reason, mut until) = (None, None, None, None);
        let mut selectors = Vec::new();
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "rule" => {
                    let named = Named { source: Arc::clone(self.source), span: value.span() };
                    rule = self.text(value).map(|rule| (rule, named));
                }
                "fingerprint" => {
                    fingerprint = self.text(value).filter(|text| self.is_fingerprint(value, text))
                }
                "reason" => reason = self.text(value),
                "until" => until = self.date(value),
                name => match KEYS.iter().find(|known| **known == name) {
                    Some(known) => selectors.extend(self.selector(known, value)),
                    None => {
                        let known: Vec<&str> =
                            ["rule", "fingerprint", "reason", "until"].iter().chain(KEYS).copied().collect();
                        self.unknown(key.span(), name, &known);
                    }
                },
            }
        }
        for (key, why) in [("reason", "say why this is accepted"), ("until", "a date such as 2027-01-31")] {
            if !table.contains_key(key) {
                self.say(Some(at.clone()), format!("`{key}` is missing"), Some(why.to_owned()));
            }
        }
        let what = match (table.contains_key("fingerprint"), table.contains_key("rule"), selectors.is_empty())
        {
            (true, false, true) => fingerprint.map(What::Fingerprint),
            (false, true, _) => rule.map(|(rule, named)| What::Rule { rule, named, selectors }),
            (true, _, _) => {
                let help = "a fingerprint already names rule, program and sockets";
                self.say(Some(at.clone()), "a fingerprint stands alone".to_owned(), Some(help.to_owned()));
                None
            }
            (false, false, _) => {
                self.say(Some(at.clone()), "neither `fingerprint` nor `rule`".to_owned(), None);
                None
            }
        };
        if self.found.len() > before {
            return None;
        }
        let line = 1 + self.source[..at.start].matches('\n').count();
        Some(Suppression { what: what?, reason: reason?, until: until?, file: self.file.to_owned(), line })
    }

    fn text(&mut self, value: &Spanned<DeValue<'_>>) -> Option<String> {
        let text = value.get_ref().as_str().map(str::trim).filter(|text| !text.is_empty());
        if text.is_none() {
            self.say(Some(value.span()), "a string with something in it is expected".to_owned(), None);
        }
        text.map(str::to_owned)
    }

    fn is_fingerprint(&mut self, value: &Spanned<DeValue<'_>>, text: &str) -> bool {
        let good = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !good {
            let help = "copy it from the finding".to_owned();
            self.say(Some(value.span()), "a fingerprint is 32 small hex digits".to_owned(), Some(help));
        }
        good
    }

    fn date(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Date> {
        let found = match value.get_ref() {
            DeValue::Datetime(stamp) if stamp.time.is_none() => stamp.date.and_then(|date| {
                Date::new(
                    i16::try_from(date.year).ok()?,
                    i8::try_from(date.month).ok()?,
                    i8::try_from(date.day).ok()?,
                )
                .ok()
            }),
            DeValue::String(text) => text.parse().ok(),
            DeValue::Datetime(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        };
        if found.is_none() {
            let help = "a day without time, such as 2027-01-31".to_owned();
            self.say(Some(value.span()), "not a date".to_owned(), Some(help));
        }
        found
    }

    /// A value, or a list of values any of which will do.
    fn selector(&mut self, key: &'static str, value: &Spanned<DeValue<'_>>) -> Option<Selector> {
        let values = match value.get_ref() {
            DeValue::Array(list) if list.is_empty() => {
                self.say(Some(value.span()), "an empty list fits nothing".to_owned(), None);
                return None;
            }
            DeValue::Array(list) => list.iter().map(|each| self.value(key, each)).collect::<Option<_>>()?,
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Table(_) => vec![self.value(key, value)?],
        };
        Some(Selector { key, values })
    }

    fn value(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<selector::Value> {
        let numeric = matches!(key, "port" | "rport");
        let integer = value.get_ref().as_integer().filter(|number| numeric && number.radix() == 10);
        let Some(text) = value.get_ref().as_str().or(integer.map(|number| number.as_str())) else {
            let wanted = if numeric { "a port" } else { "a string" };
            let message = format!("{} where {wanted} is expected", value.get_ref().type_str());
            self.say(Some(value.span()), message, None);
            return None;
        };
        match selector::value(key, text) {
            Ok(read) => Some(read),
            Err(why) => {
                self.say(Some(value.span()), why, None);
                None
            }
        }
    }
}

/// The candidate that takes the fewest edits, if that is few.
pub(super) fn nearest<'c>(word: &str, candidates: &[&'c str]) -> Option<&'c str> {
    let near = candidates.iter().map(|candidate| (distance(word, candidate), *candidate)).min()?;
    (near.0 <= 1 + word.len() / 4).then_some(near.1)
}

/// Levenshtein distance; words longer than 40 bytes are far from everything.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 40 || b.len() > 40 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<(String, String)> {
        let source: Arc<str> = Arc::from(text);
        let problems = parse("s.toml", &source).map(|_| ()).unwrap_err();
        problems
            .into_iter()
            .map(|problem| (text[problem.span.unwrap_or(0..0)].to_owned(), problem.message))
            .collect()
    }

    #[test]
    fn every_fault_of_a_file_is_said_at_once() {
        let text = r#"
[[suppression]]
rule = "a"
prot = "tcp"
reason = ""
until = 2027-02-30

[[suppression]]
fingerprint = "XYZ"
port = [80, 70000, "9-8"]
reach = "everywhere"

[[supression]]
rule = "b"
"#;
        let found = faults(text);
        let messages: Vec<&str> = found.iter().map(|(_, message)| message.as_str()).collect();
        for wanted in [
            "unknown key `prot`",
            "a string with something in it is expected",
            "a fingerprint is 32 small hex digits",
            "`until` is missing",
            "`reason` is missing",
            "unknown key `supression`",
        ] {
            assert!(messages.contains(&wanted), "{wanted} is not in {messages:#?}");
        }
        assert!(found.contains(&("70000".into(), "not a port or a range of ports such as 8000-8010".into())));
        assert!(found.iter().any(|(at, _)| at == "\"everywhere\""));
    }

    #[test]
    fn a_misspelt_selector_never_widens() {
        let text = "[[suppression]]\nrule = \"a\"\nunti = \"x\"\nreason = \"r\"\nuntil = 2027-01-01\n";
        assert_eq!(faults(text), [("unti".into(), "unknown key `unti`".into())]);
    }

    #[test]
    fn a_date_may_be_a_string() {
        let text = "[[suppression]]\nrule = \"a\"\nreason = \"r\"\nuntil = \"2027-01-31\"\n";
        let read = parse("s.toml", &Arc::from(text)).unwrap();
        assert_eq!((read[0].until.to_string(), read[0].line), ("2027-01-31".to_owned(), 1));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let _ = parse("s.toml", &Arc::from(text));
        }

        #[test]
        fn no_mixture_of_our_words_panics(words in proptest::collection::vec(
            proptest::sample::select(vec!["[[suppression]]\n", "rule", "=", "\"a\"", "\n", "port", "[", "]", "80", "until", "2027-01-01", ",", "{", "}", "-"]), 0..30)
        ) {
            let _ = parse("s.toml", &Arc::from(words.concat()));
        }
    }
}
