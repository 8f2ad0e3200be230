//! What is shown, and when: one notification a program, few a minute, the rest in one digest.
//! Pure: time is a number that the caller hands in.

use std::collections::{BTreeMap, VecDeque};

use super::line::Item;
use crate::finding::Severity;

/// What came at once is shown at once.
const SETTLE: u64 = 300;
/// The same program again at the earliest after this.
const AGAIN: u64 = 3_000;
/// Notifications in a window of time; what is beyond goes into the digest.
const AT_MOST: usize = 5;
const WINDOW: u64 = 60_000;
const DIGEST_EVERY: u64 = 15_000;
/// Programs, and items of one program, that are kept; more are counted.
const PROGRAMS: usize = 1_000;
const ITEMS: usize = 100;
/// Items that one notification names.
const NAMED: usize = 5;

/// The digest's place among the programs.
pub const DIGEST: &str = "";

#[derive(Debug, Default)]
struct Group {
    items: BTreeMap<String, Item>,
    /// Items beyond `ITEMS`.
    more: usize,
    /// Since when something waits to be shown.
    waiting: Option<u64>,
    shown: Option<u64>,
    /// The server's number of the notification that is on the screen.
    id: Option<u32>,
    snoozed: u64,
}

/// Something to put on the screen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    pub program: String,
    /// What it replaces.
    pub replaces: Option<u32>,
    pub title: String,
    pub lines: Vec<String>,
    pub severity: Severity,
    /// Whether there is one program to ask about.
    pub buttons: bool,
}

/// Times are milliseconds from any beginning.
#[derive(Debug, Default)]
pub struct Throttle {
    groups: BTreeMap<String, Group>,
    recent: VecDeque<u64>,
    digest: Option<u64>,
    digest_id: Option<u32>,
    /// Items of programs beyond `PROGRAMS`.
    overflow: usize,
}

impl Throttle {
    /// Takes an item in; one of the same key takes the place of the old.
    pub fn add(&mut self, now: u64, item: Item) {
        if !self.groups.contains_key(&item.program) && self.groups.len() >= PROGRAMS {
            self.overflow += 1;
            return;
        }
        let group = self.groups.entry(item.program.clone()).or_default();
        if group.items.get(&item.key) == Some(&item) {
            return;
        }
        if group.items.len() >= ITEMS && !group.items.contains_key(&item.key) {
            group.more += 1;
        } else {
            group.items.insert(item.key.clone(), item);
        }
        group.waiting.get_or_insert(now);
    }

    /// What has gone needs no answer any more.
    pub fn remove(&mut self, key: &str) {
        for group in self.groups.values_mut() {
            group.items.remove(key);
            if group.items.is_empty() && group.more == 0 {
                group.waiting = None;
            }
        }
        self.tidy();
    }

    /// What is to be shown now. It counts as shown until [`Throttle::failed`] says otherwise.
    pub fn next(&mut self, now: u64) -> Option<Note> {
        while self.recent.front().is_some_and(|at| now.saturating_sub(*at) >= WINDOW) {
            self.recent.pop_front();
        }
        let ready = |group: &Group| {
            let settled = group.waiting.is_some_and(|since| now >= since + SETTLE);
            settled && now >= group.snoozed && group.shown.is_none_or(|at| now >= at + AGAIN)
        };
        let worst = |group: &Group| group.items.values().map(|item| item.severity).max();
        if self.recent.len() < AT_MOST {
            let next = self
                .groups
                .iter_mut()
                .filter(|(_, group)| ready(group))
                .max_by_key(|(_, group)| worst(group));
            let (program, group) = next?;
            (group.waiting, group.shown) = (None, Some(now));
            self.recent.push_back(now);
            return Some(note(program, group));
        }
        let waiting: Vec<&String> =
            self.groups.iter().filter(|(_, group)| ready(group)).map(|(program, _)| program).collect();
        if waiting.is_empty() || self.digest.is_some_and(|at| now < at + DIGEST_EVERY) {
            return None;
        }
        let programs: Vec<String> = waiting.into_iter().cloned().collect();
        self.digest = Some(now);
        Some(self.summary(now, &programs))
    }

    /// When there may be something to show, if nothing else happens.
    pub fn next_at(&self, now: u64) -> Option<u64> {
        let full = self.recent.len() >= AT_MOST;
        let times = self.groups.values().filter_map(|group| {
            let ready = group.waiting? + SETTLE;
            let again = group.shown.map_or(0, |at| at + AGAIN);
            let digest = if full { self.digest.map_or(0, |at| at + DIGEST_EVERY) } else { 0 };
            Some(ready.max(again).max(group.snoozed).max(digest))
        });
        times.min().map(|at| at.max(now + 1))
    }

    pub fn shown(&mut self, program: &str, id: u32) {
        if program == DIGEST {
            self.digest_id = Some(id);
        } else if let Some(group) = self.groups.get_mut(program) {
            group.id = Some(id);
        }
    }

    /// It did not get onto the screen: it waits on.
    pub fn failed(&mut self, now: u64, program: &str) {
        self.recent.pop_back();
        if program == DIGEST {
            self.digest = None;
            for group in self.groups.values_mut().filter(|group| group.id.is_none()) {
                group.waiting.get_or_insert(now);
            }
        } else if let Some(group) = self.groups.get_mut(program) {
            (group.waiting, group.shown) = (Some(now), None);
        }
    }

    /// It is on no screen any more: that is no answer.
    pub fn closed(&mut self, id: u32) {
        if self.digest_id == Some(id) {
            self.digest_id = None;
        }
        for group in self.groups.values_mut().filter(|group| group.id == Some(id)) {
            group.id = None;
        }
    }

    /// The server has gone, and with it all that was on the screen: that is shown again.
    pub fn blank(&mut self, now: u64) {
        self.digest_id = None;
        for group in self.groups.values_mut() {
            if group.id.take().is_some() {
                group.waiting.get_or_insert(now);
            }
        }
    }

    /// What is on the screen is shown again, in its place.
    pub fn repeat(&mut self, now: u64) {
        for group in self.groups.values_mut().filter(|group| group.id.is_some()) {
            group.waiting.get_or_insert(now);
        }
    }

    pub fn snooze(&mut self, program: &str, until: u64) {
        if let Some(group) = self.groups.get_mut(program) {
            group.snoozed = until;
            group.waiting.get_or_insert(until);
        }
    }

    /// Whose notification this is.
    pub fn program_of(&self, id: u32) -> Option<&str> {
        self.groups.iter().find(|(_, group)| group.id == Some(id)).map(|(program, _)| program.as_str())
    }

    /// What waits for an answer of one program, or of all.
    pub fn items<'t>(&'t self, program: Option<&'t str>) -> impl Iterator<Item = &'t Item> {
        let chosen = self.groups.iter().filter(move |(name, _)| program.is_none_or(|one| *name == one));
        chosen.flat_map(|(_, group)| group.items.values())
    }

    /// Answered: nothing of it waits any more.
    pub fn answered(&mut self, program: &str) -> Vec<Item> {
        self.groups.remove(program).map(|group| group.items.into_values().collect()).unwrap_or_default()
    }

    fn tidy(&mut self) {
        self.groups.retain(|_, group| !group.items.is_empty() || group.more > 0);
    }

    /// All that waits in one notification; with it, each of them has been told.
    fn summary(&mut self, now: u64, programs: &[String]) -> Note {
        let mut lines = Vec::new();
        let (mut items, mut severity) = (self.overflow, Severity::Info);
        for program in programs {
            let Some(group) = self.groups.get_mut(program) else { continue };
            (group.waiting, group.shown) = (None, Some(now));
            items += group.items.len() + group.more;
            let Some(worst) = group.items.values().max_by_key(|item| item.severity) else { continue };
            severity = severity.max(worst.severity);
            lines.push((worst.severity, format!("{}: {}", worst.name, worst.title)));
        }
        lines.sort_by_key(|(severity, _)| std::cmp::Reverse(*severity));
        let mut lines: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
        let hidden = lines.len().saturating_sub(NAMED);
        lines.truncate(NAMED);
        if hidden > 0 {
            lines.push(format!("and {hidden} programs more"));
        }
        lines.push("sockwarden alert --review lists all that waits for an answer".to_owned());
        Note {
            program: DIGEST.to_owned(),
            replaces: self.digest_id,
            title: format!("{items} more alerts about {} programs", programs.len()),
            lines,
            severity,
            buttons: false,
        }
    }
}

fn note(program: &str, group: &Group) -> Note {
    let mut items: Vec<&Item> = group.items.values().collect();
    items.sort_by_key(|item| std::cmp::Reverse(item.severity));
    let worst = items.first();
    let mut lines: Vec<String> = items
        .iter()
        .enumerate()
        .take(NAMED)
        .map(|(at, item)| if at == 0 { item.text.clone() } else { format!("{}: {}", item.title, item.text) })
        .collect();
    let hidden = items.len().saturating_sub(NAMED) + group.more;
    if hidden > 0 {
        lines.push(format!("and {hidden} more"));
    }
    Note {
        program: program.to_owned(),
        replaces: group.id,
        title: worst.map_or_else(String::new, |item| item.title.clone()),
        lines,
        severity: worst.map_or(Severity::Info, |item| item.severity),
        buttons: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(program: &str, key: &str, severity: Severity) -> Item {
        Item {
            key: key.to_owned(),
            program: program.to_owned(),
            name: program.to_owned(),
            severity,
            title: format!("title of {key}"),
            text: format!("text of {key}"),
            target: None,
            fix: Vec::new(),
        }
    }

    #[test]
    fn one_program_is_one_notification_that_is_replaced_in_place() {
        let mut throttle = Throttle::default();
        for number in 0..7 {
            throttle.add(0, item("redis", &format!("f{number}"), Severity::High));
        }
        assert_eq!(throttle.next(0), None, "what comes at once is shown at once");
        let first = throttle.next(SETTLE).unwrap();
        assert_eq!((first.replaces, first.lines.len()), (None, NAMED + 1));
        throttle.shown("redis", 42);
        assert_eq!(throttle.next(SETTLE + 1), None);
        throttle.add(1000, item("redis", "worse", Severity::Critical));
        assert_eq!(throttle.next(2000), None, "not so soon again");
        let second = throttle.next(SETTLE + AGAIN).unwrap();
        assert_eq!((second.replaces, second.severity), (Some(42), Severity::Critical));
        assert!(second.title.contains("worse"));
    }

    #[test]
    fn a_thousand_findings_at_once_are_a_handful_of_notifications_and_nothing_is_lost() {
        let mut throttle = Throttle::default();
        for number in 0..1000 {
            throttle.add(0, item(&format!("p{}", number % 200), &format!("f{number}"), Severity::High));
        }
        let (mut notes, mut named) = (0, 0);
        for now in (SETTLE..60_000).step_by(50) {
            while let Some(note) = throttle.next(now) {
                notes += 1;
                if note.program == DIGEST {
                    named += 1;
                    assert!(note.title.contains("975 more alerts about 195 programs"), "{}", note.title);
                }
                throttle.shown(&note.program, notes);
            }
        }
        assert_eq!((notes, named), (6, 1));
        assert_eq!(throttle.items(None).count(), 1000, "all of them wait for an answer");
    }

    #[test]
    fn what_times_out_or_fails_is_no_answer() {
        let mut throttle = Throttle::default();
        throttle.add(0, item("redis", "f", Severity::High));
        throttle.next(SETTLE).unwrap();
        throttle.failed(SETTLE, "redis");
        let again = throttle.next(2 * SETTLE).unwrap();
        throttle.shown(&again.program, 7);
        throttle.repeat(10_000);
        assert_eq!(throttle.next(20_000).unwrap().replaces, Some(7), "said again in its place");
        throttle.blank(30_000);
        let anew = throttle.next(40_000).unwrap();
        assert_eq!(anew.replaces, None, "with the server all that was on the screen has gone");
        throttle.shown(&anew.program, 8);
        throttle.closed(8);
        assert_eq!(throttle.items(None).count(), 1);
        assert_eq!(throttle.next(100_000), None, "it is not shown again either");
    }

    #[test]
    fn snoozed_is_shown_again_later_and_answered_is_not() {
        let mut throttle = Throttle::default();
        throttle.add(0, item("redis", "f", Severity::High));
        throttle.next(SETTLE).unwrap();
        throttle.snooze("redis", 100_000);
        assert_eq!(throttle.next(99_999), None);
        assert!(throttle.next_at(0).is_some_and(|at| at >= 100_000));
        assert!(throttle.next(100_000 + SETTLE).is_some());
        assert_eq!(throttle.answered("redis").len(), 1);
        assert_eq!(throttle.next(1_000_000), None);
    }

    #[test]
    fn memory_is_bounded_whatever_comes() {
        let mut throttle = Throttle::default();
        for number in 0..20_000 {
            throttle.add(0, item(&format!("p{number}"), "f", Severity::High));
            throttle.add(0, item("one", &format!("f{number}"), Severity::High));
        }
        assert!(throttle.groups.len() <= PROGRAMS && throttle.items(Some("one")).count() <= ITEMS);
    }
}
