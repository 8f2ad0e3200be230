//! Rules of nftables as nfnetlink tells them, read and judged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sockwarden::firewall::{count, expose};
use sockwarden::model::sample::Sample;
use sockwarden::model::{Fact, FilterState, NftablesDump, Protocol, State, Text};

fuzz_target!(|bytes: &[u8]| {
    // Each decoder takes the messages that are its own.
    let all = Text::from(bytes);
    let mut sample = Sample::new();
    sample.socket(Protocol::Tcp, State::Listen, "0.0.0.0:80", &[]);
    let namespace = &mut sample.snapshot.namespaces[0];
    namespace.filter = FilterState::Some(vec!["nftables: inet filter".into()]);
    namespace.translates = Some(false);
    namespace.nftables = Fact::Known(NftablesDump {
        tables: all.clone(),
        chains: all.clone(),
        rules: all.clone(),
        sets: all.clone(),
        elements: vec![all],
        ..NftablesDump::default()
    });
    if let Some(counted) = count(namespace) {
        assert!(counted.rules <= bytes.len() / 16);
        assert!(counted.elements <= bytes.len() / 4);
        expose(&mut sample.snapshot, None);
    }
});
