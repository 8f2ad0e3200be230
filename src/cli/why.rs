//! `why TARGET`: one screen about whatever the target is.

use std::ffi::OsString;

use clap::Args as ClapArgs;

use super::args::{Answer, Judging, Sight, forms};
use super::exit::{Exit, Threshold};
use super::filter::explanation;
use super::session::Session;
use super::target::Target;
use crate::model::{Text, Wants};
use crate::output::{self, Format, Question};

#[derive(ClapArgs, Debug)]
#[command(after_help = explanation(), mut_arg("format", forms(Format::SCREENS)))]
pub(crate) struct Args {
    /// 8080, tcp/8080, 127.0.0.1:8080, [::1]:8080, @abstract, /path, pid:42, or filter words
    #[arg(value_name = "TARGET", required = true)]
    target: Vec<OsString>,
    #[command(flatten)]
    sight: Sight,
    #[command(flatten)]
    judging: Judging,
    #[command(flatten)]
    answer: Answer,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let target = Target::parse(&args.target)?;
    let format = args.answer.format(Format::SCREENS)?;
    let session = Session::open(&args.answer.manner, &args.judging.ground)?;
    let sight = session.sight(&args.sight);
    let rules = session.rules()?;
    let mut subject = session.look(&sight, sight.wants(Wants::EVERYTHING))?;
    session.judge(&mut subject, &rules)?;
    let question = Question { protocols: target.protocols(), ..sight.question() };
    let selection = subject.select(&sight, |seen| target.matches(seen));
    let report = subject.report_on(&selection);
    let rows = session.rule_rows(&rules);
    let view = subject.view(&report, &selection, &question, &rows);
    let explained = subject.explain(&selection, &rules);
    let written = args.target.iter().map(|word| Text::from(word.as_encoded_bytes()).to_string());
    let why = output::Why {
        target: &written.collect::<Vec<_>>().join(" "),
        takeable: !matches!(target, Target::Words(_)),
        sockets: &explained,
    };
    session.console.answer(|out| output::why(out, format, &view, &why, &session.console.style))?;
    Ok(session.end(&view, Some(args.judging.fail_on.unwrap_or(Threshold::Never)), sight.strict))
}
