//! What could not be seen, gathered while looking.

#![forbid(unsafe_code)]

use std::fmt::Display;

use crate::model::{Gap, NamespaceId, Protocol};

/// Gaps by what they concern; the same gap twice is one with a higher count.
#[derive(Debug, Default)]
pub(crate) struct Gaps(Vec<Gap>);

impl Gaps {
    pub(crate) fn add(&mut self, gap: Gap) {
        let same = |old: &&mut Gap| old.id == gap.id && old.why == gap.why && old.unlisted == gap.unlisted;
        match self.0.iter_mut().find(same) {
            Some(old) => old.count += gap.count,
            None => self.0.push(gap),
        }
    }

    /// A protocol of a namespace that could not be listed to the end.
    pub(crate) fn unlisted(&mut self, protocol: Protocol, netns: NamespaceId, why: &impl Display) {
        self.add(Gap {
            id: "table-unread".into(),
            what: format!("the {} sockets of a network namespace are not all listed", protocol.name()),
            why: why.to_string(),
            remedy: None,
            count: 1,
            unlisted: Some((Some(protocol), Some(netns))),
        });
    }

    pub(crate) fn into_list(self) -> Vec<Gap> {
        self.0
    }
}
