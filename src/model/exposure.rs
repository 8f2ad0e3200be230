//! From where a socket can be reached.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::socket::named;
use super::{AddrRange, NamespaceId, PortRange, Text};

named! {
    /// The widest class of senders that get in, narrowest first. `Unknown`: not even the class
    /// can be told.
    Reach {
        None = "none", Process = "process", Host = "host", Container = "container", Link = "link",
        Lan = "lan", Internet = "internet", Unknown = "unknown",
    }
}

named! {
    Verdict { Accept = "accept", Unknown = "unknown" }
}

/// Where a packet first meets this computer.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Entry {
    pub netns: NamespaceId,
    pub interfaces: Vec<Text>,
}

/// A product: every interface × destination × port × source in it has this verdict. Addresses and
/// ports are as the sender writes them, before any translation. Sockets that are bound alike share
/// all but the port.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Path {
    pub entry: Arc<Entry>,
    pub destinations: Arc<[AddrRange]>,
    /// `None` for raw and ICMP.
    pub ports: Option<Vec<PortRange>>,
    pub sources: Arc<[AddrRange]>,
    pub verdict: Verdict,
    /// Indices into `Snapshot::evidence`.
    pub because: Vec<u32>,
}

/// Who can reach one socket. The list of paths is closed: what is in none does not get in.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Exposure {
    pub reach: Reach,
    /// True only when no path is unknown.
    pub certain: bool,
    pub paths: Vec<Path>,
}

/// A firewall rule that decided a path.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Evidence {
    /// `inet filter/input`
    pub place: String,
    pub handle: Option<u64>,
    pub text: Text,
}

impl Evidence {
    /// A rule whose words are not known.
    pub fn wordless(place: String, handle: u64) -> Self {
        let text = Text::from(Self::without_words(&place, handle));
        Self { place, handle: Some(handle), text }
    }

    pub fn has_words(&self) -> bool {
        self.handle
            .is_none_or(|handle| self.text.as_bytes() != Self::without_words(&self.place, handle).as_bytes())
    }

    fn without_words(place: &str, handle: u64) -> String {
        format!("rule {handle} of {place}, which cannot be written here")
    }
}

/// Who may connect to a UNIX socket, from the permissions of its file and the folders above.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Access {
    /// Permission bits of the file; `None` for abstract names, which have none.
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub users: Users,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Users {
    Everyone,
    /// Names of users, sorted; root always may.
    Named(Vec<Text>),
    /// The file could not be looked at.
    Unknown,
}
