//! Decoders on bytes that a kernel (Linux 6.18) gave, kept in `fuzz/corpus`, and on built ones.

use std::collections::BTreeSet;

use super::*;
use crate::firewall::netlink::{dump_request, put_attribute};
use crate::firewall::ruleset::{
    Chain, Extension, Hook, Rule, Setting, Step, Table, TableFamily, Target, Translated, Value, Verdict,
};
use crate::model::Text;

const NFTABLES: &[u8] = include_bytes!("../../../fuzz/corpus/nft_netlink/everything");
const FILTER: &[u8] = include_bytes!("../../../fuzz/corpus/xt_tables/filter");
const FILTER6: &[u8] = include_bytes!("../../../fuzz/corpus/xt_tables/filter6");
const NAT: &[u8] = include_bytes!("../../../fuzz/corpus/xt_tables/nat");
const MANGLE: &[u8] = include_bytes!("../../../fuzz/corpus/xt_tables/mangle");
const RAW: &[u8] = include_bytes!("../../../fuzz/corpus/xt_tables/raw");
const IPSETS: &[u8] = include_bytes!("../../../fuzz/corpus/ipset/everything");

/// All answers are in one block: each decoder takes the messages that are its own.
fn dump(block: &[u8]) -> NftablesDump {
    let all = Text::from(block);
    let [tables, chains, rules, sets] = [(); 4].map(|()| all.clone());
    NftablesDump { tables, chains, rules, sets, elements: vec![all], ..NftablesDump::default() }
}

/// The first byte says whether it is of IPv6; then `struct ipt_getinfo` and the entries.
fn legacy(bytes: &[u8]) -> LegacyTable {
    let info = &bytes[1..85];
    let name = info.split(|byte| *byte == 0).next().unwrap();
    LegacyTable { v6: bytes[0] != 0, name: name.into(), info: info.into(), entries: bytes[85..].into() }
}

fn ipsets() -> IpsetDump {
    let names = [(0, "near"), (1, "hosts"), (4, "pairs"), (6, "far"), (8, "some")];
    IpsetDump { list: IPSETS.into(), names: names.map(|(index, name)| (index, name.into())).to_vec() }
}

fn decoded(tables: &[&[u8]]) -> Ruleset {
    let tables: Vec<LegacyTable> = tables.iter().map(|bytes| legacy(bytes)).collect();
    decode(None, &tables, Some(&ipsets())).unwrap()
}

fn rules(table: &Table) -> impl Iterator<Item = &Rule> {
    table.chains.values().flat_map(|chain: &Chain| &chain.rules)
}

fn steps(ruleset: &Ruleset) -> impl Iterator<Item = &Step> {
    ruleset.tables.iter().flat_map(rules).flat_map(|rule| &rule.steps)
}

fn unknown(ruleset: &Ruleset) -> BTreeSet<String> {
    let name = |step: &Step| if let Step::Unknown(name) = step { Some(name.clone()) } else { None };
    steps(ruleset).filter_map(name).collect()
}

fn doubted(ruleset: &Ruleset) -> BTreeSet<String> {
    let name = |step: &Step| if let Step::Maybe(name) = step { Some(name.to_string()) } else { None };
    steps(ruleset).filter_map(name).collect()
}

#[test]
fn every_expression_of_nftables_is_read() {
    let found = decode(Some(&dump(NFTABLES)), &[], None).unwrap();
    // ARP is left out: it carries no connection.
    let families: Vec<TableFamily> = found.tables.iter().map(|table| table.family).collect();
    assert_eq!(families, [TableFamily::Inet, TableFamily::Netdev]);
    assert_eq!(unknown(&found), BTreeSet::from(["fwd".to_owned()]));
    assert_eq!(
        doubted(&found),
        ["connlimit", "limit", "object map", "quota", "set update"].map(str::to_owned).into()
    );
    assert!(found.steers);
    let loads =
        |wanted: &str| steps(&found).any(|step| matches!(step, Step::Load { what, .. } if what == wanted));
    assert!(steps(&found).any(|step| matches!(step, Step::Route { .. })));
    for what in ["ct", "numgen", "hash", "socket", "rt", "header option", "osf", "ipsec"] {
        assert!(loads(what), "{what}");
    }
    let table = &found.tables[0];
    assert_eq!((table.name.as_slice(), table.handle), (&b"filter"[..], 8));
    let input = &table.chains[&b"input"[..]];
    let base = input.base.as_ref().unwrap();
    assert_eq!((base.hook, base.priority, base.nat, base.drop_policy), (Hook::Input, 0, false, true));
    let commented = input.rules.iter().find(|rule| rule.handle == 29).unwrap();
    assert_eq!(commented.comment.as_deref(), Some(&b"own programs"[..]));
    assert!(table.chains[&b"pre"[..]].base.as_ref().unwrap().nat);
    assert_eq!(found.tables[1].chains[&b"in"[..]].base.as_ref().unwrap().devices, [b"lo"]);
}

#[test]
fn translations_and_settings_are_read() {
    let found = decode(Some(&dump(NFTABLES)), &[], None).unwrap();
    let mut kinds: Vec<Translated> = Vec::new();
    for step in steps(&found) {
        if let Step::Translate(translation) = step {
            kinds.push(translation.kind);
        }
    }
    use Translated::{Destination, Masquerade, Proxy, Redirect, Source};
    let expected =
        [Proxy, Proxy, Masquerade, Source, Redirect, Destination, Destination, Destination, Destination];
    assert_eq!(kinds, expected);
    let set = |wanted| steps(&found).any(|step| matches!(step, Step::Set { what, .. } if *what == wanted));
    assert!(set(Setting::Mark) && set(Setting::ConnectionMark) && set(Setting::Zone));
    let mapped = steps(&found).any(
        |step| matches!(step, Step::Lookup { set, to: Some(Target::Register(0)), .. } if set == b"away"),
    );
    assert!(mapped);
}

#[test]
fn sets_are_read_with_intervals_maps_and_catch_all() {
    let found = decode(Some(&dump(NFTABLES)), &[], None).unwrap();
    let sets = &found.tables[0].sets;
    let spans = |name: &[u8]| -> Vec<(Vec<u8>, Vec<u8>)> {
        sets[name].elements.iter().map(|element| (element.first.clone(), element.last.clone())).collect()
    };
    let port = |number: u16| number.to_be_bytes().to_vec();
    let ports = [(port(22), port(22)), (port(80), port(100)), (port(8000), port(9000))];
    assert_eq!(spans(b"ports"), ports);
    // No end is told where there is nothing behind it.
    assert_eq!(spans(b"near").last().unwrap(), &(vec![255, 255, 255, 0], vec![255; 4]));
    assert_eq!(sets[&b"pairs"[..]].parts, [4, 2]);
    assert_eq!(spans(b"pairs")[0], (vec![203, 0, 113, 0, 0, 22, 0, 0], vec![203, 0, 113, 255, 0, 80, 0, 0]));
    assert_eq!(sets[&b"judged"[..]].otherwise, Some(Value::Verdict(Verdict::Drop)));
    let jump = Value::Verdict(Verdict::Jump(b"inner".to_vec()));
    assert_eq!(sets[&b"judged"[..]].elements[1].value, jump);
    assert_eq!(sets[&b"marks"[..]].elements[0].value, Value::Data(7_u32.to_ne_bytes().to_vec()));
    assert!(sets[&b"far"[..]].timed && sets[&b"banned"[..]].dynamic);
    assert!(!sets[&b"counted"[..]].partial, "a counter keeps nothing from matching");
}

#[test]
fn legacy_tables_are_read_with_every_match_and_target() {
    let found = decoded(&[FILTER, FILTER6, NAT, MANGLE, RAW]);
    assert_eq!(unknown(&found), BTreeSet::from(["SYNPROXY".to_owned()]));
    let doubts = doubted(&found);
    let expected = [
        "addrtype",
        "ah",
        "bpf",
        "connlimit",
        "conntrack",
        "conntrack expiry",
        "dscp",
        "hashlimit",
        "icmp",
        "icmp6",
        "length",
        "limit",
        "mac",
        "policy",
        "quota",
        "recent",
        "statistic",
        "string",
        "time",
        "tos",
        "u32",
    ];
    let expected: BTreeSet<String> = expected.map(str::to_owned).into();
    assert!(doubts.is_subset(&expected), "{doubts:?}");
    assert!(doubts.len() >= 16, "{doubts:?}");
    assert!(found.steers);

    let filter = &found.tables[0];
    let input = &filter.chains[&b"INPUT"[..]];
    let base = input.base.as_ref().unwrap();
    assert_eq!((base.hook, base.priority, base.drop_policy), (Hook::Input, 0, true));
    let numbers: Vec<u64> = input.rules.iter().map(|rule| rule.handle).collect();
    assert_eq!(numbers, (1..=input.rules.len() as u64).collect::<Vec<_>>());
    let web = input.rules.iter().find(|rule| rule.comment.is_some()).unwrap();
    assert_eq!(web.comment.as_deref(), Some(&b"the web"[..]));
    let ports = vec![(80, 80), (443, 443), (8000, 9000)];
    let web_ports = Extension::AnyPort { source: false, destination: true, ports, inverted: false };
    assert!(web.steps.contains(&Step::Extension(web_ports)));
    let goes =
        |verdict: Verdict| rules(filter).any(|rule| rule.steps.contains(&Step::Verdict(verdict.clone())));
    assert!(goes(Verdict::Jump(b"mine".to_vec())) && goes(Verdict::Goto(b"deep".to_vec())));
    // The rule without a target, and no return that nobody wrote.
    let mine = &filter.chains[&b"mine"[..]];
    assert_eq!(mine.rules.len(), 3);
    assert_eq!(mine.rules[1].steps.last(), Some(&Step::Verdict(Verdict::Continue)));

    let nat = &found.tables[2];
    assert_eq!(nat.chains[&b"POSTROUTING"[..]].base.as_ref().unwrap().priority, 100);
    let kinds: Vec<Translated> = rules(nat)
        .flat_map(|rule| &rule.steps)
        .filter_map(|step| if let Step::Translate(each) = step { Some(each.kind) } else { None })
        .collect();
    use Translated::{Destination, Masquerade, Network, Redirect, Source};
    assert_eq!(kinds, [Masquerade, Source, Destination, Destination, Redirect, Network]);
    let shifted = rules(nat)
        .flat_map(|rule| &rule.steps)
        .any(|step| matches!(step, Step::Translate(each) if each.shift.is_some() && each.ports.is_some()));
    assert!(shifted, "DNAT to a range of ports with a base");
}

#[test]
fn ip_sets_become_sets_of_the_table_that_looks_into_them() {
    let found = decoded(&[FILTER, FILTER6]);
    let set = |name: &[u8]| found.tables[0].sets[&[b"ipset\0", name].concat()].clone();
    let near: Vec<_> =
        set(b"near").elements.iter().map(|each| (each.first.clone(), each.last.clone())).collect();
    // What is excluded is cut out.
    let expected =
        [(vec![192, 168, 0, 0], vec![192, 168, 7, 8]), (vec![192, 168, 7, 10], vec![192, 168, 255, 255])];
    assert_eq!(near, expected);
    // A list of sets holds what its members hold; one of them is filled by a rule.
    let some = set(b"some");
    assert_eq!(some.elements.first().unwrap().first, [8, 8, 8, 8]);
    assert!(some.dynamic && !some.partial);
    let pairs = set(b"pairs");
    assert_eq!(pairs.parts, [4, 2, 1]);
    let first = &pairs.elements[0];
    assert_eq!(first.first, [203, 0, 113, 0, 0, 22, 0, 0, 6, 0, 0, 0]);
    assert_eq!(first.last, [203, 0, 113, 255, 0, 22, 0, 0, 6, 0, 0, 0]);
    let needs = Needs::of(None, &[legacy(FILTER)]);
    assert_eq!(needs.looked_into, BTreeSet::from([0, 4, 8]));
    assert_eq!(needs.filled, BTreeSet::from([1]));
    // Without their content every answer of theirs is open.
    let blind = decode(None, &[legacy(FILTER)], None).unwrap();
    assert!(doubted(&blind).contains("set"));
}

#[test]
fn a_structure_of_another_size_or_revision_is_not_read() {
    let ipsets = ipset::Ipsets::default();
    let context = xt::Context { family: Some(crate::firewall::ranges::Family::V4), ipsets: &ipsets };
    let doubt = |name: &str| vec![Step::Maybe(name.to_owned().into())];
    let sound = [0; 16];
    assert_ne!(xt::matching(b"tcp", 0, &sound, &context), doubt("tcp"));
    assert_eq!(xt::matching(b"tcp", 1, &sound, &context), doubt("tcp"));
    assert_eq!(xt::matching(b"tcp", 0, &sound[..8], &context), doubt("tcp"));
    assert_eq!(xt::matching(b"conntrack", 3, &[0; 160], &context), doubt("conntrack"));
    assert_eq!(xt::matching(b"new thing", 0, &[], &context), doubt("new thing"));
    let lost = |name: &str| vec![Step::Unknown(name.to_owned())];
    assert_eq!(xt::target(b"DNAT", 3, &[0; 48], &context), lost("DNAT"));
    assert_eq!(xt::target(b"REJECT", 1, &[0; 8], &context), lost("REJECT"));
    assert_eq!(xt::target(b"MARK", 2, &[0; 7], &context), lost("MARK"));
}

/// An SCTP listener's ports and chunks (`struct xt_sctp_info`).
#[test]
fn matches_on_sctp_are_read() {
    let ipsets = ipset::Ipsets::default();
    let context = xt::Context { family: Some(crate::firewall::ranges::Family::V4), ipsets: &ipsets };
    let mut info = [0; 296];
    for (at, port) in [(0, 5000_u16), (2, 5001)] {
        info[at..at + 2].copy_from_slice(&port.to_ne_bytes());
    }
    info[284..288].copy_from_slice(&2_u32.to_ne_bytes());
    let steps = xt::matching(b"sctp", 0, &info, &context);
    let [Step::Payload { offset: 2, length: 2, .. }, Step::Range { first, last, .. }] = steps.as_slice()
    else {
        panic!("{steps:?}");
    };
    assert_eq!(
        (first.as_slice(), last.as_slice()),
        (&5000_u16.to_be_bytes()[..], &5001_u16.to_be_bytes()[..])
    );
    info[284..288].copy_from_slice(&6_u32.to_ne_bytes());
    assert_eq!(xt::matching(b"sctp", 0, &info, &context).last(), Some(&Step::Maybe("sctp chunks".into())));
}

fn message(kind: u16, family: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = vec![family, 0, 0, 0];
    for (number, value) in attributes {
        put_attribute(&mut body, *number, value);
    }
    dump_request(10 << 8 | kind, &body)
}

fn nest(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut nested = Vec::new();
    for (number, value) in attributes {
        put_attribute(&mut nested, *number, value);
    }
    nested
}

/// Name and attributes of an expression.
type Expression<'e> = (&'e str, &'e [(u16, &'e [u8])]);

/// A table `t` with a chain `c`, and a rule of these expressions, each a name with its attributes.
fn built(expressions: &[Expression<'_>]) -> Vec<u8> {
    let mut list = Vec::new();
    for (name, attributes) in expressions {
        let data = nest(attributes);
        put_attribute(&mut list, 1, &nest(&[(1, name.as_bytes()), (2, &data)]));
    }
    [
        message(0, 2, &[(1, b"t\0")]),
        message(3, 2, &[(1, b"t\0"), (3, b"c\0")]),
        message(6, 2, &[(1, b"t\0"), (2, b"c\0"), (4, &list)]),
    ]
    .concat()
}

fn built_steps(expressions: &[Expression<'_>]) -> Vec<Step> {
    let found = decode(Some(&dump(&built(expressions))), &[], None).unwrap();
    found.tables[0].chains[&b"c"[..]].rules[0].steps.clone()
}

/// What this kernel's nft cannot say, or this kernel has not.
#[test]
fn expressions_of_other_kernels_are_read() {
    let number = |number: u32| number.to_be_bytes();
    let value = |bytes: &[u8]| nest(&[(1, bytes)]);
    assert_eq!(built_steps(&[("flow_offload", &[(1, b"ft\0")])]), [Step::Maybe("flow add".into())]);
    assert_eq!(built_steps(&[("synproxy", &[])]), [Step::Unknown("synproxy".to_owned())]);
    assert_eq!(built_steps(&[("queue", &[(1, &[0, 1])])]), [Step::Verdict(Verdict::Queue)]);
    assert_eq!(built_steps(&[("later", &[])]), [Step::Unknown("later".to_owned())]);
    // Bitwise operations of Linux 6.13: or with a constant, and with a register.
    let or = built_steps(&[(
        "bitwise",
        &[(1, &number(8)), (2, &number(8)), (3, &number(4)), (6, &number(4)), (7, &value(&[1, 2, 3, 4]))],
    )]);
    let mask = vec![0xfe, 0xfd, 0xfc, 0xfb];
    assert_eq!(or, [Step::Bitwise { from: 0, to: 0, mask, xor: vec![1, 2, 3, 4] }]);
    let xor = built_steps(&[(
        "bitwise",
        &[(1, &number(8)), (2, &number(8)), (3, &number(4)), (6, &number(5)), (8, &number(9))],
    )]);
    assert!(matches!(xor.as_slice(), [Step::Combine { from: 0, other: 4, to: 0, length: 4, .. }]), "{xor:?}");
    let shift = built_steps(&[(
        "bitwise",
        &[
            (1, &number(1)),
            (2, &number(2)),
            (3, &number(4)),
            (6, &number(2)),
            (7, &value(&8_u32.to_ne_bytes())),
        ],
    )]);
    assert_eq!(shift, [Step::Shift { from: 0, to: 16, length: 4, left: false, bits: 8 }]);
}

#[test]
fn what_does_not_fit_in_a_register_is_not_read() {
    let number = |number: u32| number.to_be_bytes();
    let load = |register: u32, length: u32| {
        built_steps(&[(
            "payload",
            &[(1, &number(register)), (2, &number(1)), (3, &number(0)), (4, &number(length))],
        )])
    };
    assert!(matches!(load(23, 4).as_slice(), [Step::Payload { to: 60, .. }]));
    for (register, length) in [(23, 5), (24, 4), (0, 4), (5, 4), (1, 65), (1, 0)] {
        assert_eq!(load(register, length), [Step::Unknown("payload".to_owned())], "{register} {length}");
    }
    let missing = [1, 2, 3].map(|_| Step::Unknown("cmp".to_owned()));
    assert_eq!(
        built_steps(&[("cmp", &[]), ("cmp", &[(1, &number(1))]), ("cmp", &[(2, &number(0))])]),
        missing
    );
}

#[test]
fn a_ruleset_that_contradicts_itself_says_nothing() {
    let sound = built(&[("counter", &[])]);
    assert!(decode(Some(&dump(&sound)), &[], None).is_some());
    let stray = [sound.clone(), message(6, 2, &[(1, b"t\0"), (2, b"nowhere\0")])].concat();
    assert_eq!(decode(Some(&dump(&stray)), &[], None), None);
    let other = [sound.clone(), message(3, 10, &[(1, b"t\0"), (3, b"c\0")])].concat();
    assert_eq!(decode(Some(&dump(&other)), &[], None), None);
    // Cut in the middle of a message.
    assert_eq!(decode(Some(&dump(&sound[..sound.len() - 5])), &[], None), None);
    let mut table = legacy(FILTER);
    let entries = table.entries.as_bytes();
    table.entries = entries[..entries.len() - 8].into();
    assert_eq!(decode(None, &[table], None), None);
}

/// No byte of a dump makes a decoder panic, whatever it is changed to.
#[test]
fn changed_bytes_never_panic() {
    let mut number = 1_u32;
    let mut next = |limit: usize| {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (number >> 8) as usize % limit
    };
    for _ in 0..300 {
        let mut block = NFTABLES.to_vec();
        for _ in 0..4 {
            let at = next(block.len());
            block[at] = next(256) as u8;
        }
        let _ = decode(Some(&dump(&block)), &[], None);
        for original in [FILTER, FILTER6, NAT, MANGLE, RAW] {
            let mut block = original.to_vec();
            for _ in 0..3 {
                let at = next(block.len());
                block[at] = next(256) as u8;
            }
            let mut sets = ipsets();
            let mut list = IPSETS.to_vec();
            let at = next(list.len());
            list[at] = next(256) as u8;
            sets.list = list.into();
            let _ = decode(None, &[legacy(&block)], Some(&sets));
        }
    }
}

#[test]
fn a_hundred_thousand_elements_are_one_set() {
    let mut block = [
        message(0, 2, &[(1, b"t\0")]),
        message(9, 2, &[(1, b"t\0"), (2, b"s\0"), (3, &4_u32.to_be_bytes()), (5, &4_u32.to_be_bytes())]),
    ]
    .concat();
    let mut list = Vec::new();
    for number in 0..100_000_u32 {
        for (key, flags) in [(number * 4 + 4, 0_u32), (number * 4 + 6, 1)] {
            let value = nest(&[(1, &key.to_be_bytes())]);
            put_attribute(&mut list, 1, &nest(&[(1, &value), (3, &flags.to_be_bytes())]));
        }
        // A message holds at most 64 KiB of attributes.
        if list.len() > 30_000 || number == 99_999 {
            block.extend(message(12, 2, &[(1, b"t\0"), (2, b"s\0"), (3, &list)]));
            list.clear();
        }
    }
    let found = decode(Some(&dump(&block)), &[], None).unwrap();
    let set = &found.tables[0].sets[&b"s"[..]];
    assert_eq!(set.elements.len(), 100_000);
    let last = set.elements.last().unwrap();
    assert_eq!(
        (last.first.as_slice(), last.last.as_slice()),
        (&400_000_u32.to_be_bytes()[..], &400_001_u32.to_be_bytes()[..])
    );
}
