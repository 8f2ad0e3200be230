//! A system that this build cannot ask: no socket, and a gap that says so.

#![forbid(unsafe_code)]

use crate::model::{Gap, Namespace, NamespaceId, Snapshot, Wants};
use crate::source::Source;

/// See `collect::sockets`.
pub(super) fn sockets(source: &Source, _wants: &Wants) -> Snapshot {
    Snapshot {
        taken_at: super::taken_at(source),
        namespaces: vec![Namespace { own: true, ..Namespace::default() }],
        gaps: vec![Gap {
            id: "system-unsupported".into(),
            what: format!("every socket: this build cannot list those of {}", std::env::consts::OS),
            why: "it was built without the feature apple-sdk".into(),
            remedy: Some("build it with the default features".into()),
            count: 1,
            unlisted: Some((None, Some(NamespaceId(0)))),
        }],
        ..Snapshot::default()
    }
}
