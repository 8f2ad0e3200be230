//! One change as a line, for a person who watches.

use std::io::{self, Write};

use anstyle::AnsiColor;

use super::audit::{field, place, remedy};
use super::paint::{self, Painted, colored, faint};
use crate::finding::ChangeKind;
use crate::model::{Endpoint, Observation};
use crate::output::cells;
use crate::output::{Clean, Event, Style, What};

/// `20:14:03 + opened   tcp 0.0.0.0:6379  redis-server (pid 12), redis.service  internet`
pub(crate) fn event(out: &mut dyn Write, event: &Event<'_>, style: &Style) -> io::Result<()> {
    let (mark, color) = match event.what {
        What::Socket { kind, .. } | What::Finding { kind, .. } => color_of(kind),
        What::Lost(_) => ('?', AnsiColor::Magenta),
    };
    let time = clock(event.at);
    write!(out, "{} ", Painted { text: time, style: faint(), on: style.color })?;
    let name = format!("{mark} {:<8}", event.what.name());
    match event.what {
        What::Socket { kind, before, after } => {
            write!(out, "{}", Painted { text: name, style: colored(color), on: style.color })?;
            writeln!(out, " {}", told(kind, before, after))
        }
        What::Finding { kind, finding, .. } => {
            let paint =
                if kind == ChangeKind::Finding { paint::severity(finding.severity) } else { colored(color) };
            write!(out, "{}", Painted { text: name, style: paint, on: style.color })?;
            let level = finding.severity.name().to_uppercase();
            writeln!(out, " {level}  {}  [{}]", Clean(&finding.title), Clean(&finding.rule))?;
            if kind == ChangeKind::Finding {
                field(out, style, "what", &finding.message)?;
                if let Some(first) = finding.remedies.first() {
                    remedy(out, style, first)?;
                }
            }
            Ok(())
        }
        What::Lost(count) => {
            write!(out, "{}", Painted { text: name, style: colored(color), on: style.color })?;
            let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
            writeln!(
                out,
                " the kernel had more to tell than there was room for ({times}); everything is read anew"
            )
        }
    }
}

/// The mark and the colour of a change.
pub(super) fn color_of(kind: ChangeKind) -> (char, AnsiColor) {
    match kind {
        ChangeKind::Opened => ('+', AnsiColor::Cyan),
        ChangeKind::Finding => ('!', AnsiColor::Red),
        ChangeKind::Closed | ChangeKind::Cleared => ('-', AnsiColor::Green),
        ChangeKind::Reach | ChangeKind::Owner => ('~', AnsiColor::Yellow),
    }
}

pub(super) fn told(
    kind: ChangeKind,
    before: Option<Observation<'_>>,
    after: Option<Observation<'_>>,
) -> String {
    let Some(at) = after.or(before) else { return String::new() };
    let both = before.zip(after);
    let who = match both {
        Some((was, is)) if kind == ChangeKind::Owner => {
            format!("{} -> {}", program(&was), program(&is))
        }
        Some(_) | None => cells::who_at_length(&at),
    };
    let reach = match both {
        Some((was, is)) => {
            let (was, is) = (reach_of(&was), reach_of(&is));
            if was == is { is } else { format!("{was} -> {is}") }
        }
        None => reach_of(&at),
    };
    let mut text = match both {
        Some((was, is)) if place(&was) != place(&is) => format!("{} -> {}", place(&was), place(&is)),
        Some(_) | None => place(&at),
    };
    if !matches!(at.socket.remote, Endpoint::None) {
        text.push_str(" with ");
        cells::peer(&mut text, &at);
    }
    let because = both.filter(|_| kind == ChangeKind::Reach).and_then(|(_, is)| reason(&is));
    [Some(text), Some(who), Some(reach).filter(|reach| reach != "-"), because]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("  ")
}

/// Name and path: a replaced program may have the name of the old one.
fn program(each: &Observation<'_>) -> String {
    let who = cells::who(each);
    let path = each.owners().next().and_then(|owner| owner.process.exe.known());
    path.map_or_else(|| who.clone(), |path| format!("{who} {path}"))
}

/// The rule that lets the widest in.
fn reason(each: &Observation<'_>) -> Option<String> {
    let exposure = each.socket.exposure.as_deref()?;
    let because = exposure.paths.iter().flat_map(|path| &path.because).next()?;
    let rule = each.snapshot.evidence.get(*because as usize)?;
    Some(format!("by {}: {}", Clean(&rule.place), rule.text))
}

/// The time of day here, to the second.
fn clock(nanoseconds: i64) -> String {
    let Ok(time) = jiff::Timestamp::from_nanosecond(nanoseconds.into()) else { return String::new() };
    time.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string()
}

fn reach_of(each: &Observation<'_>) -> String {
    let exposure = each.socket.exposure.as_deref();
    exposure.map_or_else(
        || "-".to_owned(),
        |exposure| format!("{}{}", exposure.reach.name(), if exposure.certain { "" } else { "?" }),
    )
}
