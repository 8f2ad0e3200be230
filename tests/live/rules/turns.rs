//! Which cases run: all of them in the longer tiers; otherwise some by the hour, and those whose
//! rule has changed since the commit before, or since the branch left the main line.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) const NOT_DUE: &str =
    "another one's turn, and its rule has not changed; SOCKWARDEN_TIER=long runs all";

/// How many cases take their turn in one run.
const AT_ONCE: usize = 15;

pub(super) struct Turns {
    all: bool,
    first: usize,
    of: usize,
    hours: u64,
    /// Ids of rules. Empty without git: then only turns decide.
    changed: BTreeSet<String>,
}

impl Turns {
    pub(super) fn new(of: usize) -> Self {
        let tier = std::env::var("SOCKWARDEN_TIER").unwrap_or_default();
        let hours = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 3600);
        // Both are small: the remainder is less than `of`.
        let first = (hours % of as u64) as usize * AT_ONCE % of;
        Self { all: ["long", "soak"].contains(&tier.as_str()), first, of, hours, changed: changed_rules() }
    }

    /// Whether it is this one's turn among a few, of which one runs at a time.
    pub(super) fn one_of(&self, few: usize, number: usize) -> bool {
        self.all || self.hours % few as u64 == number as u64
    }

    /// Whether the case of this number, which proves this rule, runs now.
    pub(super) fn due(&self, number: usize, rule: &str) -> bool {
        self.all || self.changed.contains(rule) || (number + self.of - self.first) % self.of < AT_ONCE
    }
}

fn changed_rules() -> BTreeSet<String> {
    let names = |text: String| -> BTreeSet<String> {
        let rule = |line: &str| Some(line.strip_suffix(".toml")?.rsplit('/').next()?.to_owned());
        text.lines().filter_map(rule).collect()
    };
    let head = git(&["rev-parse", "HEAD"]);
    let mainline = ["origin/main", "main"].iter().find_map(|branch| git(&["merge-base", "HEAD", branch]));
    let since = match (mainline, head) {
        (Some(base), Some(head)) if base != head => base,
        _ => "HEAD~1".to_owned(),
    };
    let mut changed = git(&["diff", "--name-only", &since, "--", "rules"]).map_or_else(BTreeSet::new, names);
    changed.extend(
        git(&["ls-files", "--others", "--exclude-standard", "--", "rules"]).map_or_else(BTreeSet::new, names),
    );
    changed
}

/// What git says, or nothing where it is missing, fails, or this is no clone.
fn git(words: &[&str]) -> Option<String> {
    let done = Command::new("git")
        .args(["-c", "safe.directory=*"])
        .args(words)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .ok()?;
    let said = String::from_utf8(done.stdout).ok()?;
    (done.status.success()).then(|| said.trim_end().to_owned())
}
