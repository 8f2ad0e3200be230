//! Tables of legacy iptables as getsockopt tells them, read and judged. The first byte says whether
//! the table is of IPv6; then `struct ipt_getinfo` and the entries.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sockwarden::firewall::{count, expose};
use sockwarden::model::sample::Sample;
use sockwarden::model::{Fact, FilterState, LegacyTable, Protocol, State};

fuzz_target!(|bytes: &[u8]| {
    let Some((&[family, ref info @ ..], entries)) = bytes.split_at_checked(85) else { return };
    let mut info = info.to_vec();
    // The kernel tells the size of what it gives.
    info[80..84].copy_from_slice(&(entries.len() as u32).to_ne_bytes());
    let name = info[..32].split(|byte| *byte == 0).next().unwrap_or_default();
    let table = LegacyTable {
        v6: family != 0,
        name: name.into(),
        info: info.clone().into(),
        entries: entries.into(),
    };
    let mut sample = Sample::new();
    sample.socket(Protocol::Tcp, State::Listen, "0.0.0.0:80", &[]);
    let namespace = &mut sample.snapshot.namespaces[0];
    namespace.filter = FilterState::Some(vec!["iptables: filter".into()]);
    namespace.translates = Some(false);
    namespace.legacy = Fact::Known(vec![table]);
    if let Some(counted) = count(namespace) {
        assert!(counted.rules <= bytes.len() / 112);
        expose(&mut sample.snapshot, None);
    }
});
