//! `doctor`: what can be seen here, each ability tried; `--cross-check`: do all sources agree.

use anyhow::Context as _;
use clap::Args as ClapArgs;

use super::args::{Answer, Ground, forms};
use super::exit::{Exit, Threshold};
use super::session::Session;
use crate::doctor::{self, State};
use crate::finding::Severity;

use crate::output::{self, Ability, Disagreement, Examination, Format, Tried};
use crate::source::Source;

#[derive(ClapArgs, Debug)]
#[command(mut_arg("format", forms(Format::SCREENS)))]
pub(crate) struct Args {
    /// Ask independent sources for the same sockets and name every disagreement
    #[arg(long)]
    cross_check: bool,
    /// Exit with 1 on a disagreement, which counts as high: none, info, low, medium, high, critical
    #[arg(long, value_name = "SEVERITY", value_parser = Threshold::parse)]
    fail_on: Option<Threshold>,
    /// Exit with 3 when an ability is limited or refused
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    answer: Answer,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let format = args.answer.format(Format::SCREENS)?;
    let session = Session::open(&args.answer.manner, &Ground::default())?;
    let source = Source::live().context("cannot look at this machine")?;
    let mut abilities: Vec<Ability> = doctor::examine(&source).into_iter().map(row).collect();
    abilities.push(stage());
    let crossed = if args.cross_check { Some(doctor::cross::check(&source)) } else { None };
    let (sources, disagreements) =
        crossed.map(|found| (found.sources, found.disagreements)).unwrap_or_default();
    let disagreements: Vec<_> = disagreements.into_iter().map(disagreement).collect();
    let snapshot = crate::scan::gather(&source, &crate::model::Wants::NOTHING);
    let examination = Examination {
        host: &snapshot.host,
        taken_at: snapshot.taken_at,
        abilities: &abilities,
        sources: &sources,
        disagreements: &disagreements,
    };
    session.console.answer(|out| output::doctor(out, format, &examination, &session.console.style))?;
    let limited = abilities.iter().any(|each| matches!(each.tried, Tried::Limited | Tried::Refused));
    let threshold = args.fail_on.unwrap_or(Threshold::Never);
    let violated =
        !disagreements.is_empty() && matches!(threshold, Threshold::From(least) if least <= Severity::High);
    Ok(Exit::of(violated, args.strict, !limited))
}

fn row(found: doctor::Ability) -> Ability {
    let tried = match found.state {
        State::Works => Tried::Works,
        State::Limited => Tried::Limited,
        State::Refused => Tried::Refused,
        State::Absent => Tried::Absent,
    };
    Ability {
        id: found.id.to_owned(),
        title: found.title.to_owned(),
        tried,
        detail: found.detail,
        remedy: found.remedy,
    }
}

/// Whether the demo has a stage: it costs nothing in sight, but belongs to what can be done here.
fn stage() -> Ability {
    let (tried, detail, remedy) = if crate::demo::possible() {
        (Tried::Works, "entered one for the try", None)
    } else {
        (Tried::Refused, "no private network namespace is to be had", Some("sudo sockwarden demo".to_owned()))
    };
    Ability {
        id: "demo".to_owned(),
        title: "open harmless examples in a private network namespace".to_owned(),
        tried,
        detail: detail.to_owned(),
        remedy,
    }
}

fn disagreement(found: doctor::cross::Disagreement) -> Disagreement {
    let doctor::cross::Disagreement { what, seen_by, missed_by, note } = found;
    Disagreement { what, seen_by, missed_by, note }
}
