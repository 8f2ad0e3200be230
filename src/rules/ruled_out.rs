//! Which rules a process can never trip, whatever sockets it holds: asked once of each process, since
//! most processes have many sockets.

use super::compile::Rule;
use super::matcher::Scan;
use crate::model::{Observation, Owner, Snapshot};

/// See the module.
pub(super) struct RuledOut {
    /// How many words of 64 rules each process has.
    words: usize,
    /// Process after process, one bit a rule.
    known: Vec<Word>,
}

#[derive(Clone, Copy, Default)]
struct Word {
    asked: u64,
    out: u64,
}

impl RuledOut {
    pub(super) fn new(snapshot: &Snapshot, rules: usize) -> Self {
        let words = rules.div_ceil(64);
        Self { words, known: vec![Word::default(); words * snapshot.processes.len()] }
    }

    /// Whether no holder of this socket can trip the rule of this number. A socket without holder
    /// rules nothing out.
    pub(super) fn holds<'s, 'r>(
        &mut self,
        scan: &Scan<'s>,
        observation: Observation<'s>,
        number: usize,
        rule: impl Fn() -> &'r Rule,
    ) -> bool {
        observation.socket.holders.len > 0
            && observation.owners().all(|owner| self.of(scan, observation, owner, number, &rule))
    }

    fn of<'s, 'r>(
        &mut self,
        scan: &Scan<'s>,
        observation: Observation<'s>,
        owner: Owner<'s>,
        number: usize,
        rule: impl Fn() -> &'r Rule,
    ) -> bool {
        let at = owner.id.0 as usize * self.words + number / 64;
        let (Some(word), bit) = (self.known.get_mut(at), 1 << (number % 64)) else { return false };
        if word.asked & bit == 0 {
            word.asked |= bit;
            let rule = rule();
            let mut conditions =
                [Some(&rule.when), rule.probably.as_ref().map(|guess| &guess.when)].into_iter().flatten();
            if conditions.all(|cond| scan.rules_out(cond, observation, owner)) {
                word.out |= bit;
            }
        }
        word.out & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample::Sample;
    use crate::model::{Reach, SocketIndex};
    use crate::rules::compile;

    /// A rule about programs called `name`, listening anywhere.
    fn rule(number: usize, name: &str) -> Rule {
        let text = format!(
            "title = \"t\"\nseverity = \"high\"\nconfidence = \"high\"\nwhy = \"w\"\n\
             [when]\nrole = \"listener\"\nprocess.name = \"{name}\"\n"
        );
        compile(&format!("rules/each-{number}.toml"), text.into(), false).unwrap()
    }

    #[test]
    fn a_socket_is_spared_when_all_its_holders_are() {
        let mut sample = Sample::new();
        sample.process(1, "/usr/bin/alone");
        sample.process(2, "/usr/bin/other");
        sample.listener("0.0.0.0:1", Reach::Lan, &[1]);
        sample.listener("0.0.0.0:2", Reach::Lan, &[1, 2]);
        sample.listener("0.0.0.0:3", Reach::Lan, &[]);
        // More rules than one word holds.
        let mut rules: Vec<Rule> = (0..70).map(|number| rule(number, "nobody")).collect();
        rules.extend([rule(70, "alone"), rule(71, "other")]);
        let scan = Scan::new(&sample.snapshot);
        let mut out = RuledOut::new(&sample.snapshot, rules.len());
        let mut spared = |socket: u32, rule: usize| {
            out.holds(&scan, sample.snapshot.observe(SocketIndex(socket)), rule, || &rules[rule])
        };
        for _ in 0..2 {
            assert_eq!([0, 69, 70, 71].map(|rule| spared(0, rule)), [true, true, false, true]);
            assert_eq!([0, 69, 70, 71].map(|rule| spared(1, rule)), [true, true, false, false]);
            assert_eq!([0, 69, 70, 71].map(|rule| spared(2, rule)), [false; 4]);
        }
    }
}
