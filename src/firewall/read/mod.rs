//! The kernel's own form of its rules, taken apart. Pure.

mod count;
mod ipset;
mod legacy;
mod needs;
mod nft;
#[cfg(test)]
mod tests;
mod xt;

use super::ruleset::Ruleset;
use crate::model::{IpsetDump, LegacyTable, NftablesDump};

pub use count::{Counted, count};
pub(crate) use ipset::{list_request, name as ipset_name, name_request};
pub(crate) use needs::Needs;
pub(crate) use nft::set_requests;

/// All rules of a namespace, of nftables and of legacy iptables side by side. `None` where something
/// contradicts itself or is cut: then nothing can be said of any packet.
pub(crate) fn decode(
    nftables: Option<&NftablesDump>,
    legacy: &[LegacyTable],
    ipsets: Option<&IpsetDump>,
) -> Option<Ruleset> {
    let filled = Needs::of(nftables, legacy).filled;
    let ipsets = ipsets.map(|dump| ipset::Ipsets::decode(dump, &filled)).unwrap_or_default();
    let mut found = match nftables {
        Some(dump) => nft::decode(dump, &ipsets)?,
        None => Ruleset::default(),
    };
    legacy::decode(legacy, &ipsets, &mut found)?;
    Some(found)
}
