//! `[[fires]]` and `[[quiet]]`: small hosts, built into snapshots. What an example does not give is
//! unknown.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::facts::{self, Value, script as script_of};
use super::reader::{Node, Reader, integer, shorten};
use super::schema::{CAPABILITIES, SEVERITIES};
use crate::finding::Severity;
use crate::model::{
    Access, Ancestor, Container, Endpoint, ExeState, Exposure, Fact, FilterState, Holder, How, Interface,
    InterfaceKind, Namespace, NamespaceId, OwnerGap, Process, ProcessId, Protocol, Reach, Role, Snapshot,
    Socket, SocketIndex, SocketType, Span, State, Sysctls, Text, Upstream, Users,
};

/// A small host and what the rule must say of its first socket.
#[derive(Clone, Debug)]
pub(super) struct Example {
    pub(super) name: String,
    pub(super) fires: bool,
    pub(super) severity: Option<Severity>,
    pub(super) span: Range<usize>,
    pub(super) snapshot: Snapshot,
}

/// The socket that an example is about.
pub(super) const JUDGED: SocketIndex = SocketIndex(0);

const MAX_EXAMPLES: usize = 100;
const EXAMPLE: &[&str] = &["name", "severity", "socket", "process", "others", "host"];
const CHANGE: &[&str] = &["name", "severity", "like", "change", "unset"];
const SOCKET: &[&str] = &[
    "protocol",
    "type",
    "state",
    "role",
    "protocol_number",
    "local",
    "remote",
    "v6only",
    "interface",
    "groups",
    "uid",
    "user",
    "reach",
    "certain",
    "access",
    "owner_gap",
    "inode",
    "filtered",
    "netns",
    "owned",
    "ephemeral",
];
const PROCESS: &[&str] = &[
    "name",
    "program",
    "script",
    "exe",
    "exe_state",
    "cmdline",
    "cwd",
    "user",
    "uid",
    "euid",
    "capabilities",
    "unit",
    "container",
    "package",
    "parents",
    "stdin",
    "stdout",
    "stderr",
    "pid",
    "how",
];
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

/// All examples of a rule that could be read.
pub(super) fn read(reader: &mut Reader, table: &DeTable<'_>) -> Vec<Example> {
    let mut plain: Vec<(String, Node<'_>)> = Vec::new();
    let mut examples = Vec::new();
    for (kind, fires) in [("fires", true), ("quiet", false)] {
        let Some(node) = table.get(kind) else { continue };
        let nodes = reader.list(node, kind);
        if nodes.len() > MAX_EXAMPLES {
            reader.say(node.span(), format!("more than {MAX_EXAMPLES} examples"));
        }
        for each in nodes.into_iter().take(MAX_EXAMPLES) {
            let Some(fields) = reader.table(each, kind) else { continue };
            let Some(whole) = whole(reader, each, fields, &plain) else { continue };
            let Some(fields) = whole.get_ref().as_table() else { continue };
            let example = Builder::new(reader).example(fields, fires, each.span());
            if let Some(example) = example {
                if fires {
                    plain.push((example.name.clone(), whole));
                }
                examples.push(example);
            }
        }
    }
    for (index, example) in examples.iter().enumerate() {
        if examples[..index].iter().any(|other| other.name == example.name) {
            reader.say(example.span.clone(), format!("there are two examples `{}`", shorten(&example.name)));
        }
    }
    examples
}

/// The example with everything that it takes from another one.
fn whole<'i>(
    reader: &mut Reader,
    node: &Node<'i>,
    fields: &DeTable<'i>,
    plain: &[(String, Node<'i>)],
) -> Option<Node<'i>> {
    let derived = ["like", "change", "unset"].iter().any(|key| fields.contains_key(*key));
    check_keys(reader, fields, "an example", if derived { CHANGE } else { EXAMPLE });
    if !derived {
        return Some(node.clone());
    }
    let base = match fields.get("like") {
        None => plain.first(),
        Some(like) => {
            let name = reader.text(like, "like")?;
            let found = plain.iter().find(|(known, _)| known == name);
            if found.is_none() {
                let names = plain.iter().map(|(name, _)| name.as_str());
                reader.unknown_word(like.span(), name, "`[[fires]]` before this", names);
            }
            Some(found?)
        }
    };
    let Some((_, base)) = base else {
        reader.say(node.span(), "there is no `[[fires]]` that this could be a change of");
        return None;
    };
    let mut merged = base.get_ref().as_table()?.clone();
    merged.remove("name");
    merged.remove("severity");
    if let Some(change) = fields.get("change") {
        let change = reader.table(change, "change")?;
        check_keys(reader, change, "`change`", &["socket", "process", "others", "host"]);
        merge(&mut merged, change);
    }
    for each in fields.get("unset").map_or_else(Vec::new, |node| reader.list(node, "unset")) {
        let path = reader.text(each, "unset")?;
        if !unset(&mut merged, path) {
            reader.say(each.span(), format!("the example has no `{}` that could be unset", shorten(path)));
        }
    }
    for key in ["name", "severity"] {
        if let Some((key, value)) = fields.get_key_value(key) {
            merged.insert(key.clone(), value.clone());
        }
    }
    Some(Spanned::new(node.span(), DeValue::Table(merged)))
}

fn merge<'i>(base: &mut DeTable<'i>, change: &DeTable<'i>) {
    for (key, value) in change {
        if let (Some(DeValue::Table(old)), DeValue::Table(new)) =
            (base.get_mut(&**key.get_ref()).map(Spanned::get_mut), value.get_ref())
        {
            merge(old, new);
        } else {
            base.insert(key.clone(), value.clone());
        }
    }
}

fn unset(table: &mut DeTable<'_>, path: &str) -> bool {
    match path.split_once('.') {
        None => table.remove(path).is_some(),
        Some((first, rest)) => match table.get_mut(first).map(Spanned::get_mut) {
            Some(DeValue::Table(inner)) => unset(inner, rest),
            _ => false,
        },
    }
}

fn check_keys(reader: &mut Reader, table: &DeTable<'_>, place: &str, known: &[&str]) {
    for (key, _) in table.iter().filter(|(key, _)| !known.contains(&&**key.get_ref())) {
        reader.unknown_key(key.span(), key.get_ref(), place, known.iter().copied());
    }
}

/// The processes that hold a socket of an example.
#[derive(Clone, Default)]
struct Holders {
    list: Vec<(ProcessId, How)>,
    /// The example says that there is none; else an empty list means that nobody can tell.
    nobody: bool,
}

struct Builder<'r> {
    reader: &'r mut Reader,
    snapshot: Snapshot,
}

impl<'r> Builder<'r> {
    fn new(reader: &'r mut Reader) -> Self {
        Self { reader, snapshot: Snapshot::default() }
    }

    fn example(mut self, table: &DeTable<'_>, fires: bool, span: Range<usize>) -> Option<Example> {
        for key in ["name", "socket"] {
            if !table.contains_key(key) {
                self.reader.say(span.clone(), format!("this example has no `{key}`"));
            }
        }
        let name = self.reader.text(table.get("name")?, "name")?.to_owned();
        let severity = table.get("severity").and_then(|node| {
            let word = self.reader.text(node, "severity")?;
            let severity = Severity::from_name(word);
            if severity.is_none() {
                self.reader.unknown_word(node.span(), word, "severity", SEVERITIES.iter().copied());
            } else if !fires {
                self.reader.say(node.span(), "a quiet example has no severity");
            }
            severity
        });
        self.host(table.get("host"));
        let (node, holders) = (table.get("socket")?, self.holders(table.get("process"))?);
        let fields = self.reader.table(node, "socket")?;
        check_keys(self.reader, fields, "the socket of an example", SOCKET);
        self.socket(fields, node.span(), &holders)?;
        for each in table.get("others").map_or_else(Vec::new, |node| self.some(node, "others")) {
            self.other(each, &holders)?;
        }
        self.streams();
        Some(Example { name, fires, severity, span, snapshot: self.snapshot })
    }

    /// Elements of a list that may be empty.
    fn some<'n, 'i>(&mut self, node: &'n Node<'i>, what: &str) -> Vec<&'n Node<'i>> {
        let empty = node.get_ref().as_array().is_some_and(|array| array.is_empty());
        if empty { Vec::new() } else { self.reader.list(node, what) }
    }

    fn other(&mut self, node: &Node<'_>, holders: &Holders) -> Option<()> {
        let fields = self.reader.table(node, "others")?;
        let known: Vec<&str> = SOCKET.iter().copied().chain(["process", "peer"]).collect();
        check_keys(self.reader, fields, "a socket of an example", &known);
        let own = match fields.get("process") {
            None => holders.clone(),
            Some(node) => self.holders(Some(node))?,
        };
        let other = self.socket(fields, node.span(), &own)?;
        if let Some(peer) = fields.get("peer")
            && self.reader.flag(peer, "peer")?
        {
            self.snapshot.sockets[0].peer = Some(other);
            self.snapshot.sockets[other.0 as usize].peer = Some(JUDGED);
        }
        Some(())
    }

    fn host(&mut self, node: Option<&Node<'_>>) {
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

    fn interfaces(&mut self, node: &Node<'_>) -> Vec<Interface> {
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

    /// The processes that hold a socket. Nothing given: nobody can tell.
    fn holders(&mut self, node: Option<&Node<'_>>) -> Option<Holders> {
        let Some(node) = node else { return Some(Holders::default()) };
        if node.get_ref().as_str() == Some("none") {
            return Some(Holders { list: Vec::new(), nobody: true });
        }
        let mut holders = Holders::default();
        for each in self.reader.list(node, "process") {
            let fields = self.reader.table(each, "process")?;
            check_keys(self.reader, fields, "the process of an example", PROCESS);
            holders.list.push(self.process(fields)?);
        }
        Some(holders)
    }

    fn process(&mut self, fields: &DeTable<'_>) -> Option<(ProcessId, How)> {
        // A program without a path stands where Debian puts programs; a name follows from it.
        let exe =
            self.text(fields, "exe").or_else(|| Some(format!("/usr/bin/{}", self.text(fields, "program")?)));
        let last = exe.as_deref().and_then(|exe| exe.rsplit('/').next()).filter(|last| *last != "none");
        let name = self
            .text(fields, "name")
            .or_else(|| last.map(str::to_owned))
            .unwrap_or_else(|| "program".to_owned());
        let count = u32::try_from(self.snapshot.processes.len()).ok()?;
        let pid = self.number(fields, "pid", u32::MAX.into()).and_then(|pid| u32::try_from(pid).ok());
        let name = &name.as_bytes()[..name.len().min(15)];
        let mut process = Process::new(pid.unwrap_or(1000 + count), 100, Text::from(name), 1);
        process.exe = match exe.as_deref() {
            None => Fact::Unknown,
            Some("none") => Fact::Absent,
            Some(exe) => Fact::Known(exe.into()),
        };
        let states: Vec<_> = ExeState::ALL.iter().map(|state| (state.name(), *state)).collect();
        process.exe_state = self.choice(fields, "exe_state", &states).unwrap_or(ExeState::Unknown);
        process.cmdline = self.texts(fields, "cmdline");
        self.script(fields, &mut process);
        process.cwd = self.fact(fields, "cwd");
        process.user = self.fact(fields, "user");
        let id = |number: Option<u64>| {
            number.and_then(|id| u32::try_from(id).ok()).map_or(Fact::Unknown, Fact::Known)
        };
        process.uid = id(self.number(fields, "uid", u32::MAX.into()));
        process.euid = id(self.number(fields, "euid", u32::MAX.into()));
        process.capabilities = self.capabilities(fields);
        process.unit = self.fact(fields, "unit");
        process.package = self.fact(fields, "package");
        process.container = self.container(fields);
        process.parents = match self.texts(fields, "parents") {
            Fact::Known(names) => {
                Fact::Known(names.into_iter().zip(2..).map(|(name, pid)| Ancestor { pid, name }).collect())
            }
            Fact::Absent => Fact::Absent,
            Fact::Unknown => Fact::Unknown,
        };
        for (slot, key) in process.stdio.0.iter_mut().zip(["stdin", "stdout", "stderr"]) {
            *slot = self.fact(fields, key);
        }
        let hows: Vec<_> = How::ALL.iter().map(|how| (how.name(), *how)).collect();
        let how = self.choice(fields, "how", &hows).unwrap_or(How::Fd);
        self.snapshot.processes.push(process);
        Some((ProcessId(count), how))
    }

    /// What an interpreter runs is told by its command line.
    fn script(&mut self, fields: &DeTable<'_>, process: &mut Process) {
        let (Some(node), Some(script)) = (fields.get("script"), self.text(fields, "script")) else { return };
        if script != "none" && process.cmdline.is_unknown() {
            process.cmdline = Fact::Known(vec![process.name.clone(), script.as_str().into()]);
        }
        // A program that is no interpreter has no script, whatever the example was made from.
        if let Value::Text(found) = script_of(process)
            && found != script.as_bytes()
        {
            let help =
                format!("the command line runs `{}`: change both", shorten(&String::from_utf8_lossy(found)));
            self.reader.advise(node.span(), "the command line of this process runs another script", help);
        }
    }

    /// `this-socket` and `socket`, now that the sockets have inodes.
    fn streams(&mut self) {
        let inode = self.snapshot.sockets.first().map_or(0, |socket| socket.inode);
        for process in &mut self.snapshot.processes {
            for slot in &mut process.stdio.0 {
                let link = match slot.known().and_then(Text::as_str) {
                    Some("this-socket") => format!("socket:[{inode}]"),
                    Some("socket") => "socket:[999999]".to_owned(),
                    Some(_) | None => continue,
                };
                *slot = Fact::Known(link.into());
            }
        }
    }

    fn container(&mut self, fields: &DeTable<'_>) -> Fact<Container> {
        let Some(node) = fields.get("container") else { return Fact::Unknown };
        if node.get_ref().as_str() == Some("none") {
            return Fact::Absent;
        }
        let Some(inner) = self.reader.table(node, "container") else { return Fact::Unknown };
        check_keys(self.reader, inner, "a container", &["runtime", "id", "name", "image"]);
        Fact::Known(Container {
            runtime: self.text(inner, "runtime").unwrap_or_else(|| "docker".to_owned()),
            id: self.text(inner, "id").unwrap_or_else(|| "0123456789abcdef".to_owned()).into(),
            name: self.text(inner, "name").map(Text::from),
            image: self.text(inner, "image").map(Text::from),
        })
    }

    fn capabilities(&mut self, fields: &DeTable<'_>) -> Fact<u64> {
        match self.texts(fields, "capabilities") {
            Fact::Known(names) => {
                let mut bits = 0;
                for name in names.iter().filter_map(Text::as_str) {
                    match CAPABILITIES.iter().position(|known| *known == name) {
                        Some(bit) => bits |= 1 << bit,
                        None => {
                            let span = fields.get("capabilities").map_or(0..0, Spanned::span);
                            self.reader.unknown_word(span, name, "capability", CAPABILITIES.iter().copied());
                        }
                    }
                }
                Fact::Known(bits)
            }
            Fact::Absent => Fact::Known(0),
            Fact::Unknown => Fact::Unknown,
        }
    }

    fn socket(&mut self, fields: &DeTable<'_>, span: Range<usize>, holders: &Holders) -> Option<SocketIndex> {
        let protocol = match fields.get("protocol") {
            None => {
                self.reader.say(span, "a socket of an example needs a `protocol`");
                return None;
            }
            Some(node) => {
                let text = self.reader.text(node, "protocol")?;
                let protocol = Protocol::from_name(text);
                if protocol.is_none() {
                    let known = super::schema::PROTOCOLS.iter().copied();
                    self.reader.unknown_word(node.span(), text, "protocol", known);
                }
                protocol?
            }
        };
        let states: Vec<_> = State::ALL.iter().map(|state| (state.name(), *state)).collect();
        let roles: Vec<_> = Role::ALL.iter().map(|role| (role.name(), *role)).collect();
        let state = self.choice(fields, "state", &states);
        let role = self.choice(fields, "role", &roles);
        let (state, role) = both(protocol, state, role);
        let local = self.endpoint(fields, "local", protocol)?;
        let index = u32::try_from(self.snapshot.sockets.len()).ok()?;
        let holders_start = u32::try_from(self.snapshot.holders.len()).ok()?;
        let held = holders.list.iter().map(|(process, how)| Holder { process: *process, fd: 3, how: *how });
        self.snapshot.holders.extend(held);
        let number = 1000 + u64::from(index);
        let socket = Socket {
            kind: self.kind(fields, protocol),
            state,
            role,
            protocol_number: self
                .number(fields, "protocol_number", u32::MAX.into())
                .and_then(|n| u32::try_from(n).ok()),
            remote: self.endpoint(fields, "remote", protocol)?,
            v6only: self.flag(fields, "v6only"),
            interface: self.bound(fields),
            groups: match self.texts(fields, "groups") {
                Fact::Known(groups) => groups.into(),
                Fact::Absent | Fact::Unknown => Box::default(),
            },
            inode: if self.flag(fields, "inode").unwrap_or(true) { number } else { 0 },
            cookie: number,
            uid: self.number(fields, "uid", u32::MAX.into()).and_then(|id| u32::try_from(id).ok()),
            user: self.text(fields, "user").and_then(|name| {
                self.snapshot.users.push(name.into());
                u32::try_from(self.snapshot.users.len() - 1).ok()
            }),
            holders: Span { start: holders_start, len: u32::try_from(holders.list.len()).ok()? },
            owner_gap: self.owner_gap(fields, holders),
            access: self.access(fields),
            exposure: self.exposure(fields, role),
            local,
            filtered: self.flag(fields, "filtered"),
            ..Socket::blank(protocol, self.netns(fields))
        };
        self.ephemeral(fields, &socket);
        self.snapshot.sockets.push(socket);
        Some(SocketIndex(index))
    }

    /// Whether a port is of the automatic range: of the host's, else of Linux's own, else of one that
    /// holds this port.
    fn ephemeral(&mut self, fields: &DeTable<'_>, socket: &Socket) {
        let Some(node) = fields.get("ephemeral") else { return };
        let Some(wanted) = self.reader.flag(node, "ephemeral") else { return };
        let own = &mut self.snapshot.namespaces[socket.netns.0 as usize];
        let port = facts::port(&socket.local).and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
        let usual = if wanted && port < 32768 { (port, port) } else { (32768, 60999) };
        let (first, last) = *own.sysctls.ephemeral.get_or_insert(usual);
        let inside = port != 0 && (first..=last).contains(&port);
        if inside != wanted {
            let message = format!(
                "this port is {}of the automatic range {first}-{last}",
                if inside { "" } else { "not " }
            );
            self.reader.advise(node.span(), message, "choose another port, or give `host.ephemeral`");
        }
    }

    fn kind(&mut self, fields: &DeTable<'_>, protocol: Protocol) -> SocketType {
        let kinds: Vec<_> = SocketType::ALL.iter().map(|kind| (kind.name(), *kind)).collect();
        self.choice(fields, "type", &kinds).unwrap_or(match protocol {
            Protocol::Tcp | Protocol::Mptcp | Protocol::Smc => SocketType::Stream,
            Protocol::Udp | Protocol::UdpLite | Protocol::Icmp => SocketType::Dgram,
            Protocol::Raw => SocketType::Raw,
            Protocol::Sctp
            | Protocol::Dccp
            | Protocol::Packet
            | Protocol::Unix
            | Protocol::Netlink
            | Protocol::Vsock
            | Protocol::Xdp
            | Protocol::Alg
            | Protocol::Key
            | Protocol::Tipc
            | Protocol::Can
            | Protocol::Bluetooth
            | Protocol::Other(_) => SocketType::Unknown,
        })
    }

    fn owner_gap(&mut self, fields: &DeTable<'_>, holders: &Holders) -> Option<OwnerGap> {
        let gaps: Vec<_> = OwnerGap::ALL.iter().map(|gap| (gap.name(), *gap)).collect();
        let given = match fields.get("owner_gap") {
            Some(node) if node.get_ref().as_str() == Some("none") => return None,
            Some(node) => self.one_of(node, "owner_gap", &gaps),
            None => None,
        };
        let owned = self.flag(fields, "owned");
        let contradicts = match owned {
            Some(true) => holders.nobody,
            Some(false) => !holders.list.is_empty(),
            None => false,
        };
        if let (Some(node), true) = (fields.get("owned"), contradicts) {
            self.reader.say(node.span(), "`owned` contradicts `process` of this example");
        }
        match (given, holders.list.is_empty()) {
            (None, true) if holders.nobody || owned == Some(false) => Some(OwnerGap::Kernel),
            (None, true) => Some(OwnerGap::Hidden),
            (given, _) => given,
        }
    }

    fn netns(&mut self, fields: &DeTable<'_>) -> NamespaceId {
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
    fn bound(&mut self, fields: &DeTable<'_>) -> u32 {
        let Some(name) = self.text(fields, "interface").filter(|name| name != "none") else { return 0 };
        let Fact::Known(interfaces) = &mut self.snapshot.namespaces[0].interfaces else { return 0 };
        if let Some(known) = interfaces.iter().find(|each| each.name.as_bytes() == name.as_bytes()) {
            return known.index;
        }
        let index = u32::try_from(interfaces.len() + 1).unwrap_or(u32::MAX);
        interfaces.push(interface(index, &name, InterfaceKind::Ethernet, &[]));
        index
    }

    fn exposure(&mut self, fields: &DeTable<'_>, role: Role) -> Option<Box<Exposure>> {
        let reaches: Vec<_> = Reach::ALL.iter().map(|reach| (reach.name(), *reach)).collect();
        let reach = self.choice(fields, "reach", &reaches);
        let certain = self.flag(fields, "certain");
        let receives = matches!(role, Role::Listener | Role::Receiver | Role::Published);
        let exposure = match reach {
            Some(Reach::Unknown) => Exposure { reach: Reach::Unknown, certain: false, paths: Vec::new() },
            Some(reach) => Exposure { reach, certain: certain.unwrap_or(true), paths: Vec::new() },
            None if receives => Exposure { reach: Reach::Unknown, certain: false, paths: Vec::new() },
            None => return None,
        };
        Some(Box::new(exposure))
    }

    fn access(&mut self, fields: &DeTable<'_>) -> Option<Box<Access>> {
        let node = fields.get("access")?;
        let inner = self.reader.table(node, "access")?;
        check_keys(self.reader, inner, "`access`", &["mode", "users", "uid", "gid"]);
        let users = match self.texts(inner, "users") {
            Fact::Known(names) if names.iter().any(|name| name.as_bytes() == b"everyone") => Users::Everyone,
            Fact::Known(names) => Users::Named(names),
            Fact::Absent => Users::Named(Vec::new()),
            Fact::Unknown => Users::Unknown,
        };
        let id = |number: Option<u64>| number.and_then(|id| u32::try_from(id).ok());
        Some(Box::new(Access {
            mode: id(self.number(inner, "mode", 0o7777)),
            uid: id(self.number(inner, "uid", u32::MAX.into())),
            gid: id(self.number(inner, "gid", u32::MAX.into())),
            users,
        }))
    }

    /// `None` after a problem.
    fn endpoint(&mut self, fields: &DeTable<'_>, key: &str, protocol: Protocol) -> Option<Endpoint> {
        let Some(node) = fields.get(key) else { return Some(Endpoint::None) };
        let text = self.reader.text(node, key)?;
        if text == "none" {
            return Some(Endpoint::None);
        }
        let found = if protocol == Protocol::Unix {
            Some(match text.strip_prefix('@') {
                Some(name) => Endpoint::UnixAbstract(name.into()),
                None => Endpoint::UnixPath(text.into()),
            })
        } else if protocol == Protocol::Vsock {
            text.split_once(':').and_then(|(cid, port)| {
                Some(Endpoint::Vsock { cid: cid.parse().ok()?, port: port.parse().ok()? })
            })
        } else if protocol.is_ip() {
            match text.parse::<SocketAddr>() {
                Ok(address) => Some(Endpoint::Inet(address.ip().to_canonical(), address.port())),
                Err(_) => {
                    text.parse::<IpAddr>().ok().map(|address| Endpoint::Inet(address.to_canonical(), 0))
                }
            }
        } else {
            None
        };
        if found.is_none() {
            let help = if protocol.is_ip() {
                "write \"0.0.0.0:22\" or \"[::]:22\""
            } else {
                "only IP, UNIX and vsock sockets have one here; a packet socket has an `interface`"
            };
            let message = format!("`{}` is no `{key}` of a {} socket", shorten(text), protocol.name());
            self.reader.advise(node.span(), message, help);
        }
        found
    }

    fn text(&mut self, fields: &DeTable<'_>, key: &str) -> Option<String> {
        fields.get(key).and_then(|node| self.reader.text(node, key)).map(str::to_owned)
    }

    fn fact(&mut self, fields: &DeTable<'_>, key: &str) -> Fact<Text> {
        match self.text(fields, key).as_deref() {
            None => Fact::Unknown,
            Some("none") => Fact::Absent,
            Some(text) => Fact::Known(text.into()),
        }
    }

    fn texts(&mut self, fields: &DeTable<'_>, key: &str) -> Fact<Vec<Text>> {
        let Some(node) = fields.get(key) else { return Fact::Unknown };
        if node.get_ref().as_str() == Some("none") {
            return Fact::Absent;
        }
        let nodes = self.reader.list(node, key);
        Fact::Known(
            nodes.into_iter().filter_map(|each| self.reader.text(each, key).map(Text::from)).collect(),
        )
    }

    fn flag(&mut self, fields: &DeTable<'_>, key: &str) -> Option<bool> {
        fields.get(key).and_then(|node| self.reader.flag(node, key))
    }

    fn number(&mut self, fields: &DeTable<'_>, key: &str, most: u64) -> Option<u64> {
        let node = fields.get(key)?;
        let number =
            integer(node).and_then(|number| u64::try_from(number).ok()).filter(|number| *number <= most);
        if number.is_none() {
            self.reader.say(node.span(), format!("`{key}` is a number from 0 to {most}"));
        }
        number
    }

    fn choice<T: Copy>(&mut self, fields: &DeTable<'_>, key: &str, known: &[(&str, T)]) -> Option<T> {
        fields.get(key).and_then(|node| self.one_of(node, key, known))
    }

    fn one_of<T: Copy>(&mut self, node: &Node<'_>, key: &str, known: &[(&str, T)]) -> Option<T> {
        let text = self.reader.text(node, key)?;
        let found = known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if found.is_none() {
            self.reader.unknown_word(
                node.span(),
                text,
                &format!("value of `{key}`"),
                known.iter().map(|(name, _)| *name),
            );
        }
        found
    }
}

/// State and role, each of which follows from the other where only one is given.
fn both(protocol: Protocol, state: Option<State>, role: Option<Role>) -> (State, Role) {
    let of_role = |role: Role| match role {
        Role::Listener => State::Listen,
        Role::Inbound | Role::Outbound | Role::Peer => State::Established,
        Role::Receiver => State::Unconnected,
        Role::Idle => State::Unconnected,
        Role::Published => State::Published,
    };
    let of_state = |state: State| match state {
        State::Listen => Role::Listener,
        State::Published => Role::Published,
        State::Unconnected | State::Bound if matches!(protocol, Protocol::Tcp | Protocol::Mptcp) => {
            Role::Idle
        }
        State::Unconnected | State::Bound => Role::Receiver,
        State::Established
        | State::SynSent
        | State::SynRecv
        | State::FinWait1
        | State::FinWait2
        | State::TimeWait
        | State::Closed
        | State::CloseWait
        | State::LastAck
        | State::Closing => Role::Peer,
        State::Unknown => Role::Idle,
    };
    match (state, role) {
        (Some(state), Some(role)) => (state, role),
        (Some(state), None) => (state, of_state(state)),
        (None, Some(role)) => (of_role(role), role),
        (None, None) if matches!(protocol, Protocol::Packet | Protocol::Raw | Protocol::Icmp) => {
            (State::Unconnected, Role::Receiver)
        }
        (None, None) => (State::Unknown, Role::Idle),
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
        settings: crate::model::LinkSettings::default(),
    }
}
