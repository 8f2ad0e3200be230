//! What the routing tables say: which destinations are ours, which senders can be answered
//! (`<linux/rtnetlink.h>`). Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::firewall::netlink::{attribute, messages, native_u32};
use crate::firewall::policy::{DEFAULT, LOCAL, MAIN, choose};
use crate::firewall::ranges::{Family, Ranges, number};
use crate::model::{AddrRange, RouteKind, RouteRule, Routes, TableRoute};

pub(super) const GET_ROUTE: u16 = 26;
const NEW_ROUTE: u16 = 24;

/// `AF_INET`, `AF_INET6`
pub(super) fn address_family(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

struct Route {
    kind: u8,
    table: u32,
    length: u8,
    prefix: AddrRange,
    interface: u32,
    metric: u32,
    /// For some sources or types of service only.
    partial: bool,
}

/// Takes what the dumps of both families hold; the rules are those that choose between tables, if any.
pub(super) fn routes(dumps: [&[u8]; 2], rules: [Vec<RouteRule>; 2]) -> Routes {
    const LOCAL_TYPE: u8 = 2;
    const BROADCAST: u8 = 3;
    const ANYCAST: u8 = 4;
    let policy = Family::BOTH.map(|family| choose(&rules[family as usize], family));
    let mut found = Routes { policy: policy.contains(&true), ..Routes::default() };
    for (family, (dump, rules)) in Family::BOTH.into_iter().zip(dumps.into_iter().zip(rules)) {
        let policy = policy[family as usize];
        let mut all: Vec<Route> =
            messages(dump).filter_map(|(kind, body)| route(kind, body, family)).collect();
        let (usual, others): (Vec<&Route>, Vec<&Route>) =
            all.iter().partition(|route| [LOCAL, MAIN, DEFAULT].contains(&route.table));
        for route in usual {
            match route.kind {
                LOCAL_TYPE => found.local.push((route.prefix, route.interface)),
                BROADCAST | ANYCAST => found.broadcast.push((route.prefix, route.interface)),
                _ => {}
            }
        }
        // A rule may lead there.
        let maybe = others.iter().filter(|route| policy && route.kind == LOCAL_TYPE);
        found.elsewhere.extend(maybe.map(|route| route.prefix));
        found.answerable.extend(family.addresses(&answerable(&all, policy)));
        if policy {
            found.tables.extend(tables(&all));
        } else {
            found.out.extend(out(&mut all, family));
            found.through.extend(through(&all));
        }
        // Too many routes to tell: then nothing is known of where they lead.
        if found.policy && (!policy || all.len() <= MOST_ROUTES) {
            found.rules.extend(rules);
        }
    }
    for list in [&mut found.local, &mut found.broadcast] {
        list.sort_unstable();
        list.dedup();
    }
    found.elsewhere.sort_unstable();
    found.elsewhere.dedup();
    found
}

/// All routes as they are.
fn tables(routes: &[Route]) -> Vec<TableRoute> {
    if routes.len() > MOST_ROUTES {
        return Vec::new();
    }
    let each = |route: &Route| TableRoute {
        table: route.table,
        to: route.prefix,
        metric: route.metric,
        kind: match route.kind {
            _ if route.partial => RouteKind::Other,
            1 => RouteKind::Unicast,
            2 => RouteKind::Local,
            3..=5 => RouteKind::Many,
            6..=8 => RouteKind::Refused,
            9 => RouteKind::Throw,
            _ => RouteKind::Other,
        },
        interface: route.interface,
    };
    let mut found: Vec<TableRoute> = routes.iter().map(each).collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn route(kind: u16, body: &[u8], family: Family) -> Option<Route> {
    const DST: u16 = 1;
    const OIF: u16 = 4;
    const METRIC: u16 = 6;
    const TABLE: u16 = 15;
    /// `RTM_F_CLONED` (a cached route), `RTNH_F_DEAD`
    const USELESS: u32 = 0x200 | 1;
    let header = body.get(..12)?;
    let useless = native_u32(&header[8..])? & USELESS != 0;
    if kind != NEW_ROUTE || header[0] != address_family(family) || useless {
        return None;
    }
    let attributes = &body[12..];
    let length = header[1];
    let prefix = network(attribute(attributes, DST).unwrap_or_default(), length, family)?;
    let table = attribute(attributes, TABLE).and_then(native_u32).unwrap_or(header[4].into());
    let interface = attribute(attributes, OIF).and_then(native_u32).unwrap_or(0);
    let metric = attribute(attributes, METRIC).and_then(native_u32).unwrap_or(0);
    let partial = header[2] != 0 || header[3] != 0;
    Some(Route { kind: header[7], table, length, prefix, interface, metric, partial })
}

/// The network of this prefix length; no address stands for the default route.
pub(super) fn network(address: &[u8], length: u8, family: Family) -> Option<AddrRange> {
    let address = match (family, address.is_empty()) {
        (Family::V4, true) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        (Family::V6, true) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        (Family::V4, false) => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
        (Family::V6, false) => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
    };
    Some(ipnet::IpNet::new(address, length).ok()?.into())
}

/// Where an answer finds a way: the longest prefix decides, a refusing route takes its part out.
/// With a choice of tables any of them may be used, so all are joined.
fn answerable(routes: &[Route], policy: bool) -> Ranges {
    const UNICAST: u8 = 1;
    const REFUSING: std::ops::RangeInclusive<u8> = 6..=9; // blackhole unreachable prohibit throw
    const USUAL: [u32; 2] = [MAIN, DEFAULT];
    type Spans = Vec<(u128, u128)>;
    let mut by_length: BTreeMap<u8, (Spans, Spans)> = BTreeMap::new();
    for route in routes.iter().filter(|route| policy || USUAL.contains(&route.table)) {
        let span = (number(route.prefix.first), number(route.prefix.last));
        let (ways, walls) = by_length.entry(route.length).or_default();
        if route.kind == UNICAST {
            ways.push(span);
        } else if REFUSING.contains(&route.kind) && !policy {
            walls.push(span);
        }
    }
    by_length.into_values().fold(Ranges::default(), |sum, (ways, walls)| {
        sum.minus(&Ranges::new(walls)).union(&Ranges::new(ways))
    })
}

/// More routes than this (a router of the internet's core) are not told apart.
const MOST_ROUTES: usize = 4_000;

/// By which interface each destination leaves: the longest prefix decides, then the lowest metric.
fn out(routes: &mut Vec<Route>, family: Family) -> Vec<(AddrRange, u32)> {
    const UNICAST: u8 = 1;
    routes.retain(|route| route.table == MAIN || route.table == DEFAULT);
    if routes.len() > MOST_ROUTES {
        return Vec::new();
    }
    let order = |route: &Route| (route.table == DEFAULT, u8::MAX - route.length, route.metric);
    routes.sort_by_key(order);
    let mut left = family.all();
    let mut found: Vec<(Ranges, u32)> = Vec::new();
    for route in routes.iter() {
        let prefix = family.pick([&route.prefix]);
        // As good as one before: either may be taken.
        let twin = |other: &&Route| order(other) == order(route) && other.prefix == route.prefix;
        let shared = routes.iter().filter(twin).any(|other| other.interface != route.interface);
        let interface = if shared { 0 } else { route.interface };
        let part = prefix.and(&left);
        left = left.minus(&prefix);
        if route.kind != UNICAST || part.is_empty() {
            continue;
        }
        match found.iter_mut().find(|(_, other)| *other == interface) {
            Some((sum, _)) => *sum = sum.union(&part),
            None => found.push((part, interface)),
        }
    }
    found
        .iter()
        .flat_map(|(set, interface)| family.addresses(set).into_iter().map(|each| (each, *interface)))
        .collect()
}

/// Networks by the interfaces that lead there, of the routes that [`out`] kept: a lookup on one
/// interface sees no other's routes. Refusing ones it does see; of them only that for everything else
/// is understood.
fn through(routes: &[Route]) -> Vec<(AddrRange, u32)> {
    const UNICAST: u8 = 1;
    let (ways, walls): (Vec<&Route>, Vec<&Route>) = routes.iter().partition(|route| route.kind == UNICAST);
    let untold = ways.iter().any(|route| route.interface == 0) || walls.iter().any(|route| route.length > 0);
    if untold || routes.len() > MOST_ROUTES {
        return Vec::new();
    }
    let mut found: Vec<(AddrRange, u32)> = ways.iter().map(|route| (route.prefix, route.interface)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::firewall::ask) fn message(
        kind: u16,
        header: &[u8; 12],
        attributes: &[(u16, &[u8])],
    ) -> Vec<u8> {
        let mut body = header.to_vec();
        for (number, value) in attributes {
            body.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
            body.extend(number.to_ne_bytes());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        crate::firewall::netlink::dump_request(kind, &body)
    }

    fn v4(kind: u8, table: u8, length: u8, to: [u8; 4], interface: u32) -> Vec<u8> {
        let header = [2, length, 0, 0, table, 0, 0, kind, 0, 0, 0, 0];
        message(NEW_ROUTE, &header, &[(1, &to), (4, &interface.to_ne_bytes())])
    }

    #[test]
    fn routes_tell_what_is_ours_and_who_can_be_answered() {
        let dump = [
            v4(2, 255, 8, [127, 0, 0, 0], 1),
            v4(2, 255, 32, [10, 0, 0, 5], 2),
            v4(3, 255, 32, [10, 0, 0, 255], 2),
            v4(1, 254, 24, [10, 0, 0, 0], 2),
            v4(1, 254, 0, [0; 4], 2),
            v4(6, 254, 8, [192, 0, 0, 0], 0),
            v4(1, 77, 8, [11, 0, 0, 0], 3),
        ]
        .concat();
        let routes = routes([&dump, &[]], Default::default());
        let text = |list: &[(AddrRange, u32)]| {
            list.iter().map(|(range, index)| format!("{range} {index}")).collect::<Vec<_>>()
        };
        assert_eq!(text(&routes.local), ["10.0.0.5/32 2", "127.0.0.0/8 1"]);
        assert_eq!(text(&routes.broadcast), ["10.0.0.255/32 2"]);
        let open: Vec<String> = routes.answerable.iter().map(ToString::to_string).collect();
        assert_eq!(open, ["0.0.0.0-191.255.255.255", "193.0.0.0-255.255.255.255"]);
    }

    #[test]
    fn a_lookup_on_one_interface_sees_no_better_route_of_another() {
        let ways =
            [v4(1, 254, 0, [0; 4], 2), v4(1, 254, 24, [10, 0, 0, 0], 3), v4(2, 255, 32, [10, 0, 0, 5], 3)];
        let told = |more: &[u8]| {
            let found = routes([&[&ways.concat(), more].concat(), &[]], Default::default()).through;
            found.iter().map(|(range, index)| format!("{range} {index}")).collect::<Vec<_>>()
        };
        assert_eq!(told(&[]), ["0.0.0.0/0 2", "10.0.0.0/24 3"]);
        assert!(told(&v4(6, 254, 8, [11, 0, 0, 0], 0)).is_empty(), "a wall on the way");
        assert!(told(&v4(1, 254, 8, [11, 0, 0, 0], 0)).is_empty(), "a route of several interfaces");
    }

    #[test]
    fn a_longer_prefix_opens_what_a_shorter_one_refuses() {
        let dump = [v4(7, 254, 0, [0; 4], 0), v4(1, 254, 24, [10, 0, 0, 0], 2)].concat();
        let open: Vec<String> =
            routes([&dump, &[]], Default::default()).answerable.iter().map(ToString::to_string).collect();
        assert_eq!(open, ["10.0.0.0/24"]);
    }
}
