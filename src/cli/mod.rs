//! The command line; nobody imports it.

#![forbid(unsafe_code)]

#[cfg(all(unix, feature = "desktop"))]
mod alert;
mod args;
mod asking;
mod audit;
mod bug;
mod config;
mod console;
mod demo;
mod diff;
mod doctor;
mod errors;
mod exec;
mod exit;
mod filter;
#[cfg(feature = "history")]
mod history;
mod interrupt;
mod judging;
#[cfg(feature = "history")]
mod keeping;
mod list;
mod listeners;
mod rules;
mod selftest;
mod session;
mod settings;
mod snapshot;
mod target;
mod trust;
mod watch;
mod why;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use console::say;
use exit::Exit;

/// Shows what is open on this machine, who holds it, who can reach it, whether that is wise, and
/// what closes it.
#[derive(Parser, Debug)]
#[command(
    name = "sockwarden",
    version,
    arg_required_else_help = false,
    disable_help_subcommand = true,
    after_help = "Without a command: audit, with all its options (`sockwarden --json`).\n\
                  Exit codes: 0 clean, 1 findings or differences, 2 could not do the work, \
                  3 incomplete view under --strict, 4 a bug."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// What is exposed, to whom, what is risky about it, what to do (the default)
    Audit(audit::Args),
    /// Every socket with its owners, with the letters of ss
    List(list::Args),
    /// Everything about one port, path, process or program
    Why(why::Args),
    /// Changes and findings as they happen
    Watch(watch::Args),
    /// Desktop notifications of what the watch publishes
    #[cfg(all(unix, feature = "desktop"))]
    Alert(alert::Args),
    /// What was seen when: changes, first sightings, and who talked with whom
    #[cfg(feature = "history")]
    History(history::Args),
    /// Save the whole view with its inputs
    Snapshot(snapshot::Args),
    /// What differs between two snapshots
    Diff(diff::Args),
    /// The rules: list, show, test, lint, schema
    Rules(rules::Args),
    /// The settings: check the files, show what is in force
    Config(config::Args),
    /// Harmless examples, opened in a private network and explained
    Demo(demo::Args),
    /// What can and cannot be seen here, each ability tried
    Doctor(doctor::Args),
}

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    bug::install();
    let mut arguments = std::env::args_os().collect();
    if let Some(exit) = crate::demo::enter(&mut arguments) {
        return exit;
    }
    interrupt::watch();
    bug::guard(|| run(arguments)).into()
}

fn run(arguments: Vec<OsString>) -> Exit {
    let arguments = reordered(arguments);
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return unparsed(&error),
    };
    let done = match cli.command {
        Command::Audit(args) => audit::run(args),
        Command::List(args) => list::run(args),
        Command::Why(args) => why::run(args),
        Command::Watch(args) => watch::run(args),
        #[cfg(all(unix, feature = "desktop"))]
        Command::Alert(args) => alert::run(args),
        #[cfg(feature = "history")]
        Command::History(args) => history::run(args),
        Command::Snapshot(args) => snapshot::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Rules(args) => rules::run(args),
        Command::Config(args) => config::run(args),
        Command::Demo(args) => demo::run(args, arguments.get(1..).unwrap_or_default()),
        Command::Doctor(args) => doctor::run(args),
    };
    done.unwrap_or_else(|error| failed(&error))
}

/// `sockwarden --json list` is `sockwarden list --json`, and without a command it is `audit`.
fn reordered(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let ours = Cli::command();
    let is_command = |word: &OsString| ours.find_subcommand(word).is_some();
    let alone = |word: &OsString| ["-h", "--help", "-V", "--version"].iter().any(|each| word == each);
    match arguments.get(1) {
        Some(first) if alone(first) || !first.as_encoded_bytes().starts_with(b"-") => return arguments,
        Some(_) | None => {}
    }
    let front = |until: usize| {
        let words = [OsString::from("sockwarden"), OsString::from("audit")];
        words.into_iter().chain(arguments[1..until].iter().cloned())
    };
    let split =
        (2..arguments.len()).find(|&at| is_command(&arguments[at]) && Cli::try_parse_from(front(at)).is_ok());
    let command = split.map_or_else(|| OsString::from("audit"), |at| arguments.remove(at));
    arguments.insert(1.min(arguments.len()), command);
    arguments
}

/// Help and version go to standard output; what could not be parsed is told harmlessly.
fn unparsed(error: &clap::Error) -> Exit {
    if !error.use_stderr() {
        return match error.print() {
            Ok(()) => Exit::Clean,
            Err(closed) if closed.kind() == std::io::ErrorKind::BrokenPipe => Exit::Clean,
            Err(other) => failed(&anyhow::Error::new(other).context("cannot write to standard output")),
        };
    }
    for line in error.to_string().lines() {
        say(&format!("{}\n", crate::model::Text::from(line)));
    }
    Exit::Failed
}

fn failed(error: &anyhow::Error) -> Exit {
    if errors::is_closed_pipe(error) {
        return Exit::Clean;
    }
    if let Some(errors::Faults(problems)) = error.downcast_ref() {
        errors::show(problems);
    }
    say(&format!("sockwarden: {}\n", errors::sentence(error)));
    if let Some(help) = errors::help(error) {
        say(&format!("  help: {help}\n"));
    }
    Exit::Failed
}
