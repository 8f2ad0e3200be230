//! What the door is asked for, and what it answers.

/// A program that lists rules, with fixed arguments; it is only ever asked for words to quote.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Listing {
    /// `nft -s -a list ruleset`
    Nft,
    /// `iptables-legacy-save` and `ip6tables-legacy-save`
    LegacyV4,
    LegacyV6,
}

impl Listing {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::LegacyV4 => "iptables-legacy-save",
            Self::LegacyV6 => "ip6tables-legacy-save",
        }
    }

    /// Names of the program, the surest first: without alternatives `iptables-save` is the old one.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only Linux has these programs"))]
    pub(super) fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Nft => &["nft"],
            Self::LegacyV4 => &["iptables-legacy-save", "iptables-save"],
            Self::LegacyV6 => &["ip6tables-legacy-save", "ip6tables-save"],
        }
    }

    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only Linux has these programs"))]
    pub(super) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Nft => &["-s", "-a", "list", "ruleset"],
            Self::LegacyV4 | Self::LegacyV6 => &[],
        }
    }
}

/// What stat(2) tells, as far as somebody asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct FileStat {
    /// Major and minor number of the device.
    pub device: (u32, u32),
    pub inode: u64,
    /// Type and permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub links: u64,
    pub size: u64,
    /// Id of the mount that it was found in (`STATX_MNT_ID`, since Linux 5.8), else 0. A mount
    /// belongs to one mount namespace only.
    #[serde(default)]
    pub mount: u64,
}

impl FileStat {
    /// The device number as the kernel keeps it inside (`UNIX_DIAG_VFS`): major in the upper
    /// 12 bits, minor in the lower 20 (include/linux/kdev_t.h).
    pub fn kernel_device(&self) -> u32 {
        self.device.0 << 20 | self.device.1 & 0xf_ffff
    }

    pub fn is_file(&self) -> bool {
        self.mode & 0o170_000 == 0o100_000
    }

    pub fn is_dir(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }

    pub fn is_socket(&self) -> bool {
        self.mode & 0o170_000 == 0o140_000
    }
}

/// What a socket says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct SocketAnswer {
    pub inode: u64,
    pub uid: u32,
    /// Address family, `SO_TYPE`, `SO_PROTOCOL`.
    pub domain: u32,
    pub kind: u32,
    pub protocol: u32,
    /// `SO_ACCEPTCONN`
    pub accepting: bool,
    /// getsockname(2) and getpeername(2): `struct sockaddr_*` of the family, empty for none.
    pub name: Vec<u8>,
    pub peer: Vec<u8>,
    pub cookie: u64,
    pub netns_cookie: Option<u64>,
    /// `SO_BINDTOIFINDEX`
    pub interface: u32,
    /// `tcpi_state` of tcp(7).
    pub tcp_state: Option<u8>,
    pub v6only: Option<bool>,
}

/// Where a network namespace can be entered from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NetnsPlace {
    /// A file below /proc: `17/ns/net`, `17/fd/4`.
    Proc(String),
    /// A bind mount, as seen from our own root.
    Mount(Vec<u8>),
}
