//! `demo`: real programs on a private stage, audited like any other, and explained.

use std::ffi::OsString;
use std::io::{self, Write};

use anyhow::Context as _;
use clap::Args as ClapArgs;

use super::args::{Answer, Breadth, Sight, forms};
use super::errors::Usage;
use super::exit::{Exit, Threshold};
use super::interrupt::Pending;
use super::session::Session;
use super::settings::Settings;
use crate::demo::{self, Refusal, Stage, Story};
use crate::model::Wants;
use crate::output::{self, Format};
use crate::rules::RuleSet;

#[derive(ClapArgs, Debug)]
#[command(mut_arg("format", forms(Format::ALL)))]
pub(crate) struct Args {
    /// Exit with 1 on a finding of this severity or above: none, info, low, medium, high, critical
    #[arg(long, value_name = "SEVERITY", value_parser = Threshold::parse)]
    fail_on: Option<Threshold>,
    #[command(flatten)]
    answer: Answer,
}

/// `words` are the arguments of this process behind its name.
pub(crate) fn run(args: Args, words: &[OsString]) -> anyhow::Result<Exit> {
    if demo::on_stage() { perform(args) } else { raise(words) }
}

/// Starts the process that goes on stage, and waits for it. The folder goes when we go.
fn raise(words: &[OsString]) -> anyhow::Result<Exit> {
    let folder =
        tempfile::Builder::new().prefix("sockwarden-demo-").tempdir().context("cannot make a folder")?;
    let path = folder.path().to_owned();
    let _pending = Pending::new(move || drop(std::fs::remove_dir_all(path)));
    let mut child = demo::spawn(folder.path(), words).context("cannot start the demo")?;
    let status = child.wait()?;
    match folder.close() {
        // Interrupted, the other process takes it away as well.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        closed => closed.context("cannot remove the demo's folder")?,
    }
    if let Some(refusal) = Refusal::from_code(status.code()) {
        return Err(told(&refusal).into());
    }
    Ok(match status.code() {
        Some(0) => Exit::Clean,
        Some(1) => Exit::Findings,
        Some(2) => Exit::Failed,
        // A signal to the whole group may end the other process before it ends us.
        Some(129 | 130 | 143) | None => Exit::Interrupted,
        Some(_) => Exit::Bug,
    })
}

fn told(refusal: &Refusal) -> Usage {
    let usage = Usage::new(refusal.to_string());
    match refusal.help() {
        Some(help) => usage.help(help),
        None => usage,
    }
}

fn perform(args: Args) -> anyhow::Result<Exit> {
    let format = args.answer.format(Format::ALL)?;
    // No configuration: the demo looks the same everywhere.
    let session = Session::with(&args.answer.manner, Settings::default());
    let _pending = demo::folder().map(|folder| Pending::new(move || drop(std::fs::remove_dir_all(folder))));
    let stage = Stage::open().map_err(|refusal| told(&refusal))?;
    let breadth = Breadth { netns: Some("current".to_owned()), ..Breadth::default() };
    let scope = session.sight(&Sight { breadth, ..Sight::default() });
    let rules = RuleSet::builtin();
    let mut subject = session.look(&scope, scope.wants(Wants::EVERYTHING))?;
    session.judge(&mut subject, &rules)?;
    drop(stage);
    // What is ours and the kernel's on this stage is no example.
    let selection =
        subject.select(&scope, |seen| seen.owners().any(|owner| owner.process.pid != std::process::id()));
    let (report, question) = (subject.report_on(&selection), scope.question());
    let rows = session.rows_asked(&rules);
    let view = subject.view(&report, &selection, &question, &rows);
    session.console.answer(|out| {
        if format == Format::Human {
            explain(&demo::stories(&subject.snapshot), out)?;
        }
        output::audit(out, format, &view, &session.console.style)
    })?;
    Ok(session.end(&view, Some(args.fail_on.unwrap_or(Threshold::Never)), false))
}

fn explain(stories: &[Story], out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "These programs were started in a private network that nothing else can reach; eth0 leads to a\n\
         make-believe neighbour. They are gone when you read this. What their sockets tell:\n"
    )?;
    for story in stories {
        writeln!(out, "{} {}.", story.who, story.what)?;
        story.lines.iter().try_for_each(|line| writeln!(out, "    {line}"))?;
    }
    writeln!(out, "\nAnd this is what `sockwarden` says of them:\n")
}
