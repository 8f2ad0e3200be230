//! Aligned columns. Cells are measured first and written then; those of a table of 100,000 rows are not
//! held between, but made again.

use std::io::{self, Write};

use super::paint::{Painted, bold};
use crate::output::Style;
use crate::output::clean::{fit, width};

/// No shrinkable column gets narrower than this.
const NARROWEST: usize = 8;

/// As much text of cells is held between measuring and writing.
const HELD: usize = 1 << 20;

/// One column: its title, whether numbers stand to the right, whether a narrow terminal may
/// shorten it.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) title: &'static str,
    pub(super) right: bool,
    pub(super) shrinks: bool,
}

impl Head {
    pub(super) const fn new(title: &'static str) -> Self {
        Self { title, right: false, shrinks: false }
    }

    pub(super) const fn right(title: &'static str) -> Self {
        Self { title, right: true, shrinks: false }
    }

    pub(super) const fn shrinks(title: &'static str) -> Self {
        Self { title, right: false, shrinks: true }
    }
}

/// Writes `rows` rows. `cell(row, column, text)` appends a cell; `paint(row, column)` gives its
/// style.
pub(super) fn write(
    out: &mut dyn Write,
    style: &Style,
    heads: &[Head],
    header: bool,
    rows: usize,
    mut cell: impl FnMut(usize, usize, &mut String),
    paint: impl Fn(usize, usize) -> Option<anstyle::Style>,
) -> io::Result<()> {
    let mut widths: Vec<usize> = heads.iter().map(|head| if header { head.title.len() } else { 0 }).collect();
    let mut text = String::new();
    // The first cells, one behind the other; where each ends, and how wide it is.
    let (mut held, mut ends): (String, Vec<(u32, u32)>) = (String::new(), Vec::new());
    let mut holding = true;
    for row in 0..rows {
        for (column, widest) in widths.iter_mut().enumerate() {
            text.clear();
            cell(row, column, &mut text);
            let columns = measure(&text);
            *widest = (*widest).max(columns);
            holding &= held.len() < HELD;
            match (u32::try_from(held.len() + text.len()), u32::try_from(columns)) {
                (Ok(end), Ok(columns)) if holding => {
                    held.push_str(&text);
                    ends.push((end, columns));
                }
                _ => holding = false,
            }
        }
    }
    let mut held_cells = ends.into_iter().scan(0, |start, (end, columns)| {
        let (end, columns) = (end as usize, columns as usize);
        Some((std::mem::replace(start, end)..end, columns))
    });
    if let Some(columns) = style.width {
        shrink(&mut widths, heads, columns);
    }
    let mut line = String::new();
    if header {
        for (column, head) in heads.iter().enumerate() {
            let title = fit(head.title, widths[column]);
            let missing = widths[column].saturating_sub(measure(&title));
            pad(&mut line, &title, head, missing, column + 1 == heads.len());
        }
        writeln!(out, "{}", Painted { text: line.trim_end(), style: bold(), on: style.color })?;
    }
    for row in 0..rows {
        line.clear();
        for (column, head) in heads.iter().enumerate() {
            let (text, columns) = match held_cells.next() {
                Some((place, columns)) => (&held[place], columns),
                None => {
                    text.clear();
                    cell(row, column, &mut text);
                    (text.as_str(), measure(&text))
                }
            };
            let last = column + 1 == heads.len();
            let painted = paint(row, column).filter(|_| style.color);
            let wide = widths[column];
            let fitted;
            let (shown, missing) = if columns > wide {
                fitted = fit(text, wide);
                (fitted.as_str(), wide.saturating_sub(measure(&fitted)))
            } else {
                (text, wide - columns)
            };
            match painted {
                None => pad(&mut line, shown, head, missing, last),
                Some(ansi) => {
                    let start = line.len();
                    pad(&mut line, shown, head, missing, last);
                    let padded = line.split_off(start);
                    line.push_str(&Painted { text: padded, style: ansi, on: true }.to_string());
                }
            }
        }
        if !style.color {
            line.truncate(line.trim_end_matches(' ').len());
        }
        line.push('\n');
        out.write_all(line.as_bytes())?;
    }
    Ok(())
}

fn measure(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { width(text) }
}

/// Appends a cell and the blanks that it is short of, and those between columns.
fn pad(line: &mut String, text: &str, head: &Head, missing: usize, last: bool) {
    const BLANKS: &str = "                                                                ";
    let blanks = |line: &mut String, mut count: usize| {
        while count > 0 {
            let some = count.min(BLANKS.len());
            line.push_str(&BLANKS[..some]);
            count -= some;
        }
    };
    if head.right {
        blanks(line, missing);
    }
    line.push_str(text);
    if !last {
        blanks(line, if head.right { 2 } else { missing + 2 });
    }
}

/// Takes from the widest shrinkable column until the line fits, or all of them are narrow.
fn shrink(widths: &mut [usize], heads: &[Head], columns: usize) {
    loop {
        let total = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
        let Some(over) = total.checked_sub(columns).filter(|over| *over > 0) else { return };
        let shrinkable = |at: &usize| heads[*at].shrinks && widths[*at] > NARROWEST;
        let mut candidates: Vec<usize> = (0..widths.len()).filter(shrinkable).collect();
        candidates.sort_by_key(|at| std::cmp::Reverse(widths[*at]));
        let Some(widest) = candidates.first().copied() else { return };
        let floor = candidates.get(1).map_or(NARROWEST, |next| widths[*next]).max(NARROWEST);
        let step = (widths[widest] - floor).clamp(1, over);
        widths[widest] -= step;
    }
}
