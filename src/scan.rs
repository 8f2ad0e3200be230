//! The program on one screen: collect, enrich, expose, match.

#![forbid(unsafe_code)]

use crate::model::{Snapshot, Wants};
use crate::source::Source;
use crate::{collect, enrich, firewall};

/// Everything that is read of the machine, once.
pub fn gather(source: &Source, wants: &Wants) -> Snapshot {
    let mut snapshot = collect::sockets(source, wants);
    enrich::context(&mut snapshot, source, wants);
    if wants.places {
        firewall::ask(&mut snapshot, source);
    }
    snapshot
}
