//! `diff A B`: what differs between two snapshots.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueHint};

use super::args::{Answer, Ground, Sight, forms};
use super::errors::Usage;
use super::exit::Exit;
use super::session::{Session, Subject, is_standard_input};
use crate::finding::diff;
use crate::output::{self, Comparison, Format, Question};
use crate::rules::RuleSet;

#[derive(ClapArgs, Debug)]
#[command(mut_arg("format", forms(Format::TABLES)))]
pub(crate) struct Args {
    /// The earlier snapshot
    #[arg(value_name = "A", value_hint = ValueHint::AnyPath)]
    before: PathBuf,
    /// The later snapshot
    #[arg(value_name = "B", value_hint = ValueHint::AnyPath)]
    after: PathBuf,
    /// Exit with 3 when one of the views is incomplete and nothing differs
    #[arg(long, help_heading = "View")]
    strict: bool,
    #[command(flatten)]
    ground: Ground,
    #[command(flatten)]
    answer: Answer,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let format = args.answer.format(Format::TABLES)?;
    if is_standard_input(&args.before) && is_standard_input(&args.after) {
        return Err(Usage::new("standard input holds one snapshot").help("write the other to a file").into());
    }
    let session = Session::open(&args.answer.manner, &args.ground)?;
    let rules = session.rules()?;
    let (before, after) = (judged(&session, args.before, &rules)?, judged(&session, args.after, &rules)?);
    let everything = Sight::default();
    let sight = session.sight(&everything);
    let (select_before, select_after) = (before.select(&sight, |_| true), after.select(&sight, |_| true));
    let question = Question::EVERYTHING;
    let (was, is) = (&before.report, &after.report);
    let changes = diff((&before.snapshot, was), (&after.snapshot, is));
    let comparison = Comparison {
        before: before.view(was, &select_before, &question, &[]),
        after: after.view(is, &select_after, &question, &[]),
        changes: &changes,
    };
    session.console.answer(|out| output::diff(out, format, &comparison, &session.console.style))?;
    let complete = comparison.before.complete() && comparison.after.complete();
    Ok(Exit::of(!changes.is_empty(), args.strict, complete))
}

fn judged(session: &Session, file: PathBuf, rules: &RuleSet) -> anyhow::Result<Subject> {
    let sight = Sight { from: Some(file), ..Sight::default() };
    let sight = session.sight(&sight);
    let mut subject = session.look(&sight, sight.wants(crate::model::Wants::EVERYTHING))?;
    session.judge(&mut subject, rules)?;
    Ok(subject)
}
