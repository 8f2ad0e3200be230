//! Standard output and standard error: who gets what, with colour or without.

use std::ffi::OsStr;
use std::io::{self, BufWriter, IsTerminal as _, Write};

use super::args::Manner;
use super::settings::Settings;
use crate::model::Text;
use crate::output::{self, Style, View};

/// Where the answer and the notices go.
pub(crate) struct Console {
    pub(crate) style: Style,
    /// Colour on standard error.
    pub(crate) error_color: bool,
    quiet: bool,
    verbose: bool,
}

impl Console {
    pub(crate) fn new(manner: &Manner, settings: &Settings) -> Self {
        let wish = manner.color.as_deref();
        let setting = settings.get("output.color");
        let color = |terminal: bool| colored(wish, setting, |name| std::env::var_os(name), terminal);
        let terminal = io::stdout().is_terminal();
        Self {
            style: Style {
                color: color(terminal),
                width: if terminal { width() } else { None },
                verbose: manner.verbose,
            },
            error_color: color(io::stderr().is_terminal()),
            quiet: manner.quiet,
            verbose: manner.verbose,
        }
    }

    /// Hands a buffered standard output to `write`, and makes sure that all of it went out.
    pub(crate) fn answer(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
        use anyhow::Context as _;
        self.answer_io(write).context("cannot write to standard output")
    }

    /// The same for those who have errors of their own.
    pub(crate) fn answer_io(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
        let written = write(&mut out).and_then(|()| out.flush());
        // What is left after a failed write must not be tried again when the buffer is dropped.
        drop(out.into_parts());
        written
    }

    /// Something that the user should know, beside the answer.
    pub(crate) fn notice(&self, text: &str) {
        if !self.quiet {
            say(&format!("sockwarden: {}\n", Text::from(text)));
        }
    }

    /// What could not be seen, beside a table that has no room for it.
    pub(crate) fn gaps(&self, view: &View<'_>) {
        if !self.quiet {
            let style = Style { color: self.error_color, ..self.style };
            let mut text = Vec::new();
            // Writing to memory does not fail.
            let _ = output::gaps(&mut text, view, &style);
            let _ = io::stderr().lock().write_all(&text);
        }
    }

    /// Something for the curious (`-v`).
    pub(crate) fn detail(&self, text: &str) {
        if self.verbose {
            say(&format!("sockwarden: {}\n", Text::from(text)));
        }
    }
}

/// For errors that come before any setting is known.
pub(crate) fn error_style() -> Style {
    let color = colored(None, None, |name| std::env::var_os(name), io::stderr().is_terminal());
    Style { color, width: None, verbose: false }
}

/// Writes to standard error; when that is closed there is nobody to tell.
pub(crate) fn say(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// The order of precedence: the command line, NO_COLOR (no-color.org), CLICOLOR_FORCE
/// (bixense.com/clicolors), the configuration, what is at the other end.
fn colored(
    wish: Option<&str>,
    setting: Option<&str>,
    env: impl Fn(&str) -> Option<std::ffi::OsString>,
    terminal: bool,
) -> bool {
    let decided = |word| match word {
        Some("always") => Some(true),
        Some("never") => Some(false),
        Some(_) | None => None,
    };
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    decided(wish)
        .or_else(|| (wish.is_none() && set("NO_COLOR").is_some()).then_some(false))
        .or_else(|| {
            (wish.is_none() && set("CLICOLOR_FORCE").is_some_and(|value| value != "0")).then_some(true)
        })
        .or_else(|| if wish.is_none() { decided(setting) } else { None })
        .unwrap_or_else(|| terminal && set("TERM").as_deref() != Some(OsStr::new("dumb")))
}

#[cfg(unix)]
fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

#[cfg(not(unix))]
fn width() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(wish: Option<&str>, setting: &str, env: &[(&str, &str)], terminal: bool) -> bool {
        let find = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        colored(wish, Some(setting), find, terminal)
    }

    #[test]
    fn the_command_line_wins_then_the_environment_then_the_terminal() {
        assert!(with(None, "auto", &[], true));
        assert!(!with(None, "auto", &[], false));
        assert!(!with(None, "auto", &[("NO_COLOR", "1")], true));
        assert!(with(None, "auto", &[("NO_COLOR", "")], true), "an empty NO_COLOR says nothing");
        assert!(with(None, "auto", &[("CLICOLOR_FORCE", "1")], false));
        assert!(!with(None, "auto", &[("CLICOLOR_FORCE", "0")], false));
        assert!(!with(None, "auto", &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false));
        assert!(with(Some("always"), "never", &[("NO_COLOR", "1")], false));
        assert!(!with(Some("never"), "always", &[("CLICOLOR_FORCE", "1")], true));
        assert!(with(None, "always", &[], false) && !with(None, "never", &[], true));
        assert!(!with(None, "auto", &[("TERM", "dumb")], true));
    }
}
