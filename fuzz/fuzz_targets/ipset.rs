//! IP sets as nfnetlink lists them, behind a table of iptables that looks into five of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sockwarden::firewall::count;
use sockwarden::model::sample::Sample;
use sockwarden::model::{Fact, IpsetDump, LegacyTable};

const FILTER: &[u8] = include_bytes!("../corpus/xt_tables/filter");

fuzz_target!(|bytes: &[u8]| {
    let table = LegacyTable {
        v6: false,
        name: "filter".into(),
        info: FILTER[1..85].into(),
        entries: FILTER[85..].into(),
    };
    let names = [(0, "near"), (1, "hosts"), (4, "pairs"), (6, "far"), (8, "some")];
    let mut sample = Sample::new();
    let namespace = &mut sample.snapshot.namespaces[0];
    namespace.legacy = Fact::Known(vec![table]);
    namespace.ipsets = Fact::Known(IpsetDump {
        list: bytes.into(),
        names: names.map(|(index, name)| (index, name.into())).to_vec(),
    });
    // Sets that cannot be read leave their matches open; the table is read all the same.
    assert!(count(namespace).is_some_and(|counted| counted.elements <= bytes.len()));
});
