//! Text of ours that quotes foreign text, on its way to a human reader.

use std::fmt::{self, Write as _};

use unicode_width::UnicodeWidthStr as _;

use crate::model::harmless;

/// A message, title or path as it is shown: whatever could move the cursor, hide or reorder its
/// neighbours is escaped, newlines too. Backslashes stay, since foreign parts were escaped by
/// `model::Text` already.
#[derive(Clone, Copy, Debug)]
pub struct Clean<'t>(pub &'t str);

impl fmt::Display for Clean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if harmless(c) {
                f.write_char(c)?;
            } else if (c as u32) < 0x100 {
                write!(f, "\\x{:02x}", c as u32)?;
            } else {
                write!(f, "\\u{{{:x}}}", c as u32)?;
            }
        }
        Ok(())
    }
}

/// Columns that a cleaned text takes on a terminal.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// As much of a cleaned text as fits into `columns`, the last one being `…` where some is missing.
pub(crate) fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 0;
    for c in text.chars() {
        let each = unicode_width::UnicodeWidthChar::width(c).unwrap_or(0);
        if used + each >= columns {
            break;
        }
        kept.push(c);
        used += each;
    }
    if columns > 0 {
        kept.push('…');
    }
    kept
}

/// Lines of at most `columns` columns, broken at blanks; a longer word stands alone. Blanks and
/// newlines of the text count as one blank each.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let word = Clean(word).to_string();
        if !line.is_empty() && width(&line) + 1 + width(&word) > columns {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&word);
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_shown_on_one_line() {
        assert_eq!(Clean("a\r\nb\u{1b}[0m \\x1b \u{202e}").to_string(), r"a\x0d\x0ab\x1b[0m \x1b \u{202e}");
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(fit("漢字漢字", 5), "漢字…");
        assert_eq!(fit("abcde", 5), "abcde");
        assert_eq!(fit("abcdef", 5), "abcd…");
        assert_eq!(fit("abc", 0), "");
    }

    #[test]
    fn words_are_wrapped_and_long_ones_kept_whole() {
        assert_eq!(
            wrap("one two  three\nfour aVeryLongWord x", 9),
            ["one two", "three", "four", "aVeryLongWord", "x"]
        );
        assert!(wrap(" \n ", 9).is_empty());
    }
}
