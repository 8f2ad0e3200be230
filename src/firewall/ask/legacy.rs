//! The tables of legacy iptables, and the IP sets that rules of any kind look into.

use std::collections::BTreeSet;
use std::io;

use super::{NETLINK_NETFILTER, or_missing};
use crate::firewall::read::{Needs, ipset_name, list_request, name_request};
use crate::model::{IpsetDump, LegacyTable, NftablesDump, Text};
use crate::source::Source;

/// `struct ipt_getinfo`
const INFO: usize = 84;
/// How often the names of sets may change while the sets are read.
const ATTEMPTS: u32 = 4;

/// All tables that /proc names. Nobody else may be asked for: asking makes a table.
///
/// # Errors
/// What could not be asked.
pub(super) fn tables(source: &Source, netns: u64) -> Result<Vec<LegacyTable>, String> {
    let mut found = Vec::new();
    for (file, v6) in [("net/ip_tables_names", false), ("net/ip6_tables_names", true)] {
        let names = match source.netns_file(netns, file) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(format!("{file}: {error}")),
        };
        for name in names.split(|byte| *byte == b'\n').filter(|name| !name.is_empty()) {
            let program = if v6 { "ip6tables" } else { "iptables" };
            let text = std::str::from_utf8(name).map_err(|error| format!("{file}: {error}"))?;
            let mut info = source
                .legacy_table(netns, v6, text)
                .map_err(|error| format!("{program}: {text}: {error}"))?;
            let entries = info.split_off(INFO.min(info.len()));
            found.push(LegacyTable { v6, name: name.into(), info: info.into(), entries: entries.into() });
        }
    }
    Ok(found)
}

/// As the model names a table: `iptables: filter`.
pub(super) fn label(table: &LegacyTable) -> Text {
    let program: &[u8] = if table.v6 { b"ip6tables: " } else { b"iptables: " };
    [program, table.name.as_bytes()].concat().into()
}

/// `None` where no rule looks into a set.
///
/// # Errors
/// What could not be asked.
pub(super) fn ipsets(
    source: &Source,
    netns: u64,
    nftables: &NftablesDump,
    tables: &[LegacyTable],
) -> Result<Option<IpsetDump>, String> {
    let needs = Needs::of(Some(nftables), tables);
    let wanted: BTreeSet<u16> = needs.looked_into.union(&needs.filled).copied().collect();
    if wanted.is_empty() {
        return Ok(None);
    }
    let ask = |name: &str, request: &[u8]| {
        or_missing(source.netlink(netns, NETLINK_NETFILTER, name, request))
            .map_err(|error| format!("ipset: {error}"))
    };
    let names = |moment: &str| -> Result<Vec<(u16, Text)>, String> {
        let mut found = Vec::new();
        for index in &wanted {
            let answer = ask(&format!("ipset-name-{index}-{moment}"), &name_request(*index))?;
            // A set that has gone since: its rule has too.
            if let Some(name) = ipset_name(&answer) {
                found.push((*index, name.into()));
            }
        }
        Ok(found)
    };
    for _ in 0..ATTEMPTS {
        let before = names("before")?;
        let list = ask("ipset-list", &list_request())?;
        if before == names("after")? {
            return Ok(Some(IpsetDump { list: list.into(), names: before }));
        }
    }
    Err("ipset: the sets change their names faster than they can be read".to_owned())
}
