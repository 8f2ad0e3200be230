//! `rules list|show|test|lint|schema`: the rules themselves.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Subcommand, ValueHint};

use super::args::{Answer, Ground, Manner, Sight, forms};
use super::console::Console;
use super::errors::{Faults, Usage, nearest};
use super::exit::Exit;
use super::filter::explanation;
use super::judging::row;
use super::session::Session;
use super::settings::Settings;
use super::target::Target;
use crate::model::{Wants, counted};
use crate::output::{self, Clean, Format};
use crate::rules::{RuleSet, Uncovered, draft, json_schema, service_schema};

#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// All rules in force
    List(List),
    /// One rule in full: what it means, when it fires, what helps
    Show(Show),
    /// Run the examples that rules carry
    Test(Folder),
    /// Look for what is not wrong but could be better
    Lint(Folder),
    /// Start a rule from a running socket
    New(New),
    /// JSON Schema of a rule file, for editors
    Schema {
        /// Of the short form for a service
        #[arg(long)]
        service: bool,
    },
}

#[derive(ClapArgs, Debug)]
#[command(mut_arg("format", forms(Format::TABLES)))]
struct List {
    #[command(flatten)]
    ground: Ground,
    #[command(flatten)]
    answer: Answer,
}

#[derive(ClapArgs, Debug)]
#[command(mut_arg("format", forms(Format::TABLES)))]
struct Show {
    /// Name of the rule
    id: String,
    /// Print it as TOML: of a service the whole rule that its file stands for
    #[arg(long, conflicts_with_all = ["json", "format"])]
    toml: bool,
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

#[derive(ClapArgs, Debug)]
#[command(after_help = explanation())]
struct New {
    /// 8080, tcp/8080, 127.0.0.1:8080, [::1]:8080, pid:42, or filter words
    #[arg(value_name = "TARGET", required = true)]
    target: Vec<OsString>,
    #[command(flatten)]
    sight: Sight,
    #[command(flatten)]
    ground: Ground,
    #[command(flatten)]
    manner: Manner,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    match args.command {
        Command::List(args) => list(&args),
        Command::Show(args) => show(&args),
        Command::Test(args) => test(&args),
        Command::Lint(args) => lint(&args),
        Command::New(args) => new(&args),
        Command::Schema { service } => schema(service),
    }
}

fn list(args: &List) -> anyhow::Result<Exit> {
    let format = args.answer.format(Format::TABLES)?;
    let session = Session::open(&args.answer.manner, &args.ground)?;
    let rows = session.rule_rows(&session.rules()?);
    session.console.answer(|out| output::rules(out, format, &rows, &session.console.style))?;
    Ok(Exit::Clean)
}

fn show(args: &Show) -> anyhow::Result<Exit> {
    let format = args.answer.format(Format::TABLES)?;
    let session = Session::open(&args.answer.manner, &args.ground)?;
    let rules = session.rules()?;
    let Some(rule) = rules.get(&args.id) else {
        let usage = Usage::new(format!("there is no rule `{}`", crate::model::Text::from(&*args.id)));
        let near = nearest(&args.id, rules.ids());
        let all = || "`sockwarden rules list` names all".to_owned();
        return Err(usage.help(near.map_or_else(all, |id| format!("did you mean `{id}`?"))).into());
    };
    if args.toml {
        // As it is, to be saved as a file: TOML allows no control characters.
        session.console.answer(|out| out.write_all(rule.source().as_bytes()))?;
        return Ok(Exit::Clean);
    }
    session.console.answer(|out| match format {
        Format::Human | Format::Markdown => {
            rule.describe().lines().try_for_each(|line| writeln!(out, "{}", Clean(line)))
        }
        Format::Json | Format::Jsonl | Format::Sarif | Format::Junit | Format::Github => {
            output::rules(out, format, &[row(rule)], &session.console.style)
        }
    })?;
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
        let (rules, examples) = (counted(verified.rules, "rule"), counted(verified.examples, "example"));
        writeln!(out, "{rules}, {examples}: all behave as they say")?;
        let (all, missing) = (verified.conditions, verified.uncovered.len());
        if missing == 0 {
            return writeln!(out, "{}: each is seen true and false", counted(all, "condition"));
        }
        writeln!(out, "{}: {missing} of them not seen both true and false:", counted(all, "condition"))?;
        for Uncovered { rule, condition, never, .. } in &verified.uncovered {
            writeln!(out, "  {}: no example makes `{}` {never}", Clean(rule), Clean(condition))?;
        }
        Ok(())
    })?;
    Ok(Exit::Clean)
}

fn lint(args: &Folder) -> anyhow::Result<Exit> {
    let session = Session::open(&args.manner, &args.ground)?;
    let rules = subject(&session, args.dir.as_deref())?;
    let advice = rules.lint();
    session.console.answer(|out| match advice.as_slice() {
        [] => writeln!(out, "{}: nothing to find fault with", counted(rules.len(), "rule")),
        advice => output::problems(out, advice, &session.console.style),
    })?;
    Ok(if advice.is_empty() { Exit::Clean } else { Exit::Findings })
}

/// The first socket that the target names and that a service can be made of.
fn new(args: &New) -> anyhow::Result<Exit> {
    let target = Target::parse(&args.target)?;
    let session = Session::open(&args.manner, &args.ground)?;
    let scope = session.sight(&args.sight);
    let subject = session.look(&scope, scope.wants(Wants::EVERYTHING))?;
    let selection = subject.select(&scope, |seen| target.matches(seen));
    let mut refused = None;
    for at in selection {
        match draft(subject.snapshot.observe(at)) {
            Ok(text) => {
                // As it is, to be saved as a file: what is not plain text is not in it.
                session.console.answer(|out| out.write_all(text.as_bytes()))?;
                return Ok(Exit::Clean);
            }
            Err(why) => refused = refused.or(Some(why)),
        }
    }
    Err(Usage::new(refused.unwrap_or_else(|| "no socket is that".to_owned())).into())
}

fn schema(service: bool) -> anyhow::Result<Exit> {
    let console = Console::new(&Manner::default(), &Settings::default());
    console.answer(|out| {
        serde_json::to_writer_pretty(&mut *out, &if service { service_schema() } else { json_schema() })?;
        writeln!(out)
    })?;
    Ok(Exit::Clean)
}
