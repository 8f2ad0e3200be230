//! What a control group tells: unit and container.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sockwarden::enrich::{cgroup, record};

fuzz_target!(|bytes: &[u8]| {
    let lines = cgroup::parse(bytes);
    if let Some(unit) = cgroup::unit(&lines) {
        assert!(!unit.as_bytes().contains(&b'/') && !unit.as_bytes().contains(&b'\n'));
    }
    if let Some(mark) = cgroup::container(&lines) {
        assert!(!mark.id.is_empty() && !mark.id.as_bytes().contains(&b'/'));
    }
    let _ = (record::stat(bytes), record::status(bytes), record::cmdline(bytes));
});
