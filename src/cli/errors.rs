//! What went wrong, in words that help: one short function per kind of error.

use std::fmt;
use std::io;

use crate::model::{Problem, Text, counted};

/// The command line asks for something that does not exist or makes no sense.
#[derive(Debug)]
pub(crate) struct Usage {
    message: String,
    help: Option<String>,
}

impl Usage {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// "did you mean …?" where one of the candidates is near.
    pub(crate) fn meant<'c>(self, word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Self {
        let candidates: Vec<_> = candidates.into_iter().collect();
        let help = match nearest(word, candidates.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", candidates.join(", ")),
        };
        self.help(help)
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Usage {}

/// Faults in files that a person wrote: rules, suppressions, configuration.
#[derive(Debug)]
pub(crate) struct Faults(pub(crate) Vec<Problem>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in rules or configuration", counted(self.0.len(), "fault"))
    }
}

impl std::error::Error for Faults {}

/// Whether the reader of our output went away: no error of anybody.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}

/// Every fault with its place, on standard error.
pub(crate) fn show(problems: &[Problem]) {
    let mut text = Vec::new();
    // Writing to memory does not fail.
    let _ = crate::output::problems(&mut text, problems, &super::console::error_style());
    super::console::say(&String::from_utf8_lossy(&text));
}

/// One line that names what failed and why, harmless whatever the names in it.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    Text::from(format!("{error:#}")).to_string()
}

/// What to do about it.
pub(crate) fn help(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        if let Some(usage) = cause.downcast_ref::<Usage>() {
            usage.help.clone()
        } else {
            cause.downcast_ref::<io::Error>().and_then(help_io)
        }
    })
}

fn help_io(error: &io::Error) -> Option<String> {
    let help = if error.kind() == io::ErrorKind::PermissionDenied {
        "run it as a user who may, or with sudo"
    } else if error.kind() == io::ErrorKind::StorageFull {
        "make room, or name another place"
    } else {
        return None;
    };
    Some(help.to_owned())
}

/// The candidate that a person most likely meant: at most one edit for every three letters, an
/// exchange of neighbours being one edit, or one word being the beginning of the other.
pub(crate) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|each| {
            let begins =
                word.len() >= 3 && each.len() >= 3 && (word.starts_with(each) || each.starts_with(&*word));
            (if begins { 1 } else { distance(&word, each) }, each)
        })
        .filter(|&(edits, each)| edits <= each.chars().count().max(3).div_ceil(3))
        .min_by_key(|&(edits, _)| edits)
        .map(|(_, each)| each)
}

/// Optimal string alignment distance, in characters.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_nonsense_is_not() {
        let keys = ["proto", "port", "rport", "process", "state"];
        assert_eq!(nearest("prto", keys), Some("proto"));
        assert_eq!(nearest("prcoess", keys), Some("process"));
        assert_eq!(nearest("PORT", keys), Some("port"));
        assert_eq!(nearest("listening", ["listen", "closing"]), Some("listen"));
        assert_eq!(nearest("xyzzy", keys), None);
        assert_eq!(nearest(&"p".repeat(100_000), keys), None);
    }

    #[test]
    fn an_exchange_of_neighbours_is_one_edit() {
        assert_eq!(distance("tpc", "tcp"), 1);
        assert_eq!(distance("", "tcp"), 3);
        assert_eq!(distance("tcp", "tcp"), 0);
    }

    #[test]
    fn a_hostile_name_in_an_error_cannot_reach_the_terminal() {
        let error = anyhow::Error::new(Usage::new("cannot read \x1b[2Jevil\n"));
        assert_eq!(sentence(&error), "cannot read \\x1b[2Jevil\\x0a");
    }
}
