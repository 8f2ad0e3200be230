//! `why`: one screen for each socket that a target names.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

use super::asked::{asked, inquiry};
use super::audit::{field, place, remedy};
use super::paint::{self, Painted, bold, faint};
use super::screens;
use super::ways::ways;
use crate::model::{Fact, Holder, Observation, Owner, Protocol, Text};
use crate::output::cells;
use crate::output::json::v1::rfc3339;
use crate::output::{Clean, Explained, Outcome, Style, Trace, View, Why};

pub(crate) fn why(out: &mut dyn Write, view: &View<'_>, why: &Why<'_>, style: &Style) -> io::Result<()> {
    let out = &mut BufWriter::new(out);
    if why.sockets.is_empty() {
        let absent = if why.takeable { "free, nothing has it" } else { "no socket fits" };
        writeln!(out, "{}: {absent}", Clean(why.target))?;
        screens::gaps(out, view, style)?;
        return out.flush();
    }
    for (at, explained) in why.sockets.iter().enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        screen(out, view, explained, style)?;
    }
    screens::gaps(out, view, style)?;
    out.flush()
}

/// The rules that nobody can decide, by the facts that they lack: without a holder those are many.
fn undecided(out: &mut dyn Write, rules: &[Trace], style: &Style) -> io::Result<()> {
    let mut lacking: BTreeMap<&[String], Vec<&str>> = BTreeMap::new();
    for trace in rules {
        if let Outcome::Undecided { fields } = &trace.outcome {
            lacking.entry(fields).or_default().push(&trace.rule);
        }
    }
    for (fields, rules) in lacking {
        let names = match rules.as_slice() {
            few if few.len() <= 3 || style.verbose => few.join(", "),
            many => format!("{} and {} more", many[..2].join(", "), many.len() - 2),
        };
        field(out, style, "?", &format!("undecided, for want of {}: {names}", fields.join(", ")))?;
    }
    Ok(())
}

fn screen(out: &mut dyn Write, view: &View<'_>, explained: &Explained, style: &Style) -> io::Result<()> {
    let each = view.snapshot.observe(explained.socket);
    let title = format!("{} {}", place(&each), cells::state(each.socket.state));
    writeln!(out, "{}", Painted { text: title, style: bold(), on: style.color })?;
    if let Some(peer) = each.socket.peer {
        let other = view.snapshot.observe(peer);
        field(out, style, "peer", &format!("{}, {}", place(&other), cells::who(&other)))?;
    }
    held_by(out, &each, style)?;
    if let Some(answer) = &explained.inquiry.asked {
        return asked(out, view, (&each, answer), style);
    }
    reached_from(out, view, &each, style)?;
    inquiry(out, view, &explained.inquiry, style)?;
    let findings = view.report.findings.iter().filter(|finding| finding.sockets.contains(&explained.socket));
    for finding in findings {
        let severity = Painted {
            text: format!("{:<8}", finding.severity.name().to_uppercase()),
            style: paint::severity(finding.severity),
            on: style.color,
        };
        writeln!(out, "  {severity} {} [{}]", Clean(&finding.message), Clean(&finding.rule))?;
    }
    for trace in &explained.rules {
        if let Outcome::NearMiss { condition, found } = &trace.outcome {
            let text = format!("{} would say more if {condition}; here {found}", trace.rule);
            field(out, style, "near", &text)?;
        }
    }
    undecided(out, &explained.rules, style)?;
    for each in &explained.remedies {
        remedy(out, style, each)?;
    }
    Ok(())
}

fn held_by(out: &mut dyn Write, each: &Observation<'_>, style: &Style) -> io::Result<()> {
    if each.socket.holders.len == 0 {
        return field(out, style, "held", &cells::who(each));
    }
    for owner in each.owners() {
        holder(out, &owner, style)?;
    }
    if let Some(made) = &each.socket.activation {
        let list = |texts: &[Text]| texts.iter().map(Text::to_string).collect::<Vec<_>>().join(", ");
        let text = format!("made by {} for {}", list(&made.units), list(&made.services));
        field(out, style, "unit", &text)?;
    }
    Ok(())
}

fn holder(out: &mut dyn Write, owner: &Owner<'_>, style: &Style) -> io::Result<()> {
    let process = owner.process;
    let text = |fact: &Fact<Text>| match fact {
        Fact::Known(text) => text.to_string(),
        Fact::Absent => "none".to_owned(),
        Fact::Unknown => "?".to_owned(),
    };
    let number = |holder: &Holder| if holder.fd < 0 { "mem".to_owned() } else { holder.fd.to_string() };
    let fds: Vec<String> = owner.holders.iter().map(number).collect();
    let since = process
        .start_time
        .known()
        .and_then(|at| rfc3339(*at))
        .map_or(String::new(), |at| format!(", since {at}"));
    let user = process.user.known().map_or_else(|| "?".to_owned(), Text::to_string);
    field(
        out,
        style,
        "held",
        &format!("{} (pid {}, fd {}) as {user}{since}", process.name, process.pid, fds.join(", ")),
    )?;
    let state = match process.exe_state.name() {
        "present" => String::new(),
        other => format!(" ({other})"),
    };
    field(out, style, "exe", &format!("{}{state}", text(&process.exe)))?;
    if let Some(cmdline) = process.cmdline.known() {
        field(out, style, "args", &cmdline.iter().map(Text::to_string).collect::<Vec<_>>().join(" "))?;
    }
    if let Some(parents) = process.parents.known().filter(|parents| !parents.is_empty()) {
        let chain: Vec<String> =
            parents.iter().map(|parent| format!("{} ({})", parent.name, parent.pid)).collect();
        field(out, style, "from", &chain.join(" < "))?;
    }
    let mut place = vec![format!("unit {}", text(&process.unit))];
    place.extend(cells::container(process).map(|container| format!("container {container}")));
    place.push(format!("package {}", text(&process.package)));
    field(out, style, "of", &place.join(", "))
}

fn reached_from(
    out: &mut dyn Write,
    view: &View<'_>,
    each: &Observation<'_>,
    style: &Style,
) -> io::Result<()> {
    let Some(exposure) = &each.socket.exposure else {
        let text = super::without_reach(each.socket.protocol == Protocol::Packet);
        return field(out, style, "reach", text);
    };
    let doubt = if exposure.certain { "" } else { ", not certain" };
    let name = Painted { text: exposure.reach.name(), style: paint::reach(exposure.reach), on: style.color };
    writeln!(out, "  {}  {name}{doubt}", Painted { text: "reach", style: faint(), on: style.color })?;
    if let Some(access) = &each.socket.access {
        let users = match &access.users {
            crate::model::Users::Everyone => "everyone".to_owned(),
            crate::model::Users::Named(names) => {
                names.iter().map(Text::to_string).collect::<Vec<_>>().join(", ")
            }
            crate::model::Users::Unknown => "unknown: the file could not be looked at".to_owned(),
        };
        field(out, style, "users", &users)?;
    }
    for way in ways(view, &exposure.paths, style.verbose) {
        field(out, style, "way", &way)?;
    }
    Ok(())
}
