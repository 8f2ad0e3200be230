//! Something wrong in a file that a person wrote, with its place.

use std::ops::Range;
use std::sync::Arc;

/// One fault in a rule, suppression, policy or configuration file. Readers gather all of them;
/// `output::problems` shows them with line, column and caret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path as the user would name the file.
    pub file: String,
    /// The whole text of the file, for the quoted line; empty when it could not be read.
    pub source: Arc<str>,
    /// Bytes of `source` that are at fault; `None` when the file as a whole is.
    pub span: Option<Range<usize>>,
    /// What is wrong, lower case, without a full stop.
    pub message: String,
    /// What to do: "did you mean `port`?".
    pub help: Option<String>,
}
