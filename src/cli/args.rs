//! Options that several commands share. A command takes a group only where every option in it
//! means something.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Arg, Args, ValueHint};

use super::errors::Usage;
use super::exit::Threshold;
use crate::output::Format;

/// How the answer is written.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Answer {
    /// Write JSON (the same as --format json)
    #[arg(long, conflicts_with = "format", help_heading = "Output")]
    json: bool,
    /// Form of the answer
    #[arg(long, value_name = "FORMAT", help_heading = "Output")]
    format: Option<String>,
    #[command(flatten)]
    pub(crate) manner: Manner,
}

/// The help of `--format` for a command that has these.
pub(crate) fn forms(offered: &[Format]) -> impl FnOnce(Arg) -> Arg {
    let names: Vec<_> = offered.iter().map(|format| format.name()).collect();
    let text = match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some(_) | None => names.concat(),
    };
    move |arg| arg.help(format!("Form of the answer: {text}"))
}

/// How a human is spoken to.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Manner {
    /// When to colour: auto, always or never (NO_COLOR and CLICOLOR_FORCE are honoured)
    #[arg(long, value_name = "WHEN", help_heading = "Output",
          value_parser = PossibleValuesParser::new(["auto", "always", "never"]), hide_possible_values = true)]
    pub(crate) color: Option<String>,
    /// No notices on standard error
    #[arg(short, long, help_heading = "Output", conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// More detail; timings and counts on standard error
    #[arg(short, long, help_heading = "Output")]
    pub(crate) verbose: bool,
}

/// What is looked at.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Sight {
    /// Look at a snapshot FILE (- is standard input), or a DIR made by `snapshot --raw`, instead of
    /// this machine
    #[arg(long, value_name = "FILE|DIR", value_hint = ValueHint::AnyPath, help_heading = "View")]
    pub(crate) from: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) breadth: Breadth,
}

/// How much of it.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Breadth {
    /// Network namespaces to look into: all or current
    #[arg(long, value_name = "WHICH", help_heading = "View",
          value_parser = PossibleValuesParser::new(["all", "current"]), hide_possible_values = true)]
    pub(crate) netns: Option<String>,
    /// Exit with 3 when the view is incomplete
    #[arg(long, help_heading = "View")]
    pub(crate) strict: bool,
}

/// Which rules apply, and what comes of a finding.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Judging {
    #[command(flatten)]
    pub(crate) ground: Ground,
    /// Exit with 1 on a finding of this severity or above: none, info, low, medium, high, critical
    #[arg(long, value_name = "SEVERITY", value_parser = Threshold::parse, help_heading = "Rules")]
    pub(crate) fail_on: Option<Threshold>,
}

/// Where rules and settings come from.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Ground {
    /// Rules to add; one with the id of a built-in rule replaces it
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = "Rules")]
    pub(crate) rules: Vec<PathBuf>,
    /// Configuration file to read instead of /etc/sockwarden/config.toml and the user's own
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Rules")]
    pub(crate) config: Option<PathBuf>,
}

/// Filter words.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Words {
    /// Only sockets that these words describe: proto:tcp port:8000-9000 not process:sshd
    #[arg(value_name = "FILTER")]
    pub(crate) filter: Vec<OsString>,
}

impl Answer {
    /// The format asked for, if this command has it.
    pub(crate) fn format(&self, offered: &[Format]) -> Result<Format, Usage> {
        let Some(name) = self.format.as_deref() else {
            return Ok(if self.json { Format::Json } else { Format::Human });
        };
        let names = || offered.iter().map(|format| format.name());
        match Format::from_name(name) {
            Some(format) if offered.contains(&format) => Ok(format),
            Some(_) => Err(Usage::new(format!("this command has no format `{name}`"))
                .help(format!("it has {}", names().collect::<Vec<_>>().join(", ")))),
            None => Err(Usage::new(format!("unknown format `{}`", crate::model::Text::from(name)))
                .meant(name, names())),
        }
    }
}
