//! From the text of a TOML file to tables with places, and the list of everything that is wrong.
//! Knows nothing of rules.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::model::Problem;

pub(super) type Node<'i> = Spanned<DeValue<'i>>;

/// Longest file that is read at all: a rule is a page, not a book.
pub(super) const MAX_FILE: usize = 128 * 1024;
/// After so many problems in one file the rest is not told.
const MAX_PROBLEMS: usize = 100;

/// Gathers the problems of one file.
pub(super) struct Reader {
    pub(super) file: String,
    pub(super) source: Arc<str>,
    problems: Vec<Problem>,
    /// The syntax was at fault: values without a place are what the parser made up.
    broken: bool,
}

impl Reader {
    pub(super) fn new(file: String, source: Arc<str>) -> Self {
        Self { file, source, problems: Vec::new(), broken: false }
    }

    pub(super) fn say(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.push(Some(span), message.into(), None);
    }

    pub(super) fn advise(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.push(Some(span), message.into(), Some(help.into()));
    }

    /// A fault of the file as a whole.
    pub(super) fn whole(&mut self, message: impl Into<String>, help: Option<String>) {
        self.push(None, message.into(), help);
    }

    fn push(&mut self, span: Option<Range<usize>>, message: String, help: Option<String>) {
        let made_up = self.broken && span.as_ref().is_some_and(Range::is_empty);
        if self.problems.len() < MAX_PROBLEMS && !made_up {
            let (file, source) = (self.file.clone(), Arc::clone(&self.source));
            let problem = Problem { file, source, span, message, help };
            // An example that others are changes of is read once for each of them.
            if !self
                .problems
                .iter()
                .any(|known| known.span == problem.span && known.message == problem.message)
            {
                self.problems.push(problem);
            }
        }
    }

    /// Everything that is wrong, in the order of the file.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.span.as_ref().map_or(0, |span| span.start));
        self.problems
    }

    pub(super) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// Parses the whole file; syntax errors are told, and what could be read is returned.
    pub(super) fn parse<'i>(&mut self, source: &'i str) -> DeTable<'i> {
        if source.len() > MAX_FILE {
            self.whole(format!("the file is larger than {} KiB", MAX_FILE / 1024), None);
            return DeTable::new();
        }
        let (table, errors) = DeTable::parse_recoverable(source);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            self.say(span, error.message().trim_end_matches('.').to_owned());
        }
        self.broken = !self.is_clean();
        table.into_inner()
    }

    pub(super) fn table<'n, 'i>(&mut self, node: &'n Node<'i>, what: &str) -> Option<&'n DeTable<'i>> {
        let table = node.get_ref().as_table();
        if table.is_none() {
            self.wrong(node, what, "a table");
        }
        table
    }

    pub(super) fn text<'n>(&mut self, node: &'n Node<'_>, what: &str) -> Option<&'n str> {
        let text = node.get_ref().as_str();
        if text.is_none() {
            self.wrong(node, what, "text in quotes");
        }
        text
    }

    pub(super) fn flag(&mut self, node: &Node<'_>, what: &str) -> Option<bool> {
        let flag = node.get_ref().as_bool();
        if flag.is_none() {
            self.wrong(node, what, "`true` or `false`");
        }
        flag
    }

    /// Elements of a list; a single value stands for a list of one. An empty list is an error.
    pub(super) fn list<'n, 'i>(&mut self, node: &'n Node<'i>, what: &str) -> Vec<&'n Node<'i>> {
        let Some(array) = node.get_ref().as_array() else { return vec![node] };
        if array.is_empty() {
            self.advise(
                node.span(),
                format!("the list of `{what}` is empty: nothing could match it"),
                "name at least one value, or remove the line",
            );
        }
        array.iter().collect()
    }

    pub(super) fn wrong(&mut self, node: &Node<'_>, what: &str, wanted: &str) {
        let found = node.get_ref().type_str();
        self.say(node.span(), format!("`{what}` must be {wanted}, this is {} {found}", article(found)));
    }

    pub(super) fn unknown_key<'k>(
        &mut self,
        span: Range<usize>,
        key: &str,
        place: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) {
        let message = format!("there is no `{}` in {place}", shorten(key));
        match nearest(key, known) {
            Some(near) => self.advise(span, message, format!("did you mean `{near}`?")),
            None => self.say(span, message),
        }
    }

    pub(super) fn unknown_word<'k>(
        &mut self,
        span: Range<usize>,
        word: &str,
        what: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) {
        let known: Vec<&str> = known.into_iter().collect();
        let message = format!("`{}` is no {what}", shorten(word));
        let help = match nearest(word, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("one of: {}", known.join(", ")),
        };
        self.advise(span, message, help);
    }
}

/// An integer as written, in any of TOML's bases; `None` for other types and what exceeds 64 bits.
pub(super) fn integer(node: &Node<'_>) -> Option<i64> {
    let number = node.get_ref().as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'i']) { "an" } else { "a" }
}

/// For quoting in a message: hostile files have keys of a megabyte.
pub(super) fn shorten(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST).chain(['…']).collect()
}

/// The known word that was probably meant: at most a third of it mistyped.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    const LONGEST: usize = 40;
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_lowercase();
    known
        .into_iter()
        .map(|each| (distance(&word, each), each))
        .filter(|(distance, each)| *distance <= (each.len().max(3) / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, each)| each)
}

/// Optimal string alignment: insertions, deletions, replacements, and swaps of neighbours.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_word_finds_its_neighbour() {
        let known = ["port", "protocol", "process", "reach"];
        assert_eq!(nearest("prt", known), Some("port"));
        assert_eq!(nearest("porcess", known), Some("process"));
        assert_eq!(nearest("Reach", known), Some("reach"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest(&"p".repeat(1_000_000), known), None);
    }

    #[test]
    fn syntax_errors_come_all_at_once_and_leave_the_rest_readable() {
        let text = "a = 1\nb = = 2\nc = \"x\ntitle = \"y\"\n";
        let mut reader = Reader::new("x.toml".into(), text.into());
        let table = reader.parse(text);
        assert!(table.contains_key("a") && table.contains_key("title"));
        assert!(reader.finish().len() >= 2);
    }
}
