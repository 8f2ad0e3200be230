//! `audit`: one screenful. Summary, findings, exposed listeners, what could not be seen.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Write};

use super::paint::{self, Painted, bold, faint};
use super::screens;
use super::table::{self, Head};
use super::ways::rule;
use crate::finding::{Finding, Remedy, Severity};
use crate::model::{
    Exposure, FilterState, InterfaceKind, Observation, Path, Protocol, Reach, SocketIndex, State, Text,
    Verdict, counted,
};
use crate::output::cells;
use crate::output::clean::{fit, wrap};
use crate::output::{Clean, Style, View};

/// Columns for running text where no terminal tells.
const TEXT_WIDTH: usize = 100;
/// Places of a finding that are named before the rest is counted, unless asked for all.
const NAMED: usize = 6;
/// The same for holders, which are longer.
const HOLDERS: usize = 3;
/// And for rules of the packet filter.
const RULES: usize = 2;

pub(crate) fn audit(out: &mut dyn Write, view: &View<'_>, style: &Style) -> io::Result<()> {
    let out = &mut BufWriter::with_capacity(1 << 16, out);
    summary(out, view, style)?;
    let shown = |finding: &&Finding| style.verbose || finding.suppressed.is_none();
    let (blocks, lines): (Vec<&Finding>, Vec<&Finding>) = view
        .report
        .findings
        .iter()
        .filter(shown)
        .partition(|each| style.verbose || each.severity >= Severity::Medium);
    for finding in blocks {
        writeln!(out)?;
        block(out, view, style, finding)?;
    }
    if !lines.is_empty() {
        writeln!(out)?;
    }
    for finding in lines {
        line(out, style, finding)?;
    }
    exposed(out, view, style)?;
    undecided(out, view, style)?;
    screens::gaps(out, view, style)?;
    out.flush()
}

fn summary(out: &mut dyn Write, view: &View<'_>, style: &Style) -> io::Result<()> {
    let mut by_reach: BTreeMap<Reach, usize> = BTreeMap::new();
    for exposure in view.observations().filter_map(|each| each.socket.exposure.as_ref()) {
        *by_reach.entry(exposure.reach).or_default() += 1;
    }
    let listeners = view.observations().filter(|each| each.socket.state == State::Listen).count();
    let reach: Vec<String> = by_reach
        .iter()
        .rev()
        .filter(|(reach, _)| beyond(**reach))
        .map(|(reach, count)| format!("{count} {}", reach.name()))
        .collect();
    let reachable = if reach.is_empty() {
        "none reachable from beyond this computer".to_owned()
    } else {
        format!("reachable: {}", reach.join(", "))
    };
    write!(
        out,
        "{}  {}, {}, {reachable}",
        Painted { text: Clean(&view.snapshot.host.name), style: bold(), on: style.color },
        counted(view.selection.len(), "socket"),
        counted(listeners, "listener"),
    )?;
    let of = |severity: Severity| {
        let all = view.report.findings.iter();
        all.filter(|each| each.severity == severity && each.suppressed.is_none()).count()
    };
    let mut words = Vec::new();
    for severity in Severity::ALL {
        let count = of(*severity);
        if count > 0 {
            let text = format!("{count} {}", severity.name());
            words.push(Painted { text, style: paint::severity(*severity), on: style.color }.to_string());
        }
    }
    let suppressed = view.report.findings.iter().filter(|each| each.suppressed.is_some()).count();
    if suppressed > 0 {
        words.push(format!("{suppressed} suppressed"));
    }
    writeln!(out, "; findings: {}", if words.is_empty() { "none".to_owned() } else { words.join(", ") })
}

/// Whether others than this computer's own programs get in, or may.
fn beyond(reach: Reach) -> bool {
    match reach {
        Reach::Container | Reach::Link | Reach::Lan | Reach::Internet | Reach::Unknown => true,
        Reach::None | Reach::Process | Reach::Host => false,
    }
}

fn line(out: &mut dyn Write, style: &Style, finding: &Finding) -> io::Result<()> {
    let severity = format!("{:<8}", finding.severity.name().to_uppercase());
    let rest = format!("{} [{}]", Clean(&finding.message), Clean(&finding.rule));
    let rest = style.width.map_or_else(|| rest.clone(), |columns| fit(&rest, columns.saturating_sub(10)));
    writeln!(
        out,
        "{}  {rest}",
        Painted { text: severity, style: paint::severity(finding.severity), on: style.color }
    )
}

fn block(out: &mut dyn Write, view: &View<'_>, style: &Style, finding: &Finding) -> io::Result<()> {
    let severity = Painted {
        text: format!("{:<8}", finding.severity.name().to_uppercase()),
        style: paint::severity(finding.severity),
        on: style.color,
    };
    let rule = format!("[{}]", Clean(&finding.rule));
    writeln!(
        out,
        "{severity}  {}  {}",
        Painted { text: Clean(&finding.title), style: bold(), on: style.color },
        Painted { text: rule, style: faint(), on: style.color }
    )?;
    field(out, style, "what", finding.message_alone())?;
    if !finding.sockets.is_empty() {
        if finding.sockets.len() > 1 {
            let places = places(view, &finding.sockets, style.verbose);
            let sockets = counted(finding.sockets.len(), "socket");
            field(out, style, "where", &format!("{sockets}: {places}"))?;
        }
        field(out, style, "who", &who(view, &finding.sockets, style.verbose))?;
        field(out, style, "reach", &reach(view, &finding.sockets))?;
    }
    if let Some(suppressed) = &finding.suppressed {
        let text = format!("{}, until {}, by {}", suppressed.reason, suppressed.until, suppressed.by);
        field(out, style, "quiet", &text)?;
    }
    if style.verbose {
        field(out, style, "why", &finding.why)?;
        for evidence in &finding.evidence {
            field(out, style, "fact", evidence)?;
        }
    }
    let shown = if style.verbose { finding.remedies.len() } else { 1 };
    for remedy in finding.remedies.iter().take(shown) {
        self::remedy(out, style, remedy)?;
    }
    if finding.remedies.len() > shown {
        let text = format!("{} more, wider: -v shows them", finding.remedies.len() - shown);
        field(out, style, "", &text)?;
    }
    for reference in finding.references.iter().filter(|_| style.verbose) {
        field(out, style, "see", reference)?;
    }
    if style.verbose {
        field(out, style, "id", &finding.fingerprint)?;
    }
    Ok(())
}

/// A label and a text behind it, wrapped to the terminal; in a pipe one line.
pub(super) fn field(out: &mut dyn Write, style: &Style, label: &str, text: &str) -> io::Result<()> {
    let columns = style.width.map_or(usize::MAX, |width| width.max(30) - 9);
    for (at, line) in wrap(text, columns).iter().enumerate() {
        let label = format!("{:<5}", if at == 0 { label } else { "" });
        writeln!(out, "  {}  {line}", Painted { text: label, style: faint(), on: style.color })?;
    }
    Ok(())
}

/// A remedy: title, commands ready to copy (never broken), and with `-v` how to take it back.
pub(super) fn remedy(out: &mut dyn Write, style: &Style, remedy: &Remedy) -> io::Result<()> {
    field(out, style, "fix", &remedy.title)?;
    let lines = |out: &mut dyn Write, list: &[String]| {
        let lines = list.iter().flat_map(|command| command.lines());
        lines.into_iter().try_for_each(|line| writeln!(out, "           {}", Clean(line)))
    };
    lines(out, &remedy.commands)?;
    if style.verbose {
        if !remedy.undo.is_empty() {
            field(out, style, "undo", "takes it back:")?;
            lines(out, &remedy.undo)?;
        }
        if let Some(verify) = &remedy.verify {
            field(out, style, "check", verify)?;
        }
    }
    if let Some(note) = &remedy.note {
        field(out, style, "note", note)?;
    }
    Ok(())
}

/// Each place once, in the order of the sockets.
fn places(view: &View<'_>, sockets: &[SocketIndex], all: bool) -> String {
    let places = sockets.iter().map(|at| place(&view.snapshot.observe(*at))).collect();
    once(places, if all { usize::MAX } else { NAMED }, ", ")
}

/// Each text once; the rest beyond `most` is counted.
fn once(mut texts: Vec<String>, most: usize, between: &str) -> String {
    let mut seen = BTreeSet::new();
    texts.retain(|text| seen.insert(text.clone()));
    let hidden = texts.len().saturating_sub(most);
    texts.truncate(most);
    let more = if hidden == 0 { String::new() } else { format!(" and {hidden} more") };
    texts.join(between) + &more
}

/// `tcp 0.0.0.0:80`
pub(super) fn place(each: &Observation<'_>) -> String {
    let mut place = cells::netid(each);
    place.push(' ');
    cells::local(&mut place, each);
    place
}

/// Who holds the sockets, each once; first those of the widest reach, whom the message names.
fn who(view: &View<'_>, sockets: &[SocketIndex], all: bool) -> String {
    let mut sockets: Vec<_> = sockets.iter().map(|at| view.snapshot.observe(*at)).collect();
    sockets.sort_by_key(|each| Reverse(each.socket.exposure.as_deref().map(|exposure| exposure.reach)));
    once(sockets.iter().map(cells::who_at_length).collect(), if all { usize::MAX } else { HOLDERS }, "; ")
}

/// The widest class among the sockets of a finding, and what leaves it uncertain.
fn reach(view: &View<'_>, sockets: &[SocketIndex]) -> String {
    let sockets = || sockets.iter().map(|at| &view.snapshot.sockets[at.0 as usize]);
    let exposed = sockets().filter_map(|socket| Some((socket, socket.exposure.as_deref()?)));
    let Some((socket, exposure)) = exposed.max_by_key(|(_, exposure)| exposure.reach) else {
        return super::without_reach(sockets().all(|socket| socket.protocol == Protocol::Packet)).to_owned();
    };
    let name = exposure.reach.name();
    let namespace = view.snapshot.namespace(socket.netns);
    let rules = deciding(view, exposure);
    if exposure.certain {
        if rules.is_empty() { name.to_owned() } else { format!("{name}, let in by {rules}") }
    } else if !rules.is_empty() {
        format!("{name}, perhaps: it hangs on {rules}")
    } else if namespace.interfaces.is_unknown() || exposure.paths.is_empty() {
        format!("{name}, perhaps: its network could not be looked into")
    } else if namespace.filter == FilterState::None && socket.interface_unread() {
        format!("{name}, perhaps: the interface that it may be bound to could not be read")
    } else {
        format!("{name}, perhaps: not every filter in between could be judged")
    }
}

/// The rules that let strangers in, or leave it open whether they get in.
fn deciding(view: &View<'_>, exposure: &Exposure) -> String {
    let loopback = |path: &&Path| {
        let interfaces = view.snapshot.namespace(path.entry.netns).interfaces.known();
        let kind = |name: &Text| interfaces?.iter().find(|each| each.name == *name).map(|each| each.kind);
        path.entry.interfaces.iter().all(|name| kind(name) == Some(InterfaceKind::Loopback))
    };
    let doubtful = |path: &&Path| exposure.certain || path.verdict == Verdict::Unknown;
    let paths = exposure.paths.iter().filter(|path| doubtful(path) && !loopback(path));
    let mut indices: Vec<u32> = paths.flat_map(|path| path.because.iter().copied()).collect();
    indices.sort_unstable();
    indices.dedup();
    let more = indices.len().saturating_sub(RULES);
    let mut found: Vec<String> = indices.iter().take(RULES).filter_map(|at| rule(view, *at)).collect();
    if more > 0 {
        found.push(format!("{more} more"));
    }
    found.join("; ")
}

/// Everything that others can reach or may, widest first, equal rows once.
fn exposed(out: &mut dyn Write, view: &View<'_>, style: &Style) -> io::Result<()> {
    let mut rows: Vec<(Reach, Vec<String>, usize)> = Vec::new();
    let mut known: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    let open = view.observations().filter_map(|each| Some((each, each.socket.exposure.as_deref()?)));
    for (each, exposure) in open.filter(|(_, exposure)| beyond(exposure.reach)) {
        let mut address = String::new();
        cells::local(&mut address, &each);
        let doubt = if exposure.certain { "" } else { "?" };
        let mut place = String::new();
        for unit in each
            .units()
            .map(ToString::to_string)
            .chain(each.owners().filter_map(|o| cells::container(o.process)))
        {
            if !place.split(", ").any(|known| known == unit) {
                place.push_str(if place.is_empty() { "" } else { ", " });
                place.push_str(&unit);
            }
        }
        let row = vec![
            format!("{}{doubt}", exposure.reach.name()),
            cells::netid(&each),
            address,
            cells::who_briefly(&each),
            if place.is_empty() { "-".to_owned() } else { place },
        ];
        match known.get(&row) {
            Some(at) => rows[*at].2 += 1,
            None => {
                known.insert(row.clone(), rows.len());
                rows.push((exposure.reach, row, 1));
            }
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    rows.sort_by_key(|(reach, _, _)| std::cmp::Reverse(*reach));
    for (_, row, times) in rows.iter_mut().filter(|(_, _, times)| *times > 1) {
        row[2].push_str(&format!(" ×{times}"));
    }
    writeln!(out)?;
    let heads = [
        Head::new("Reach"),
        Head::new("Proto"),
        Head::shrinks("Address"),
        Head::shrinks("Who"),
        Head::shrinks("Unit"),
    ];
    table::write(
        out,
        style,
        &heads,
        true,
        rows.len(),
        |row, column, text| text.push_str(&rows[row].1[column]),
        |row, column| (column == 0).then(|| paint::reach(rows[row].0)),
    )
}

fn undecided(out: &mut dyn Write, view: &View<'_>, style: &Style) -> io::Result<()> {
    let all = &view.report.undecided;
    if all.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    if !style.verbose {
        let mut fields: Vec<&str> =
            all.iter().flat_map(|each| each.fields.iter().map(String::as_str)).collect();
        fields.sort_unstable();
        fields.dedup();
        let text = format!("Undecided: {} for want of {}.", counted(all.len(), "rule"), fields.join(", "));
        let columns = style.width.unwrap_or(TEXT_WIDTH);
        return wrap(&text, columns).iter().try_for_each(|line| writeln!(out, "{line}"));
    }
    for each in all {
        let text = format!(
            "{} for {}: could not read {}",
            each.rule,
            counted(each.sockets.len(), "socket"),
            each.fields.join(", ")
        );
        writeln!(out, "undecided  {}", Clean(&text))?;
    }
    Ok(())
}
