//! The words of rules that we cannot write ourselves, as the programs that keep them write them: asked
//! once, found again by table and handle, or by their number in a chain.

use std::collections::BTreeMap;

use super::{Scribe, deciders};
use crate::firewall::ask::generation;
use crate::firewall::evaluate::Decider;
use crate::firewall::read::decode;
use crate::firewall::ruleset::{Origin, TableFamily};
use crate::model::{Evidence, Namespace, Snapshot, Text};
use crate::source::{Listing, Source};

/// More rules than this are not kept in words.
const MOST: usize = 20_000;

/// Asks for the rules of every namespace that lack words. Where a program is missing, or the rules have
/// changed in between, they stay without.
pub fn quote(snapshot: &mut Snapshot, source: &Source) {
    for namespace in &mut snapshot.namespaces {
        namespace.texts = texts(namespace, source);
    }
}

fn texts(namespace: &Namespace, source: &Source) -> Vec<Evidence> {
    let legacy = namespace.legacy.known().map_or(&[][..], Vec::as_slice);
    let nftables = namespace.nftables.known();
    if nftables.is_none() && legacy.is_empty() {
        return Vec::new();
    }
    let Some(ruleset) = decode(nftables, legacy, namespace.ipsets.known()) else { return Vec::new() };
    let scribe = Scribe::new(namespace, &ruleset, None);
    let lacking: Vec<Decider> =
        deciders(&ruleset).filter(|each| scribe.rule(each).is_none()).take(MOST).collect();
    let mut lists: BTreeMap<Listing, BTreeMap<Key, Vec<u8>>> = BTreeMap::new();
    let mut found = Vec::new();
    for decider in &lacking {
        let Some(table) = ruleset.tables.get(decider.table) else { continue };
        let listing = match (table.origin, table.family) {
            (Origin::Nftables, _) => Listing::Nft,
            (Origin::Legacy, TableFamily::Ip6) => Listing::LegacyV6,
            (Origin::Legacy, _) => Listing::LegacyV4,
        };
        let list = lists.entry(listing).or_insert_with(|| asked(namespace, source, listing));
        let place = scribe.place(decider);
        // A chain of legacy tables that has other rules by now.
        let count = table.chains.get(&decider.chain).map_or(0, |chain| chain.rules.len() as u64);
        let has = |number| list.contains_key(&(place.clone().into_bytes(), number));
        if table.origin == Origin::Legacy && (!has(count) || has(count + 1)) {
            continue;
        }
        let words = decider.handle.and_then(|handle| list.get(&(place.clone().into_bytes(), handle)));
        found.extend(words.map(|words| Evidence {
            place,
            handle: decider.handle,
            text: Text::from(words.clone()),
        }));
    }
    found
}

/// Place and handle.
type Key = (Vec<u8>, u64);

/// What a program lists, if the rules stayed the same while it did.
fn asked(namespace: &Namespace, source: &Source, listing: Listing) -> BTreeMap<Key, Vec<u8>> {
    let said = source.listing(namespace.inode, listing).unwrap_or_default();
    match listing {
        Listing::Nft => {
            let dumped = namespace.nftables.known().and_then(|dump| dump.generation);
            let now = generation(source, namespace.inode, "nft-generation-listed");
            if dumped.is_some() && now == dumped { by_handle(&said) } else { BTreeMap::new() }
        }
        Listing::LegacyV4 => by_number(&said, "iptables"),
        Listing::LegacyV6 => by_number(&said, "ip6tables"),
    }
}

/// `nft -s -a list ruleset`: rules stand two tabs deep below `table FAMILY NAME {` and `chain NAME {`.
/// A handle that a table has twice (a comment can hold a line of its own) tells nothing.
fn by_handle(said: &[u8]) -> BTreeMap<Key, Vec<u8>> {
    let mut found: BTreeMap<Key, Option<Vec<u8>>> = BTreeMap::new();
    let (mut table, mut chain): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
    for line in said.split(|byte| *byte == b'\n') {
        let depth = line.iter().take_while(|byte| **byte == b'\t').count();
        let Some((text, handle)) = handled(&line[depth..]) else { continue };
        match depth {
            0 => table = head(text, b"table ").unwrap_or_default(),
            1 => chain = head(text, b"chain ").unwrap_or_default(),
            2 if !chain.is_empty() => {
                let place = [&table[..], b"/", &chain].concat();
                let words = found.entry((place, handle));
                words.and_modify(|known| *known = None).or_insert_with(|| Some(text.to_vec()));
            }
            _ => {}
        }
    }
    found.into_iter().filter_map(|(key, words)| Some((key, words?))).collect()
}

/// A line and the handle at its end.
fn handled(line: &[u8]) -> Option<(&[u8], u64)> {
    const MARK: &[u8] = b" # handle ";
    let at = line.windows(MARK.len()).rposition(|window| window == MARK)?;
    let handle = std::str::from_utf8(&line[at + MARK.len()..]).ok()?.parse().ok()?;
    Some((&line[..at], handle))
}

/// The name between a word and ` {`.
fn head(text: &[u8], word: &[u8]) -> Option<Vec<u8>> {
    Some(text.strip_prefix(word)?.strip_suffix(b" {")?.to_vec())
}

/// `iptables-legacy-save`: `*TABLE`, then `-A CHAIN …` in the order of each chain.
fn by_number(said: &[u8], keeper: &str) -> BTreeMap<Key, Vec<u8>> {
    let mut found = BTreeMap::new();
    // The newer program under the same name lists other rules.
    if said
        .split(|byte| *byte == b'\n')
        .next()
        .is_none_or(|first| first.windows(10).any(|part| part == b"(nf_tables"))
    {
        return found;
    }
    let mut table: &[u8] = b"";
    let mut numbers: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    for line in said.split(|byte| *byte == b'\n') {
        if let Some(name) = line.strip_prefix(b"*") {
            table = name;
        } else if let Some(rest) = line.strip_prefix(b"-A ") {
            let chain = rest.split(|byte| *byte == b' ').next().unwrap_or_default();
            let place = [keeper.as_bytes(), b" ", table, b"/", chain].concat();
            let number = numbers.entry(place.clone()).or_default();
            *number += 1;
            found.insert((place, *number), line.to_vec());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_found_by_place_and_handle() {
        let said = b"table ip filter { # handle 1\n\tset s { # handle 9\n\t\ttype ipv4_addr\n\t}\n\n\
            \tchain INPUT { # handle 1\n\t\ttype filter hook input priority filter; policy drop;\n\
            \t\ttcp dport 22 counter accept # handle 4\n\
            \t\taccept comment \"x # handle 5\" # handle 6\n\t\tdrop # handle 7\n\t\taccept # handle 7\n\t}\n}\n";
        let found = by_handle(said);
        let words = |handle| found.get(&(b"ip filter/INPUT".to_vec(), handle)).map(Vec::as_slice);
        assert_eq!(words(4), Some(&b"tcp dport 22 counter accept"[..]));
        assert_eq!(words(6), Some(&b"accept comment \"x # handle 5\""[..]));
        assert_eq!(words(7), None, "twice the same handle");
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn rules_of_the_old_program_are_found_by_their_number() {
        let said = b"# Generated by iptables-save v1.8.9 on Sun\n*filter\n:INPUT ACCEPT [0:0]\n\
            -A INPUT -i lo -j ACCEPT\n-A INPUT -j DROP\n-A foo -j DROP\nCOMMIT\n";
        let found = by_number(said, "iptables");
        assert_eq!(found[&(b"iptables filter/INPUT".to_vec(), 2)], b"-A INPUT -j DROP");
        assert_eq!(found[&(b"iptables filter/foo".to_vec(), 1)], b"-A foo -j DROP");
        let newer = [&b"# Generated by iptables-save v1.8.9 (nf_tables) on Sun\n"[..], &said[43..]].concat();
        assert!(by_number(&newer, "iptables").is_empty());
        assert!(by_number(b"", "iptables").is_empty());
    }
}
