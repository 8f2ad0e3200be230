//! `audit`, and what `sockwarden` alone does: the findings of all rules.

use clap::Args as ClapArgs;

use super::args::{Answer, Judging, Sight, Words, forms};
use super::exit::Exit;
use super::filter::{Filter, explanation};
use super::judging::Judged;
use super::session::Session;
use crate::model::Observation;
use crate::output::{self, Format};

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
    let Args { judging, sight, answer, .. } = &args;
    let wanted = |seen: &Observation<'_>| filter.matches(seen);
    let judged =
        Judged::open(&answer.manner, judging, sight, filter.protocols(), format == Format::Json, wanted)?;
    let Session { console, settings, .. } = &judged.session;
    console.answer(|out| output::audit(out, format, &judged.view(), &console.style))?;
    Ok(judged.end(judging.fail_on.or(settings.fail_on())))
}
