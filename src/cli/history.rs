//! `history`: what the watch has kept, asked three ways.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueHint};
use ipnet::IpNet;

use super::args::{Answer, Ground, forms};
use super::console::Console;
use super::errors::Usage;
use super::exit::Exit;
use super::filter::Filter;
use super::keeping::usual_place;
use super::session::Session;
use super::settings::{duration, shown};
use super::target::Target;
use crate::finding::{PastDoor, THE_DOOR, Watched};
use crate::history::{Past, Span, USUAL};
use crate::model::Text;
use crate::output::{self, Format, Recollection};

#[derive(ClapArgs, Debug)]
#[command(
    after_help = "`sockwarden watch --history` writes it; the system service does. TIME is `yesterday`, \
                        `today`, a length of time before now (`2h`, `7d`), a day (`2026-11-22`) or a moment \
                        (`2026-11-22T14:00`)."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    question: Question,
}

#[derive(Subcommand, Debug)]
enum Question {
    /// What opened, closed or changed, and what was found: `history changes --since yesterday`
    Changes(Changes),
    /// When something first appeared, by whom, and when it was last there: `history seen 6379`
    Seen(Seen),
    /// Which programs talked with an address, how often: `history peers 203.0.113.0/24`
    Peers(Peers),
}

#[derive(ClapArgs, Debug)]
struct Changes {
    /// Only of these sockets: a port, ADDR:PORT, @name, /path or filter words
    #[arg(value_name = "TARGET")]
    target: Vec<OsString>,
    #[command(flatten)]
    common: Common,
}

#[derive(ClapArgs, Debug)]
struct Seen {
    /// A port, ADDR:PORT, @name, /path or filter words; everything without
    #[arg(value_name = "TARGET")]
    target: Vec<OsString>,
    #[command(flatten)]
    common: Common,
}

#[derive(ClapArgs, Debug)]
struct Peers {
    /// Address or network of the other side; everybody without
    #[arg(value_name = "ADDRESS", value_parser = network)]
    address: Option<IpNet>,
    #[command(flatten)]
    common: Common,
}

#[derive(ClapArgs, Debug)]
#[command(mut_arg("format", forms(Format::SCREENS)))]
struct Common {
    /// Not before this time
    #[arg(long, value_name = "TIME", value_parser = moment, help_heading = "Time")]
    since: Option<jiff::Timestamp>,
    /// Not after this time
    #[arg(long, value_name = "TIME", value_parser = moment, help_heading = "Time")]
    until: Option<jiff::Timestamp>,
    /// The history to read [default: the system service's, else this user's own]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "View")]
    file: Option<PathBuf>,
    #[command(flatten)]
    answer: Answer,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let common = match &args.question {
        Question::Changes(Changes { common, .. })
        | Question::Seen(Seen { common, .. })
        | Question::Peers(Peers { common, .. }) => common,
    };
    let format = common.answer.format(Format::SCREENS)?;
    let session = Session::open(&common.answer.manner, &Ground::default())?;
    let file = match &common.file {
        Some(file) => file.clone(),
        None => standing_place(),
    };
    let span = common.span()?;
    let mut told = Recollection { file: shown(&file), ..Recollection::default() };
    (told.since, told.until) = (common.since.map(nanoseconds), common.until.map(nanoseconds));
    let past = Past::open(&file)?;
    told.watched = past.watched()?;
    match &args.question {
        Question::Changes(Changes { target, .. }) => {
            let target = parse(target)?;
            told.changes = past.changes(span)?;
            told.changes.retain(|change| {
                target.as_ref().is_none_or(|target| {
                    [&change.before, &change.after].into_iter().flatten().any(|door| matches(target, door))
                })
            });
            told.question = "changes";
        }
        Question::Seen(Seen { target, .. }) => {
            let target = parse(target)?;
            told.doors = past.doors(span)?;
            told.doors.retain(|door| target.as_ref().is_none_or(|target| matches(target, door)));
            told.question = "seen";
        }
        Question::Peers(Peers { address, .. }) => {
            told.talks = past.talks(span)?;
            told.talks.retain(|talk| address.is_none_or(|network| network.contains(&talk.peer)));
            told.question = "peers";
        }
    }
    session.console.answer(|out| output::history(out, format, &told, &session.console.style))?;
    admit(&session.console, &told.watched, span);
    Ok(Exit::Clean)
}

impl Common {
    fn span(&self) -> anyhow::Result<Span> {
        let since = self.since.map_or(Span::ALWAYS.since, nanoseconds);
        let until = self.until.map_or(Span::ALWAYS.until, nanoseconds);
        if since > until {
            return Err(Usage::new("--since is later than --until").into());
        }
        Ok(Span { since, until })
    }
}

/// The system service's history, else this user's.
fn standing_place() -> PathBuf {
    let usual = PathBuf::from(USUAL);
    if usual.exists() { usual } else { usual_place().unwrap_or(usual) }
}

fn parse(words: &[OsString]) -> anyhow::Result<Option<Target>> {
    match words {
        [] => Ok(None),
        [_] => Ok(Some(Target::parse(words)?)),
        _ => Ok(Some(Target::Words(Filter::parse(words)?))),
    }
}

fn matches(target: &Target, door: &PastDoor) -> bool {
    let snapshot = door.snapshot();
    target.matches(&snapshot.observe(THE_DOOR))
}

/// What nobody watched cannot have been kept: said where it touches the question.
fn admit(console: &Console, watched: &[Watched], span: Span) {
    let day = |at: i64| {
        let at =
            jiff::Timestamp::from_nanosecond(at.into()).map(|at| at.to_zoned(jiff::tz::TimeZone::system()));
        at.map_or_else(|_| "?".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string())
    };
    let (Some(first), Some(last)) = (watched.first(), watched.last()) else {
        return;
    };
    if span.since < first.began {
        console.notice(&format!("nothing was kept before {}", day(first.began)));
    }
    for pair in watched.windows(2) {
        let (from, to) = (pair[0].until, pair[1].began);
        if to > from && span.since < to && span.until > from {
            console.notice(&format!("nobody watched from {} to {}", day(from), day(to)));
        }
    }
    if span.until > last.until {
        console.notice(&format!("nothing was kept after {}", day(last.until)));
    }
    let touched = watched.iter().filter(|each| each.began <= span.until && each.until >= span.since);
    let lost: u64 = touched.map(|each| each.lost).sum();
    if lost > 0 {
        console.notice(&format!("{} could not be kept", crate::model::counted(lost, "record")));
    }
}

fn nanoseconds(at: jiff::Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(if at < jiff::Timestamp::UNIX_EPOCH {
        i64::MIN
    } else {
        i64::MAX
    })
}

/// For clap: a time as a person says it, in the zone of this computer.
fn moment(text: &str) -> Result<jiff::Timestamp, String> {
    of_day(text, &jiff::Zoned::now())
}

fn of_day(text: &str, now: &jiff::Zoned) -> Result<jiff::Timestamp, String> {
    let wrong = || "not a time such as yesterday, 2h, 7d, 2026-11-22 or 2026-11-22T14:00".to_owned();
    let zone = now.time_zone().clone();
    let day =
        |date: jiff::civil::Date| date.to_zoned(zone.clone()).map(|at| at.timestamp()).map_err(|_| wrong());
    match text {
        "now" => return Ok(now.timestamp()),
        "today" => return day(now.date()),
        "yesterday" => return day(now.date().yesterday().map_err(|_| wrong())?),
        _ => {}
    }
    if let Ok(length) = duration(text) {
        return now.timestamp().checked_sub(length).map_err(|_| wrong());
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(at);
    }
    if text.contains([':', 'T'])
        && let Ok(at) = text.parse::<jiff::civil::DateTime>()
    {
        return at.to_zoned(zone).map(|at| at.timestamp()).map_err(|_| wrong());
    }
    text.parse::<jiff::civil::Date>().map_err(|_| wrong()).and_then(day)
}

/// For clap: an address or a network.
fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
    address.or_else(|_| text.parse::<IpNet>()).map(|network| network.trunc()).map_err(|_| {
        let text = Text::from(text);
        format!("`{text}` is no address and no network; names are not looked up")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_understood_as_a_person_says_it() {
        let now: jiff::Zoned = "2026-11-22T20:15:00+01:00[Europe/Berlin]".parse().unwrap();
        let at = |text: &str| of_day(text, &now).map(|at| at.to_string());
        assert_eq!(at("yesterday").unwrap(), "2026-11-20T23:00:00Z");
        assert_eq!(at("today").unwrap(), "2026-11-21T23:00:00Z");
        assert_eq!(at("2h").unwrap(), "2026-11-22T17:15:00Z");
        assert_eq!(at("7d").unwrap(), "2026-11-15T19:15:00Z");
        assert_eq!(at("2026-11-01").unwrap(), "2026-10-31T23:00:00Z");
        assert_eq!(at("2026-11-01T12:30").unwrap(), "2026-11-01T11:30:00Z");
        assert_eq!(at("2026-11-01T12:30:00Z").unwrap(), "2026-11-01T12:30:00Z");
        for bad in ["", "soon", "6379", "2026-13-01", "-5s", "12:30"] {
            assert!(at(bad).is_err(), "{bad}: {:?}", at(bad));
        }
    }

    #[test]
    fn an_address_is_a_network_of_one() {
        assert_eq!(network("192.0.2.7").unwrap().to_string(), "192.0.2.7/32");
        assert_eq!(network("::ffff:192.0.2.7").unwrap().to_string(), "192.0.2.7/32");
        assert_eq!(network("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
        assert!(network("example.org").is_err());
    }
}
