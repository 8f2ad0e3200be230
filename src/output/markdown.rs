//! Markdown for a pull request or an issue; foreign names cannot become markup.

use std::io::{self, BufWriter, Write};

use super::cells;
use super::json::v1::Ids;
use super::{Clean, Comparison, ListOptions, RuleRow, View};
use crate::finding::{ChangeKind, Finding, Severity};
use crate::model::SocketIndex;

pub(crate) fn report(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    let out = &mut BufWriter::new(out);
    let counted = |severity: &Severity| {
        let all = view.report.findings.iter();
        all.filter(|each| each.severity == *severity && each.suppressed.is_none()).count()
    };
    writeln!(out, "# Open sockets of {}\n", escape(&view.snapshot.host.name))?;
    let names: Vec<&str> = Severity::ALL.iter().map(|severity| severity.name()).collect();
    writeln!(out, "| sockets | {} |", names.join(" | "))?;
    writeln!(out, "| ---: |{}", " ---: |".repeat(Severity::ALL.len()))?;
    let counts: Vec<String> = Severity::ALL.iter().map(|severity| counted(severity).to_string()).collect();
    writeln!(out, "| {} | {} |", view.selection.len(), counts.join(" | "))?;
    for finding in &view.report.findings {
        self::finding(out, view, finding)?;
    }
    undecided(out, view)?;
    gaps(out, view)?;
    out.flush()
}

fn finding(out: &mut dyn Write, view: &View<'_>, finding: &Finding) -> io::Result<()> {
    let severity = finding.severity.name();
    writeln!(out, "\n## {severity}: {} (`{}`)\n", escape(&finding.title), code(&finding.rule))?;
    writeln!(out, "{}\n", escape(&finding.message))?;
    if let Some(suppressed) = &finding.suppressed {
        let (reason, by) = (escape(&suppressed.reason), escape(&suppressed.by));
        writeln!(out, "*Suppressed until {}: {reason} ({by})*\n", escape(&suppressed.until))?;
    }
    for at in &finding.sockets {
        let each = view.snapshot.observe(*at);
        let mut local = String::new();
        cells::local(&mut local, &each);
        writeln!(out, "- `{} {}` held by {}", cells::netid(&each), code(&local), escape(&cells::who(&each)))?;
    }
    if !finding.why.is_empty() {
        writeln!(out, "\n{}", escape(&finding.why))?;
    }
    for remedy in &finding.remedies {
        writeln!(out, "\n**{}**", escape(&remedy.title))?;
        block(out, &remedy.commands)?;
        if !remedy.undo.is_empty() {
            writeln!(out, "\nTakes it back:")?;
            block(out, &remedy.undo)?;
        }
        if let Some(verify) = &remedy.verify {
            writeln!(out, "\nCheck: `{}`", code(verify))?;
        }
        if let Some(note) = &remedy.note {
            writeln!(out, "\n{}", escape(note))?;
        }
    }
    for reference in &finding.references {
        writeln!(out, "\nSee {}", escape(reference))?;
    }
    writeln!(out, "\nFingerprint `{}`", code(&finding.fingerprint))
}

/// Commands as an indented block, which no text can end.
fn block(out: &mut dyn Write, lines: &[String]) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    lines.iter().flat_map(|line| line.lines()).try_for_each(|line| writeln!(out, "    {}", Clean(line)))
}

fn undecided(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    if view.report.undecided.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## Undecided\n")?;
    for each in &view.report.undecided {
        let fields = escape(&each.fields.join(", "));
        writeln!(
            out,
            "- `{}` for {} socket(s): could not read {fields}",
            code(&each.rule),
            each.sockets.len()
        )?;
    }
    Ok(())
}

fn gaps(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    if view.snapshot.gaps.is_empty() {
        return Ok(());
    }
    let title = if view.complete() { "Out of sight, without bearing on this answer" } else { "Out of sight" };
    writeln!(out, "\n## {title}\n")?;
    for gap in &view.snapshot.gaps {
        let lift =
            gap.remedy.as_ref().map_or(String::new(), |remedy| format!("; lift it: `{}`", code(remedy)));
        writeln!(out, "- {} ({}): {}{lift}", escape(&gap.what), gap.count, escape(&gap.why))?;
    }
    Ok(())
}

pub(crate) fn inventory(out: &mut dyn Write, view: &View<'_>, options: &ListOptions) -> io::Result<()> {
    let out = &mut BufWriter::new(out);
    let ids = Ids::new(view.snapshot);
    if options.header {
        let names: Vec<&str> = options.columns.iter().map(|column| column.name()).collect();
        writeln!(out, "| {} |\n|{}", names.join(" | "), " --- |".repeat(names.len()))?;
    }
    let mut cell = String::new();
    for each in view.observations() {
        out.write_all(b"|")?;
        for column in &options.columns {
            cell.clear();
            cells::write(&mut cell, &ids, &each, *column);
            write!(out, " {} |", escape(&cell))?;
        }
        writeln!(out)?;
    }
    gaps(out, view)?;
    out.flush()
}

pub(crate) fn diff(out: &mut dyn Write, comparison: &Comparison<'_>) -> io::Result<()> {
    let out = &mut BufWriter::new(out);
    let Comparison { before, after, changes } = comparison;
    writeln!(out, "| change | what | who |\n| --- | --- | --- |")?;
    for change in *changes {
        let describe = |view: &View<'_>, at: SocketIndex| {
            let each = view.snapshot.observe(at);
            let mut place = cells::netid(&each) + " ";
            cells::local(&mut place, &each);
            (place, cells::who(&each))
        };
        let report = if change.kind == ChangeKind::Cleared { before.report } else { after.report };
        let finding = change.finding.and_then(|at| report.findings.get(at));
        let socket =
            change.after.map(|at| describe(after, at)).or(change.before.map(|at| describe(before, at)));
        let (what, who) = match (finding, socket) {
            (Some(finding), _) => (finding.message.clone(), finding.rule.clone()),
            (None, Some(socket)) => socket,
            (None, None) => continue,
        };
        writeln!(out, "| {} | {} | {} |", change.kind.name(), escape(&what), escape(&who))?;
    }
    out.flush()
}

pub(crate) fn rules(out: &mut dyn Write, rules: &[RuleRow]) -> io::Result<()> {
    let out = &mut BufWriter::new(out);
    writeln!(out, "| rule | pack | severity | confidence | title |\n| --- | --- | --- | --- | --- |")?;
    for rule in rules {
        let (id, pack, title) = (code(&rule.id), escape(&rule.pack), escape(&rule.title));
        let (severity, confidence) = (rule.severity.name(), rule.confidence.name());
        writeln!(out, "| `{id}` | {pack} | {severity} | {confidence} | {title} |")?;
    }
    out.flush()
}

/// Running text: every character that CommonMark or GitHub could read as markup is escaped
/// (CommonMark 2.4), HTML and mentions too.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in Clean(text).to_string().chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            // A zero-width joint would be hidden text; an entity keeps the sign and ends the mention.
            '@' => safe.push_str("&#64;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '#' | '+' | '!' | '|' | '~'
            | '$' => {
                safe.push('\\');
                safe.push(c);
            }
            _ => safe.push(c),
        }
    }
    safe
}

/// The inside of a code span: nothing but a backtick ends it, and a pipe would end a table's cell.
fn code(text: &str) -> String {
    Clean(text).to_string().replace('`', "\u{2b9}").replace('|', "\u{2223}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_markup() {
        assert_eq!(
            escape("<img src=x> [a](b) `c` @me | #1 *x*"),
            r"&lt;img src=x&gt; \[a\]\(b\) \`c\` &#64;me \| \#1 \*x\*"
        );
        assert_eq!(escape("a\n- b"), r"a\\x0a- b");
        assert_eq!(code("a`b|c"), "a\u{2b9}b\u{2223}c");
    }
}
