//! Any text as a rule file: problems with sound places, or a rule whose every part works.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sockwarden::model::sample::Sample;
use sockwarden::model::{Protocol, Reach, State};
use sockwarden::rules::{RuleSet, compile};

fuzz_target!(|text: &str| {
    let rule = match compile("rules/fuzzed-rule.toml", text.into(), false) {
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in problems {
                if let Some(span) = problem.span {
                    assert!(span.start <= span.end && span.end <= text.len(), "{span:?}");
                }
            }
            return;
        }
        Ok(rule) => rule,
    };
    assert!(!rule.describe().is_empty());
    let set = RuleSet::from(vec![rule]);
    let _ = (set.verify(), set.lint());
    let mut sample = Sample::new();
    sample.process(50, "/usr/bin/python3.11");
    sample.listener("0.0.0.0:22", Reach::Internet, &[50]);
    sample.socket(Protocol::Unix, State::Listen, "/run/x.sock", &[50]);
    sample.socket(Protocol::Packet, State::Unconnected, "", &[]);
    let (hits, undecided) = set.check(&sample.snapshot);
    for observation in sample.snapshot.observations() {
        let _ = set.explain(observation);
    }
    assert!(hits.len() + undecided.len() <= 4);
});
