//! Faults in files that a person wrote, with line, column and caret.

use std::borrow::Cow;
use std::io::{self, Write};
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::{Clean, Style};
use crate::model::{Problem, harmless};

/// Writes every fault, each as compilers do.
///
/// # Errors
/// What writing to `out` gives.
pub fn problems(out: &mut dyn Write, problems: &[Problem], style: &Style) -> io::Result<()> {
    let renderer = if style.color { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(style.width.unwrap_or(1000));
    for problem in problems {
        let (title, file) = (Clean(&problem.message).to_string(), Clean(&problem.file).to_string());
        let source = printable(&problem.source);
        let group = Group::with_title(Level::ERROR.primary_title(title));
        let group = match &problem.span {
            Some(span) if !source.is_empty() => {
                let mark = AnnotationKind::Primary.span(within(&source, span));
                group.element(Snippet::source(&*source).path(file).annotation(mark))
            }
            Some(_) | None => group.element(Origin::path(file)),
        };
        let help = problem.help.as_ref().map(|help| Clean(help).to_string());
        let group = group.elements(help.map(|help| Level::HELP.message(help)));
        writeln!(out, "{}\n", renderer.render(&[group]))?;
    }
    Ok(())
}

/// The same text, byte for byte as long, without what could move the cursor or reorder a line.
fn printable(source: &str) -> Cow<'_, str> {
    let plain = |c: char| harmless(c) || matches!(c, '\n' | '\t');
    if source.chars().all(plain) {
        return Cow::Borrowed(source);
    }
    let stand_in = |c: char| match c.len_utf8() {
        _ if plain(c) => c,
        1 => '?',
        2 => '\u{bf}',
        3 => '\u{fffd}',
        _ => '\u{1f6ab}',
    };
    Cow::Owned(source.chars().map(stand_in).collect())
}

/// The span cut to the text and to whole characters.
fn within(source: &str, span: &Range<usize>) -> Range<usize> {
    let floor = |at: usize| {
        let mut at = at.min(source.len());
        while !source.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = floor(span.start);
    start..floor(span.end).max(start)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn shown(source: &str, span: Option<Range<usize>>) -> String {
        let problem = Problem {
            file: "rules/a\u{1b}[2J.toml".into(),
            source: Arc::from(source),
            span,
            message: "unknown key `prot`".into(),
            help: Some("did you mean `port`?".into()),
        };
        let mut text = Vec::new();
        problems(&mut text, &[problem], &Style::default()).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_fault_is_shown_at_its_place() {
        insta::assert_snapshot!(shown("[when]\nprot = 80\n", Some(7..11)), @r#"
        error: unknown key `prot`
         --> rules/a\x1b[2J.toml:2:1
          |
        2 | prot = 80
          | ^^^^
          |
          = help: did you mean `port`?
        "#);
    }

    #[test]
    fn a_file_that_could_not_be_read_is_named() {
        insta::assert_snapshot!(shown("", None), @r#"
        error: unknown key `prot`
        --> rules/a\x1b[2J.toml
         = help: did you mean `port`?
        "#);
    }

    proptest::proptest! {
        #[test]
        fn any_span_of_any_text_is_shown_without_control_characters(
            source in "(\\PC|[\u{0}-\u{20}\u{7f}-\u{9f}\u{200e}\u{202e}\n\t\r]){0,40}", start in 0usize..200, len in 0usize..200
        ) {
            let text = shown(&source, Some(start..start + len));
            proptest::prop_assert!(text.chars().all(|c| c == '\n' || harmless(c)), "{text:?}");
        }
    }
}
