//! `host`: its namespaces, interfaces and settings.

use toml::de::DeTable;

use super::{Builder, check_keys};
use crate::model::{
    Fact, FilterState, Interface, InterfaceKind, LinkSettings, Namespace, NamespaceId, Sysctls, Text,
    Upstream,
};
use crate::rules::reader::Node;

const HOST: &[&str] = &[
    "upstream",
    "forwarding",
    "filter",
    "promiscuous",
    "route_localnet",
    "unprivileged_port_start",
    "ephemeral",
    "interfaces",
];

impl Builder<'_> {
    pub(super) fn host(&mut self, node: Option<&Node<'_>>) {
        let mut own = Namespace { inode: 1, own: true, ..Namespace::default() };
        own.interfaces = Fact::Known(vec![
            interface(1, "lo", InterfaceKind::Loopback, &["127.0.0.1/8", "::1/128"]),
            interface(2, "eth0", InterfaceKind::Ethernet, &["192.0.2.2/24", "2001:db8::2/64"]),
        ]);
        self.snapshot.namespaces = vec![own];
        let Some(fields) = node.and_then(|node| self.reader.table(node, "host")) else { return };
        check_keys(self.reader, fields, "the host of an example", HOST);
        let mut sysctls = Sysctls::default();
        if let Some(node) = fields.get("upstream") {
            const UPSTREAMS: [(&str, Upstream); 3] = [
                ("direct", Upstream::Direct),
                ("router", Upstream::Router),
                ("one-to-one", Upstream::OneToOne),
            ];
            self.snapshot.upstream = self.one_of(node, "upstream", &UPSTREAMS);
        }
        let forwarding = self.flag(fields, "forwarding");
        (sysctls.forward_v4, sysctls.forward_v6) = (forwarding, forwarding);
        sysctls.route_localnet = self.flag(fields, "route_localnet");
        sysctls.unprivileged_start = self
            .number(fields, "unprivileged_port_start", u16::MAX.into())
            .and_then(|port| u16::try_from(port).ok());
        if let Some(node) = fields.get("ephemeral") {
            let range = self.reader.text(node, "ephemeral").and_then(|text| {
                let (first, last) = text.split_once('-')?;
                Some((first.parse().ok()?, last.parse().ok()?))
            });
            if range.is_none() {
                self.reader.say(node.span(), "`ephemeral` is a range of ports: \"32768-60999\"");
            }
            sysctls.ephemeral = range;
        }
        let filter = self.flag(fields, "filter");
        let promiscuous = self.flag(fields, "promiscuous");
        let interfaces = fields.get("interfaces").map(|node| self.interfaces(node));
        let own = &mut self.snapshot.namespaces[0];
        own.sysctls = sysctls;
        own.filter = match filter {
            Some(true) => FilterState::Some(vec!["nftables: inet filter".into()]),
            Some(false) => FilterState::None,
            None => FilterState::Unasked,
        };
        if let Some(interfaces) = interfaces {
            own.interfaces = Fact::Known(interfaces);
        }
        if let (Some(promiscuous), Fact::Known(interfaces)) = (promiscuous, &mut own.interfaces)
            && let Some(last) = interfaces.last_mut()
        {
            last.promiscuous = promiscuous;
        }
    }

    pub(super) fn interfaces(&mut self, node: &Node<'_>) -> Vec<Interface> {
        let nodes = self.reader.list(node, "interfaces");
        let mut found = Vec::new();
        for (each, index) in nodes.into_iter().zip(1..) {
            let Some(fields) = self.reader.table(each, "interfaces") else { continue };
            check_keys(self.reader, fields, "an interface", &["name", "kind", "addresses"]);
            let name = fields
                .get("name")
                .and_then(|node| self.reader.text(node, "name"))
                .unwrap_or("eth0")
                .to_owned();
            let kinds: Vec<_> = InterfaceKind::ALL.iter().map(|kind| (kind.name(), *kind)).collect();
            let kind = fields.get("kind").and_then(|node| self.one_of(node, "kind", &kinds));
            let mut interface = interface(index, &name, kind.unwrap_or(InterfaceKind::Ethernet), &[]);
            for address in
                fields.get("addresses").map_or_else(Vec::new, |node| self.reader.list(node, "addresses"))
            {
                let Some(text) = self.reader.text(address, "addresses") else { continue };
                match text.parse() {
                    Ok(net) => interface.addresses.push(net),
                    Err(_) => self
                        .reader
                        .say(address.span(), "an address of an interface is written \"192.0.2.2/24\""),
                }
            }
            found.push(interface);
        }
        found
    }

    pub(super) fn netns(&mut self, fields: &DeTable<'_>) -> NamespaceId {
        let Some(inner) = fields.get("netns").and_then(|node| self.reader.table(node, "netns")) else {
            return NamespaceId(0);
        };
        check_keys(self.reader, inner, "`netns`", &["own", "name"]);
        let own = self.flag(inner, "own").unwrap_or(true);
        let name = self.text(inner, "name").map(Text::from);
        let found = self.snapshot.namespaces.iter().position(|each| each.own == own && each.name == name);
        let index = found.unwrap_or_else(|| {
            let inode = 1 + self.snapshot.namespaces.len() as u64;
            let first = self.snapshot.namespaces[0].clone();
            self.snapshot.namespaces.push(Namespace { inode, own, name, ..first });
            self.snapshot.namespaces.len() - 1
        });
        NamespaceId(u32::try_from(index).unwrap_or(0))
    }

    /// Index of the interface of this name, which is made if the host has none.
    pub(super) fn bound(&mut self, fields: &DeTable<'_>) -> u32 {
        let Some(name) = self.text(fields, "interface").filter(|name| name != "none") else { return 0 };
        let Fact::Known(interfaces) = &mut self.snapshot.namespaces[0].interfaces else { return 0 };
        if let Some(known) = interfaces.iter().find(|each| each.name.as_bytes() == name.as_bytes()) {
            return known.index;
        }
        let index = u32::try_from(interfaces.len() + 1).unwrap_or(u32::MAX);
        interfaces.push(interface(index, &name, InterfaceKind::Ethernet, &[]));
        index
    }
}

fn interface(index: u32, name: &str, kind: InterfaceKind, addresses: &[&str]) -> Interface {
    Interface {
        index,
        name: name.into(),
        kind,
        up: true,
        promiscuous: false,
        addresses: addresses.iter().filter_map(|address| address.parse().ok()).collect(),
        master: None,
        link: None,
        default_v4: false,
        default_v6: false,
        groups: Vec::new(),
        rp_filter: None,
        settings: LinkSettings::default(),
    }
}
