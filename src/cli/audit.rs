//! `audit`, and what `sockwarden` alone does: the findings of all rules.

use clap::Args as ClapArgs;

use super::args::{Answer, Judging, Sight, Words, forms};
use super::exit::Exit;
use super::filter::{Filter, explanation};
use super::session::Session;
use crate::model::Wants;
use crate::output::{self, Format, Question};

#[derive(ClapArgs, Debug)]
#[command(after_help = explanation(), mut_arg("format", forms(Format::ALL)))]
pub(crate) struct Args {
    #[command(flatten)]
    words: Words,
    #[command(flatten)]
    sight: Sight,
    #[command(flatten)]
    judging: Judging,
    #[command(flatten)]
    answer: Answer,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let filter = Filter::parse(&args.words.filter)?;
    let format = args.answer.format(Format::ALL)?;
    let session = Session::open(&args.answer.manner, &args.judging.ground)?;
    let sight = session.sight(&args.sight);
    let rules = session.rules()?;
    let mut subject = session.look(&sight, sight.wants(Wants::EVERYTHING))?;
    session.judge(&mut subject, &rules)?;
    let question = Question { protocols: filter.protocols(), ..sight.question() };
    let selection = subject.select(&sight, |seen| filter.matches(seen));
    let report = subject.report_on(&selection);
    let rows = session.rule_rows(&rules);
    let view = subject.view(&report, &selection, &question, &rows);
    session.console.answer(|out| output::audit(out, format, &view, &session.console.style))?;
    let threshold = args.judging.fail_on.or(session.settings.fail_on());
    Ok(session.end(&view, threshold, sight.strict))
}
