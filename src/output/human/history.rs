//! What was seen when, for a person.

use std::io::{self, BufWriter, Write};

use anstyle::AnsiColor;

use super::event::{color_of, told};
use super::paint::{self, Painted, colored, faint};
use super::table::{self, Head};
use crate::finding::{PastChange, PastDoor, PastHolder, THE_DOOR};
use crate::model::{Observation, Role, Snapshot, Text};
use crate::output::{Clean, Recollection, Style, cells};

pub(crate) fn history(out: &mut dyn Write, told: &Recollection, style: &Style) -> io::Result<()> {
    let out = &mut BufWriter::new(out);
    match told.question {
        _ if told.changes.is_empty() && told.doors.is_empty() && told.talks.is_empty() => {
            writeln!(out, "nothing of that was kept")?;
        }
        "seen" => doors(out, told, style)?,
        "peers" => peers(out, told, style)?,
        _ => told.changes.iter().try_for_each(|each| change(out, each, style))?,
    }
    out.flush()
}

/// `2026-11-22 20:14:03 + opened   tcp 0.0.0.0:6379  redis-server (pid 12)  internet`
fn change(out: &mut dyn Write, change: &PastChange, style: &Style) -> io::Result<()> {
    let (mark, color) = color_of(change.kind);
    write!(out, "{} ", Painted { text: moment(change.at), style: faint(), on: style.color })?;
    let name = format!("{mark} {:<8}", change.kind.name());
    if let Some(finding) = &change.finding {
        let paint = if change.kind == crate::finding::ChangeKind::Finding {
            paint::severity(finding.severity)
        } else {
            colored(color)
        };
        write!(out, "{}", Painted { text: name, style: paint, on: style.color })?;
        let level = finding.severity.name().to_uppercase();
        return writeln!(out, " {level}  {}  [{}]", Clean(&finding.message), Clean(&finding.rule));
    }
    let snapshot = |door: &Option<PastDoor>| door.as_ref().map(PastDoor::snapshot);
    let (before, after) = (snapshot(&change.before), snapshot(&change.after));
    write!(out, "{}", Painted { text: name, style: colored(color), on: style.color })?;
    writeln!(out, " {}", told(change.kind, seen(before.as_ref()), seen(after.as_ref())))
}

fn seen(snapshot: Option<&Snapshot>) -> Option<Observation<'_>> {
    snapshot.map(|snapshot| snapshot.observe(THE_DOOR))
}

fn doors(out: &mut dyn Write, told: &Recollection, style: &Style) -> io::Result<()> {
    let heads = [
        Head::new("First seen"),
        Head::new("Last seen"),
        Head::right("Times"),
        Head::new("Proto"),
        Head::shrinks("Address"),
        Head::new("Reach"),
        Head::shrinks("Who"),
        Head::shrinks("Program"),
    ];
    let snapshots: Vec<_> = told.doors.iter().map(PastDoor::snapshot).collect();
    table::write(
        out,
        style,
        &heads,
        true,
        told.doors.len(),
        |row, column, text| {
            let (door, seen) = (&told.doors[row], snapshots[row].observe(THE_DOOR));
            match column {
                0 => text.push_str(&moment(door.first_seen)),
                1 if door.open => text.push_str("open"),
                1 => text.push_str(&moment(door.last_seen)),
                2 => text.push_str(&door.times.to_string()),
                3 => text.push_str(&door.protocol.name()),
                4 => cells::local(text, &seen),
                5 => text.push_str(door.reach.map_or("-", |(reach, _)| reach.name())),
                6 => text.push_str(&who(door.holder.as_ref())),
                _ => text.push_str(&program(door.holder.as_ref())),
            }
        },
        |row, column| (column == 1 && told.doors[row].open).then(|| colored(AnsiColor::Cyan)),
    )
}

fn peers(out: &mut dyn Write, told: &Recollection, style: &Style) -> io::Result<()> {
    let heads = [
        Head::new("First seen"),
        Head::new("Last seen"),
        Head::right("Times"),
        Head::new("Proto"),
        Head::new("Peer"),
        Head::shrinks("What"),
        Head::shrinks("Who"),
        Head::shrinks("Program"),
    ];
    table::write(
        out,
        style,
        &heads,
        true,
        told.talks.len(),
        |row, column, text| {
            let talk = &told.talks[row];
            match column {
                0 => text.push_str(&moment(talk.first_seen)),
                1 => text.push_str(&moment(talk.last_seen)),
                2 => text.push_str(&talk.times.to_string()),
                3 => text.push_str(&talk.protocol.name()),
                4 => text.push_str(&talk.peer.to_string()),
                5 => text.push_str(&match talk.role {
                    Role::Inbound => format!("called our port {}", talk.port),
                    Role::Outbound => format!("was called at port {}", talk.port),
                    Role::Listener | Role::Peer | Role::Receiver | Role::Idle | Role::Published => {
                        format!("its port {}", talk.port)
                    }
                }),
                6 => text.push_str(&who(talk.holder.as_ref())),
                _ => text.push_str(&program(talk.holder.as_ref())),
            }
        },
        |_, _| None,
    )
}

/// `redis-server (pid 12) of redis, started by systemd`
fn who(holder: Option<&PastHolder>) -> String {
    let Some(holder) = holder else { return "-".to_owned() };
    let mut text = format!("{} (pid {})", holder.name, holder.pid);
    for (word, name) in [(" of ", &holder.user), (", started by ", &holder.parent)] {
        if let Some(name) = name {
            text.push_str(&format!("{word}{name}"));
        }
    }
    text
}

/// Unit or container where there is one, and the executable.
fn program(holder: Option<&PastHolder>) -> String {
    let parts = holder.map(|holder| [&holder.container, &holder.unit, &holder.exe]);
    let parts: Vec<String> = parts.into_iter().flatten().flatten().map(Text::to_string).collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join(" ") }
}

/// Day and time here, to the second.
fn moment(nanoseconds: i64) -> String {
    let Ok(time) = jiff::Timestamp::from_nanosecond(nanoseconds.into()) else { return "-".to_owned() };
    time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}
