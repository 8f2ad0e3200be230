//! Which IP sets the rules look into or fill, by the numbers that rules know them by.

use std::collections::BTreeSet;

use super::{legacy, nft};
use crate::model::{LegacyTable, NftablesDump};

/// `IPSET_INVALID_ID`: none.
const NONE: u16 = u16::MAX;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Needs {
    pub(crate) looked_into: BTreeSet<u16>,
    /// By packets that pass.
    pub(crate) filled: BTreeSet<u16>,
}

impl Needs {
    pub(crate) fn of(nftables: Option<&NftablesDump>, tables: &[LegacyTable]) -> Self {
        let mut found = Self::default();
        if let Some(dump) = nftables {
            nft::each_extension(dump, &mut |name, info| found.note(name, info));
        }
        for table in tables {
            legacy::each_extension(table, &mut |name, info| found.note(name, info));
        }
        found
    }

    /// Numbers stand first in `struct xt_set_info`, of which a match has one and a target up to
    /// three: to add to, to take from, to map with.
    fn note(&mut self, name: &[u8], info: &[u8]) {
        let index = |at: usize| Some(u16::from_ne_bytes(info.get(at..at + 2)?.try_into().ok()?));
        match name {
            b"set" => self.looked_into.extend(index(0)),
            b"SET" => self.filled.extend([0, 4].into_iter().filter_map(index).filter(|each| *each != NONE)),
            _ => {}
        }
    }
}
