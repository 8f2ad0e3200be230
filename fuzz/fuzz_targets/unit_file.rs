//! Unit files of any root, and answers of rtnetlink.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sockwarden::enrich::{interface, netlink, unit_file};

fuzz_target!(|bytes: &[u8]| {
    let names = unit_file::Specifiers { unit: "a@b.socket".into(), ..Default::default() };
    let mut unit = unit_file::SocketUnit::default();
    unit.read(bytes, &names);
    unit.read(bytes, &names);
    assert!(unit.listens.len() <= 1024);
    let _ = unit.triggers(&names.unit);
    let _ = (netlink::links(bytes), netlink::default_links(bytes));
    let _ = (interface::groups_v4(bytes), interface::groups_v6(bytes));
});
