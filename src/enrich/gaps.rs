//! What this room says of the facts that it could not read.

#![forbid(unsafe_code)]

use crate::model::{Gap, Snapshot};

/// What a gap of this room always says.
pub(super) struct Kind {
    id: &'static str,
    what: &'static str,
    why: &'static str,
    remedy: Option<&'static str>,
}

pub(super) const AS_ROOT: Option<&str> = Some("run as root: sudo sockwarden");

pub(super) const PROCESSES: Kind = Kind {
    id: "process-facts",
    what: "executable, user name and namespaces of some processes",
    why: "they belong to others, and looking into them was refused",
    remedy: AS_ROOT,
};
pub(super) const ENDED: Kind = Kind {
    id: "process-ended",
    what: "facts of processes that held sockets",
    why: "they ended while they were being read",
    remedy: None,
};
pub(super) const ROOTS: Kind = Kind {
    id: "root-unread",
    what: "what became of some executables, or the names of their users",
    why: "the file system of the process does not show it: a covered or dead mount, or a root that was refused",
    remedy: None,
};
pub(super) const CONTAINERS: Kind = Kind {
    id: "container-state",
    what: "name and image of some containers",
    why: "the runtime's state files could not be read",
    remedy: AS_ROOT,
};
pub(super) const UNITS: Kind = Kind {
    id: "unit-files",
    what: "services behind sockets that systemd holds",
    why: "the unit files in the root of that systemd could not be read",
    remedy: AS_ROOT,
};
pub(super) const RPM: Kind = Kind {
    id: "packages-rpm",
    what: "packages of some programs",
    why: "rpm's data base is of a kind before rpm 4.16 (Berkeley DB, ndb), which rpm alone reads",
    remedy: Some("rpm -qf PATH"),
};
pub(super) const PACKAGES: Kind = Kind {
    id: "packages-unread",
    what: "packages of some programs",
    why: "the package data base, or the program itself, could not be read",
    remedy: AS_ROOT,
};
pub(super) const INTERFACES: Kind = Kind {
    id: "interfaces-unread",
    what: "interfaces of some network namespaces",
    why: "the namespace could not be entered",
    remedy: AS_ROOT,
};
pub(super) const GONE: Kind = Kind {
    id: "access-moved",
    what: "who may connect to some UNIX sockets",
    why: "the file of the socket does not stand (any more) at the path it was bound to",
    remedy: None,
};
pub(super) const ACCESS: Kind = Kind {
    id: "access-unread",
    what: "who may connect to some UNIX sockets",
    why: "the root of the holder, or the file in it, could not be looked at",
    remedy: AS_ROOT,
};

/// Adds a gap that concerns `count` things; nothing for none.
pub(super) fn gap(snapshot: &mut Snapshot, kind: &Kind, count: u64) {
    if count > 0 {
        snapshot.gaps.push(Gap {
            id: kind.id.into(),
            what: kind.what.into(),
            why: kind.why.into(),
            remedy: kind.remedy.map(Into::into),
            count,
            unlisted: None,
        });
    }
}
