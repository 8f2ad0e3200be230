//! The rules that choose between routing tables (`<linux/fib_rules.h>`, net/core/fib_rules.c). Pure.

use super::routes::{address_family, network};
use crate::firewall::netlink::{attributes, messages, native_u32, text};
use crate::firewall::ranges::Family;
use crate::model::{RouteRule, RuleAction};

pub(super) const GET_RULE: u16 = 34;
const NEW_RULE: u16 = 32;

/// The rules of one family in an `RTM_GETRULE` dump, in the order in which they are asked.
pub(super) fn rules(dump: &[u8], family: Family) -> Vec<RouteRule> {
    messages(dump).filter(|(kind, _)| *kind == NEW_RULE).filter_map(|(_, body)| rule(body, family)).collect()
}

fn rule(body: &[u8], family: Family) -> Option<RouteRule> {
    const INVERT: u32 = 2;
    let header = body.get(..12).filter(|header| header[0] == address_family(family))?;
    let flags = native_u32(&header[8..])?;
    let mut table = u32::from(header[4]);
    let (mut mark, mut mask) = (0, None);
    let mut suppressed = None;
    let mut other = false;
    let mut rule = RouteRule {
        v6: family == Family::V6,
        inverted: flags & INVERT != 0,
        from: None,
        to: None,
        entry: None,
        exit: None,
        mark: None,
        more: header[3] != 0,
        action: RuleAction::Nothing,
    };
    for (name, value) in attributes(&body[12..]) {
        match name {
            1 => rule.to = Some(network(value, header[1], family)?), // FRA_DST
            2 => rule.from = Some(network(value, header[2], family)?), // FRA_SRC
            3 => rule.entry = Some(text(value).into()),              // FRA_IIFNAME
            10 => mark = native_u32(value)?,                         // FRA_FWMARK
            16 => mask = native_u32(value),                          // FRA_FWMASK
            15 => table = native_u32(value)?,                        // FRA_TABLE
            17 => rule.exit = Some(text(value).into()),              // FRA_OIFNAME
            // FRA_SUPPRESS_PREFIXLEN: -1 is none
            14 => suppressed = native_u32(value).filter(|length| *length != u32::MAX),
            // FRA_SUPPRESS_IFGROUP, -1 is none; FRA_L3MDEV
            13 => other |= native_u32(value) != Some(u32::MAX),
            19 => other |= value.first() != Some(&0),
            // FRA_UNUSED…, FRA_GOTO, FRA_PRIORITY, FRA_FLOW (realms), FRA_PAD, FRA_PROTOCOL (who made it)
            0 | 4..=9 | 11 | 18 | 21 => {}
            // Tunnels, users, protocols, ports, types of service, flow labels, and what is to come.
            _ => rule.more = true,
        }
    }
    // `fib_nl2rule`: a mark without mask is meant whole.
    let mask = mask.unwrap_or(if mark == 0 { 0 } else { u32::MAX });
    rule.mark = (mask != 0 || mark != 0).then_some((mark, mask));
    rule.action = match header[7] {
        1 if !other => {
            let suppressed = suppressed.map(|length| u8::try_from(length).unwrap_or(u8::MAX));
            RuleAction::Lookup { table, suppressed }
        }
        3 => RuleAction::Nothing,
        6..=8 => RuleAction::Refused,
        _ => RuleAction::Other,
    };
    Some(rule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::ask::routes::tests::message;
    use crate::firewall::policy::{choose, own_first};

    /// A rule of IPv4 with a table and more attributes.
    fn one(table: u8, flags: u32, more: &[(u16, &[u8])]) -> Vec<u8> {
        let mut header = [2, 0, 0, 0, table, 0, 0, 1, 0, 0, 0, 0];
        header[8..].copy_from_slice(&flags.to_ne_bytes());
        if more.iter().any(|(name, _)| *name == 2) {
            header[2] = 24;
        }
        message(NEW_RULE, &header, more)
    }

    #[test]
    fn rules_of_a_fresh_namespace_choose_nothing() {
        let mut dump = [one(255, 0, &[]), one(254, 0, &[]), one(253, 0, &[])].concat();
        assert!(!choose(&rules(&dump, Family::V4), Family::V4));
        assert!(own_first(&rules(&dump, Family::V4)));
        dump.extend(one(77, 0, &[]));
        assert!(choose(&rules(&dump, Family::V4), Family::V4));
        assert!(choose(&rules(&one(255, 0, &[]), Family::V4), Family::V4));
        assert!(rules(&dump, Family::V6).is_empty() && !choose(&[], Family::V6));
    }

    #[test]
    fn conditions_of_a_rule_are_told_or_said_to_be_there() {
        let read = |flags, more: &[(u16, &[u8])]| rules(&one(77, flags, more), Family::V4).remove(0);
        let mark = 0xca6c_u32.to_ne_bytes();
        let all = u32::MAX.to_ne_bytes();
        let rule = read(2, &[(10, &mark), (14, &all), (3, b"eth0\0"), (2, &[10, 0, 0, 0])]);
        assert!(rule.inverted && !rule.more);
        assert_eq!(rule.mark, Some((0xca6c, u32::MAX)));
        assert_eq!(rule.entry, Some("eth0".into()));
        assert_eq!(rule.from.map(|range| range.to_string()), Some("10.0.0.0/24".to_owned()));
        assert_eq!(rule.action, RuleAction::Lookup { table: 77, suppressed: None });
        let quiet = read(0, &[(14, &0_u32.to_ne_bytes()), (6, &[1, 0, 0, 0])]);
        assert_eq!(quiet.action, RuleAction::Lookup { table: 77, suppressed: Some(0) });
        assert!(read(0, &[(20, &[0; 8])]).more, "users");
        assert_eq!(read(0, &[(19, &[1])]).action, RuleAction::Other, "the table of a VRF");
    }
}
