//! `rules list|show|test|lint|schema`: the rules themselves.

use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Subcommand, ValueHint};

use super::args::{Answer, Ground, Manner};
use super::errors::Faults;
use super::exit::Exit;
use super::session::Session;
use crate::output::{self, Format};
use crate::rules::RuleSet;

#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// All rules in force
    List(List),
    /// Run the examples that rules carry
    Test(Folder),
}

#[derive(ClapArgs, Debug)]
struct List {
    #[command(flatten)]
    ground: Ground,
    #[command(flatten)]
    answer: Answer,
}

#[derive(ClapArgs, Debug)]
struct Folder {
    /// Folder with rules, or one rule file [default: the rules in force]
    #[arg(value_hint = ValueHint::AnyPath)]
    dir: Option<PathBuf>,
    #[command(flatten)]
    ground: Ground,
    #[command(flatten)]
    manner: Manner,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    match args.command {
        Command::List(args) => list(&args),
        Command::Test(args) => test(&args),
    }
}

fn list(args: &List) -> anyhow::Result<Exit> {
    let format = args.answer.format(Format::TABLES)?;
    let session = Session::open(&args.answer.manner, &args.ground)?;
    let rows = session.rule_rows(&session.rules()?);
    session.console.answer(|out| output::rules(out, format, &rows, &session.console.style))?;
    Ok(Exit::Clean)
}

/// The rules that `test` and `lint` are about. A folder on the command line is only looked at,
/// not obeyed, so anybody's will do.
fn subject(session: &Session, dir: Option<&Path>) -> anyhow::Result<RuleSet> {
    match dir {
        Some(dir) => RuleSet::only(dir).map_err(|problems| Faults(problems).into()),
        None => session.rules(),
    }
}

fn test(args: &Folder) -> anyhow::Result<Exit> {
    let session = Session::open(&args.manner, &args.ground)?;
    let verified = subject(&session, args.dir.as_deref())?.verify();
    if !verified.failures.is_empty() {
        return Err(Faults(verified.failures).into());
    }
    session.console.answer(|out| {
        writeln!(out, "{} rules, {} examples: all behave as they say", verified.rules, verified.examples)
    })?;
    Ok(Exit::Clean)
}
