//! A rule that is compiled when somebody asks for it: hundreds of services are shipped, and a host
//! runs a few of them.

use std::sync::{Arc, OnceLock};

use super::compile::{self, Rule};
use super::index::Sketch;

/// One rule of a set.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    rule: OnceLock<Rule>,
    /// Path, text and what finds it, of a shipped service.
    later: Option<(&'static str, &'static str, &'static Sketch)>,
}

impl Slot {
    pub(super) fn later(file: &'static str, text: &'static str, sketch: &'static Sketch) -> Self {
        Self { rule: OnceLock::new(), later: Some((file, text, sketch)) }
    }

    /// What finds it, if it was not compiled when the set was made.
    pub(super) fn sketch(&self) -> Option<&Sketch> {
        self.later.map(|(_, _, sketch)| sketch)
    }

    pub(super) fn id(&self) -> &str {
        match self.later {
            Some((file, _, _)) => stem(file),
            None => self.rule().id(),
        }
    }

    pub(super) fn file(&self) -> &str {
        self.later.map_or_else(|| self.rule().file.as_str(), |(file, _, _)| file)
    }

    pub(super) fn compiled(&self) -> Option<&Rule> {
        self.rule.get()
    }

    /// # Panics
    /// If a shipped rule is faulty, which the test `tests/suite/rules.rs` rules out.
    pub(super) fn rule(&self) -> &Rule {
        self.rule.get_or_init(|| {
            let (file, text, _) = self.later.unwrap_or(("", "", &NOTHING));
            compile::rule(file, Arc::from(text), true)
                .unwrap_or_else(|problems| panic!("a shipped rule is faulty: {problems:?}"))
        })
    }
}

const NOTHING: Sketch = Sketch { tcp: false, udp: false, programs: &[], ports: &[], loose: false };

impl From<Rule> for Slot {
    fn from(rule: Rule) -> Self {
        Self { rule: OnceLock::from(rule), later: None }
    }
}

/// `rules/services/redis-reachable.toml` is `redis-reachable`.
fn stem(file: &str) -> &str {
    let name = file.rsplit_once('/').map_or(file, |(_, name)| name);
    name.strip_suffix(".toml").unwrap_or(name)
}
