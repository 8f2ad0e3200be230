//! `why TARGET`: one screen about whatever the target is.

use std::ffi::OsString;

use clap::{Args as ClapArgs, ValueHint};

use super::args::{Answer, Breadth, Judging, Sight, forms};
use super::asking;
use super::exit::{Exit, Threshold};
use super::filter::explanation;
use super::judging::Judged;
use super::target::Target;
use crate::model::{Observation, Text};
use crate::output::{self, Format};

#[derive(ClapArgs, Debug)]
#[command(after_help = explanation(), mut_arg("format", forms(Format::SCREENS)))]
pub(crate) struct Args {
    /// 8080, tcp/8080, 127.0.0.1:8080, [::1]:8080, @abstract, /path, pid:42, or filter words
    #[arg(value_name = "TARGET", required = true)]
    target: Vec<OsString>,
    /// Ask about one source only: an address or a network. Or look at a snapshot FILE (- is standard
    /// input), or a DIR made by `snapshot --raw`, instead of this machine; may be given once for each
    #[arg(long, value_name = "ADDR|FILE|DIR", value_hint = ValueHint::AnyPath, help_heading = "View")]
    from: Vec<OsString>,
    /// Ask about what comes in by this interface only
    #[arg(long, value_name = "NAME", help_heading = "View")]
    interface: Option<OsString>,
    #[command(flatten)]
    scope: Breadth,
    #[command(flatten)]
    judging: Judging,
    #[command(flatten)]
    answer: Answer,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let target = Target::parse(&args.target)?;
    let format = args.answer.format(Format::SCREENS)?;
    let Args { judging, scope, answer, .. } = &args;
    let (source, snapshot) = asking::sort(&args.from)?;
    let sight = Sight { from: snapshot, breadth: scope.clone() };
    let wanted = |seen: &Observation<'_>| target.matches(seen);
    let mut judged = Judged::open(&answer.manner, judging, &sight, target.protocols(), true, wanted)?;
    let asked = asking::question(source, args.interface.as_ref(), &judged.subject.snapshot)?;
    let explained = judged.explain(asked.as_ref());
    let written = args.target.iter().map(|word| Text::from(word.as_encoded_bytes()).to_string());
    let why = output::Why {
        target: &written.collect::<Vec<_>>().join(" "),
        takeable: !matches!(target, Target::Words(_)),
        sockets: &explained,
    };
    let console = &judged.session.console;
    console.answer(|out| output::why(out, format, &judged.view(), &why, &console.style))?;
    Ok(judged.end(Some(judging.fail_on.unwrap_or(Threshold::Never))))
}
