//! Asks the kernel, per network namespace: does a packet filter exist, who keeps it, can it
//! translate, which addresses are ours, who can be answered. No ruleset is judged here.

mod filter;
mod legacy;
mod routes;
mod rules;

use self::filter::{front_ends, tables, traffic_control, translates, xdp};
use super::netlink::{dump_request, request};
use super::ranges::Family;
use super::read::{decode, set_requests};
use crate::model::{
    Fact, FilterState, FrontEnd, IpsetDump, LegacyTable, Namespace, NftablesDump, Routes, Snapshot, Text,
};
use crate::source::{NetlinkError, Source};

const NETLINK_ROUTE: u32 = 0;
const NETLINK_NETFILTER: u32 = 12;

/// Fills filter, front ends, translation and routes of every namespace. What could not be asked
/// is said there, with the reason; `expose` counts the sockets that it concerns.
pub fn ask(snapshot: &mut Snapshot, source: &Source) {
    for namespace in &mut snapshot.namespaces {
        let found = Asked::of(source, namespace);
        namespace.filter = found.filter;
        namespace.translates = found.translates;
        namespace.front_ends = found.front_ends;
        namespace.nftables = found.nftables;
        namespace.legacy = found.legacy;
        namespace.ipsets = found.ipsets;
        namespace.routes = ask_routes(source, namespace.inode);
    }
}

struct Asked {
    filter: FilterState,
    translates: Option<bool>,
    front_ends: Vec<FrontEnd>,
    nftables: Fact<NftablesDump>,
    legacy: Fact<Vec<LegacyTable>>,
    ipsets: Fact<IpsetDump>,
}

impl Asked {
    fn of(source: &Source, namespace: &Namespace) -> Self {
        match Self::try_of(source, namespace) {
            Ok(found) => found,
            Err(why) => Self {
                filter: FilterState::Refused(why),
                translates: None,
                front_ends: Vec::new(),
                nftables: Fact::Unknown,
                legacy: Fact::Unknown,
                ipsets: Fact::Unknown,
            },
        }
    }

    /// # Errors
    /// The first question that was not answered: what is left unasked could hide a filter.
    fn try_of(source: &Source, namespace: &Namespace) -> Result<Self, String> {
        let netns = namespace.inode;
        // Everybody may ask for the links. An answer shows that the namespace can be entered, so
        // that "no such table" to the next questions is the kernel's word and not a closed door.
        let links = source.links(netns).map_err(|error| format!("interfaces: {error}"))?;
        let nft = |name: &str, kind| {
            let request = if kind == filter::GET_GENERATION {
                request(kind, &[0; 4])
            } else {
                dump_request(kind, &[0; 4])
            };
            let answer = source.netlink(netns, NETLINK_NETFILTER, name, &request);
            or_missing(answer).map_err(|error| format!("nftables: {error}"))
        };
        let nftables = ask_nftables(&nft, &|request: &[u8], name: &str| {
            source
                .netlink(netns, NETLINK_NETFILTER, name, request)
                .map_err(|error| format!("nftables: {error}"))
        })?;
        let nft_tables = tables(nftables.tables.as_bytes());
        let (chains, rules) = (nftables.chains.as_bytes(), nftables.rules.as_bytes());
        let mut keepers = front_ends(&nft_tables, chains);
        let mut found: Vec<Text> = nft_tables.iter().map(filter::Table::label).collect();
        let mut steers = translates(rules);
        let legacy = legacy::tables(source, netns)?;
        let ipsets = legacy::ipsets(source, netns, &nftables, &legacy)?;
        if !legacy.is_empty() {
            keepers.insert(FrontEnd::IptablesLegacy);
            steers |= decode(None, &legacy, ipsets.as_ref()).is_none_or(|rules| rules.steers);
            found.extend(legacy.iter().map(legacy::label));
        }
        if keepers.contains(&FrontEnd::IptablesLegacy) && namespace.own && ufw_is_on(source) {
            keepers.insert(FrontEnd::Ufw);
        }
        let bpf = bpf_hooks(source, namespace, &links)?;
        // A program on a hook may send a packet anywhere.
        steers |= !bpf.is_empty();
        found.extend(bpf);
        let filter = if found.is_empty() { FilterState::None } else { FilterState::Some(found) };
        let nftables = if nft_tables.is_empty() { Fact::Absent } else { Fact::Known(nftables) };
        Ok(Self {
            filter,
            translates: Some(steers),
            front_ends: keepers.into_iter().collect(),
            nftables,
            legacy: if legacy.is_empty() { Fact::Absent } else { Fact::Known(legacy) },
            ipsets: ipsets.into(),
        })
    }
}

/// A whole table, by the name under which it is recorded and the type of the request.
type Dump<'f> = &'f dyn Fn(&str, u16) -> Result<Vec<u8>, String>;
/// The answer to a request, and the name under which it is recorded.
type Send<'f> = &'f dyn Fn(&[u8], &str) -> Result<Vec<u8>, String>;

/// The whole ruleset, of one generation: asked again while it changes.
fn ask_nftables(ask: Dump<'_>, elements: Send<'_>) -> Result<NftablesDump, String> {
    const ATTEMPTS: u32 = 4;
    if filter::tables(&ask("nft-tables", filter::GET_TABLE)?).is_empty() {
        return Ok(NftablesDump::default());
    }
    let generation = |name| ask(name, filter::GET_GENERATION).map(|answer| filter::generation(&answer));
    for attempt in 0..ATTEMPTS {
        let before = generation("nft-generation-before")?;
        let found = tables_of(ask, elements);
        let after = generation("nft-generation-after")?;
        match found {
            Ok(found) if before == after => return Ok(NftablesDump { generation: after, ..found }),
            Err(error) if before == after && attempt + 1 == ATTEMPTS => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    Err("nftables: the rules change faster than they can be read".to_owned())
}

fn tables_of(ask: Dump<'_>, elements: Send<'_>) -> Result<NftablesDump, String> {
    let tables = ask("nft-tables", filter::GET_TABLE)?;
    let sets = ask("nft-sets", filter::GET_SET)?;
    let requests = set_requests(&sets);
    let mut answers = Vec::with_capacity(requests.len());
    for (number, request) in requests.iter().enumerate() {
        answers.push(elements(request, &format!("nft-elements-{number}"))?.into());
    }
    Ok(NftablesDump {
        tables: tables.into(),
        chains: ask("nft-chains", filter::GET_CHAIN)?.into(),
        rules: ask("nft-rules", filter::GET_RULE)?.into(),
        sets: sets.into(),
        elements: answers,
        generation: None,
    })
}

/// The number of the ruleset as it is now.
pub(super) fn generation(source: &Source, netns: u64, name: &str) -> Option<u32> {
    let request = request(filter::GET_GENERATION, &[0; 4]);
    filter::generation(&source.netlink(netns, NETLINK_NETFILTER, name, &request).ok()?)
}

/// XDP programs, and interfaces where traffic control can hold packets back.
fn bpf_hooks(source: &Source, namespace: &Namespace, links: &[u8]) -> Result<Vec<Text>, String> {
    let qdiscs = or_missing(dump(source, namespace.inode, NETLINK_ROUTE, "filter-qdiscs", 38, &[0; 20]))
        .map_err(|error| format!("traffic control: {error}"))?;
    let mut found = xdp(links);
    for index in traffic_control(&qdiscs) {
        let known = namespace.interfaces.known().and_then(|all| all.iter().find(|each| each.index == index));
        let name = known.map_or_else(|| Text::from(format!("interface {index}")), |each| each.name.clone());
        found.push([b"tc: ", name.as_bytes()].concat().into());
    }
    Ok(found)
}

/// What ufw itself reads at boot (ufw(8)); its chains in the legacy tables cannot be seen by name.
fn ufw_is_on(source: &Source) -> bool {
    let text = source.root(0).and_then(|root| root.read("/etc/ufw/ufw.conf", 64 << 10)).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().any(|line| {
        let line = line.trim().to_ascii_lowercase();
        line == "enabled=yes"
    })
}

fn dump(
    source: &Source,
    netns: u64,
    protocol: u32,
    name: &str,
    kind: u16,
    header: &[u8],
) -> Result<Vec<u8>, NetlinkError> {
    source.netlink(netns, protocol, name, &dump_request(kind, header))
}

/// A kernel without the subsystem has nothing in it. Its word is an error number; an error without
/// one comes from somewhere else and hides what there is.
fn or_missing(answer: Result<Vec<u8>, NetlinkError>) -> Result<Vec<u8>, NetlinkError> {
    match answer {
        Err(NetlinkError::Missing(error)) if error.raw_os_error().is_some_and(|number| number != 2) => {
            Ok(Vec::new())
        }
        other => other,
    }
}

fn ask_routes(source: &Source, netns: u64) -> Fact<Routes> {
    let ask = |name, kind, family| {
        let mut header = [0; 12];
        header[0] = routes::address_family(family);
        or_missing(dump(source, netns, NETLINK_ROUTE, name, kind, &header))
    };
    let all = || -> Result<Routes, NetlinkError> {
        let v4 = ask("routes-v4", routes::GET_ROUTE, Family::V4)?;
        let v6 = ask("routes-v6", routes::GET_ROUTE, Family::V6)?;
        let rules = [
            rules::rules(&ask("rules-v4", rules::GET_RULE, Family::V4)?, Family::V4),
            rules::rules(&ask("rules-v6", rules::GET_RULE, Family::V6)?, Family::V6),
        ];
        Ok(routes::routes([&v4, &v6], rules))
    };
    all().map_or(Fact::Unknown, Fact::Known)
}
