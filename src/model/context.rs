//! The place a socket lives in: host, namespace, interface, container.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::socket::named;
use super::{AddrRange, Evidence, Fact, RouteRule, TableRoute, Text};

/// Index into `Snapshot::namespaces`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct NamespaceId(pub u32);

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Host {
    pub name: String,
    pub os: String,
    pub kernel: String,
    pub boot_id: Option<String>,
    /// What the firmware says of maker and product, for the guess about the upstream.
    pub dmi: Option<String>,
}

/// A network namespace and the facts of it that decide who can reach its sockets.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Namespace {
    /// Inode of the namespace file (`net:[4026531840]`).
    pub inode: u64,
    /// `SO_NETNS_COOKIE`, where it was read.
    pub cookie: Option<u64>,
    /// File name below /run/netns, or the container's name; `None` for a nameless one.
    pub name: Option<Text>,
    /// Whether this is the namespace that sockwarden itself runs in.
    pub own: bool,
    /// `Unknown` when nobody may ask.
    pub interfaces: Fact<Vec<Interface>>,
    /// Whether the kernel filters packets here at all.
    pub filter: FilterState,
    /// Programs that keep rules here, told by the names of their chains.
    pub front_ends: Vec<FrontEnd>,
    /// Whether some hook may translate addresses; `None` where nobody could ask.
    pub translates: Option<bool>,
    /// The rules of nftables as the kernel told them; `Absent` where there are none.
    pub nftables: Fact<NftablesDump>,
    /// The tables of legacy iptables; `Absent` where there are none.
    #[serde(default)]
    pub legacy: Fact<Vec<LegacyTable>>,
    /// The IP sets; `Absent` where no rule looks into one.
    #[serde(default)]
    pub ipsets: Fact<IpsetDump>,
    /// Rules whose words we cannot write ourselves, as the programs that keep them do.
    #[serde(default)]
    pub texts: Vec<Evidence>,
    /// `Unknown` when nobody may ask; then the addresses of `interfaces` must do.
    pub routes: Fact<Routes>,
    pub sysctls: Sysctls,
}

/// What the routing tables say of a namespace's own addresses and of the way back to a sender.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Routes {
    /// Destinations that are delivered here, each with the index of the interface it belongs to.
    pub local: Vec<(AddrRange, u32)>,
    /// Broadcast and anycast destinations: they take datagrams only.
    pub broadcast: Vec<(AddrRange, u32)>,
    /// Senders that an answer finds a route to; merged and in order.
    pub answerable: Vec<AddrRange>,
    /// Where other destinations go: no two overlap, each with the index of the interface, 0 where
    /// several share it or nobody can tell.
    #[serde(default)]
    pub out: Vec<(AddrRange, u32)>,
    /// All networks that a route of the usual tables leads to by an interface, however many other
    /// routes are better. Empty where nobody can tell.
    #[serde(default)]
    pub through: Vec<(AddrRange, u32)>,
    /// Rules beyond those of a fresh namespace choose between tables (ip-rule(8)), so
    /// `answerable` is the most there can be.
    pub policy: bool,
    /// Destinations that are delivered here by tables which only a rule leads to.
    #[serde(default)]
    pub elsewhere: Vec<AddrRange>,
    /// With `policy`: those rules, of each family in the order in which they are asked, and the routes
    /// of every table of the families that choose. None of a family whose routes are too many.
    #[serde(default)]
    pub rules: Vec<RouteRule>,
    #[serde(default)]
    pub tables: Vec<TableRoute>,
}

/// The answers of nfnetlink to dumps of one and the same generation of the ruleset, byte for byte.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NftablesDump {
    pub tables: Text,
    pub chains: Text,
    pub rules: Text,
    pub sets: Text,
    /// Elements, one answer for each set that has some.
    pub elements: Vec<Text>,
    /// The number of the generation, which every change raises.
    #[serde(default)]
    pub generation: Option<u32>,
}

/// A table of legacy iptables as getsockopt(2) told it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LegacyTable {
    pub v6: bool,
    pub name: Text,
    /// `struct ipt_getinfo`
    pub info: Text,
    /// `struct ipt_entry` or `struct ip6t_entry`, one after the other.
    pub entries: Text,
}

/// All IP sets as nfnetlink told them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct IpsetDump {
    /// The answer to a list of all sets.
    pub list: Text,
    /// Names of the sets that rules look into, by the number that rules know them by.
    pub names: Vec<(u16, Text)>,
}

named! {
    /// Who keeps the packet filter of a namespace.
    FrontEnd {
        Ufw = "ufw", Firewalld = "firewalld", Docker = "docker",
        /// Rules in nftables itself.
        Nftables = "nftables",
        /// iptables speaking to nftables.
        IptablesNft = "iptables-nft",
        IptablesLegacy = "iptables-legacy",
    }
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Interface {
    pub index: u32,
    pub name: Text,
    pub kind: InterfaceKind,
    pub up: bool,
    pub promiscuous: bool,
    /// Addresses with their prefix length, as configured.
    pub addresses: Vec<IpNet>,
    /// Index of the bridge or bond that it belongs to.
    pub master: Option<u32>,
    /// Of an end of a virtual cable, the index of the other end in its own namespace.
    #[serde(default)]
    pub link: Option<u32>,
    /// Whether a default route leaves through it, per family.
    pub default_v4: bool,
    pub default_v6: bool,
    /// Multicast groups that somebody joined here.
    pub groups: Vec<IpAddr>,
    /// net.ipv4.conf.NAME.rp_filter or that of all, whichever is stricter: 0 off, 1 strict, 2 loose;
    /// `None` where nobody could tell.
    #[serde(default)]
    pub rp_filter: Option<u8>,
    #[serde(default)]
    pub settings: LinkSettings,
}

/// What else decides whether an interface takes a packet; `None` where nobody could tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LinkSettings {
    /// net.ipv4.conf.NAME.route_localnet or that of all.
    pub route_localnet: Option<bool>,
    /// net.ipv4.conf.NAME.drop_unicast_in_l2_multicast or that of all.
    pub drop_unicast_in_l2_multicast: Option<bool>,
    /// Of a port of a bridge: whether frames may leave by the port that they came in by
    /// (`IFLA_BRPORT_MODE`).
    pub hairpin: Option<bool>,
    /// Of a bridge: whether what it passes on goes through the packet filters of IPv4 and of IPv6
    /// (net.bridge.bridge-nf-call-iptables, -ip6tables, or the bridge's own settings of that name).
    pub bridge_filter: [Option<bool>; 2],
}

named! {
    /// `IFLA_INFO_KIND` where it matters for reach.
    InterfaceKind {
        Loopback = "loopback", Ethernet = "ethernet", Bridge = "bridge", Veth = "veth", Tun = "tun",
        Tap = "tap", Wireguard = "wireguard", Vxlan = "vxlan", Macvlan = "macvlan", Ipvlan = "ipvlan",
        Vlan = "vlan", Bond = "bond", Tunnel = "tunnel", Dummy = "dummy", Other = "other",
    }
}

/// What the kernel answered when asked whether a packet filter exists in a namespace.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FilterState {
    /// No table of any kind.
    None,
    /// These exist: `nftables: inet filter`, `iptables: filter`.
    Some(Vec<Text>),
    /// Nobody could ask, for this reason.
    #[default]
    Unasked,
    Refused(String),
}

/// Settings of one namespace; `None` where it could not be read.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Sysctls {
    /// net.ipv4.ip_local_port_range
    pub ephemeral: Option<(u16, u16)>,
    /// net.ipv4.ip_unprivileged_port_start
    pub unprivileged_start: Option<u16>,
    /// net.ipv4.ip_forward
    pub forward_v4: Option<bool>,
    /// net.ipv6.conf.all.forwarding
    pub forward_v6: Option<bool>,
    /// net.ipv4.conf.all.route_localnet, or any interface's
    pub route_localnet: Option<bool>,
}

/// What no host can know of itself: whether the world can address it (`[host] upstream`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Upstream {
    Direct,
    Router,
    OneToOne,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Container {
    /// docker podman containerd crio lxc systemd-nspawn …
    pub runtime: String,
    pub id: Text,
    pub name: Option<Text>,
    pub image: Option<Text>,
}
