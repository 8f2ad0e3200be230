//! One socket with its owners and who can reach it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::ser::{SerializeMap as _, SerializeSeq as _, SerializeStruct as _};
use serde::{Serialize, Serializer};

use crate::model::{
    Access, Activation, AddrRange, Ancestor, Container, Endpoint, Exposure, Hex, Holder, How, Namespace,
    Observation, Owner, Path, Protocol, Published, PublishedTarget, Snapshot, Socket, SocketIndex, State,
    Text, Users,
};

/// A string where the bytes are UTF-8; else with U+FFFD where they are not, and the object that
/// holds it has a `raw` beside it.
pub(super) struct Lossy<'t>(pub(super) &'t Text);

impl Serialize for Lossy<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_str() {
            Some(text) => serializer.serialize_str(text),
            None => serializer.serialize_str(&self.0.lossy()),
        }
    }
}

/// Whatever has a `Display`, as a string.
pub(super) struct Shown<T>(pub(super) T);

impl<T: fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A list made from a slice, element by element.
pub(super) struct Each<'s, T, F>(pub(super) &'s [T], pub(super) F);

impl<'s, T, U: Serialize, F: Fn(&'s T) -> U> Serialize for Each<'s, T, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(&self.1))
    }
}

fn texts(list: &[Text]) -> impl Serialize {
    Each(list, Lossy)
}

/// Bytes of the fields that are not UTF-8, as hex; nothing where all are.
pub(super) struct Raw<'t>(Vec<(Cow<'static, str>, &'t Text)>);

impl<'t> Raw<'t> {
    pub(super) fn of(fields: impl IntoIterator<Item = (&'static str, Option<&'t Text>)>) -> Self {
        let bad = |text: &&Text| text.as_str().is_none();
        let found =
            fields.into_iter().filter_map(|(name, text)| Some((Cow::Borrowed(name), text.filter(bad)?)));
        Self(found.collect())
    }

    fn list(&mut self, name: &str, list: &'t [Text]) {
        let bad = list.iter().enumerate().filter(|(_, text)| text.as_str().is_none());
        self.0.extend(bad.map(|(at, text)| (Cow::Owned(format!("{name}.{at}")), text)));
    }

    pub(super) fn write<S: serde::ser::SerializeStruct>(&self, object: &mut S) -> Result<(), S::Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        object.serialize_field("raw", self)
    }
}

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, text)| (name, Shown(Hex(text.as_bytes())))))
    }
}

/// Names of sockets that hold for their lifetime: namespace and cookie; without one namespace and
/// inode; without either namespace, protocol and addresses, numbered where several are alike.
pub(crate) struct Ids<'s> {
    snapshot: &'s Snapshot,
    /// The number of a socket among those that share its addresses, from the second on.
    repeated: BTreeMap<SocketIndex, u32>,
}

impl<'s> Ids<'s> {
    pub(crate) fn new(snapshot: &'s Snapshot) -> Self {
        let mut alike: BTreeMap<_, u32> = BTreeMap::new();
        let mut repeated = BTreeMap::new();
        for each in snapshot.observations().filter(|each| each.socket.cookie == 0 && each.socket.inode == 0) {
            let socket = each.socket;
            let key = (socket.netns, socket.protocol, &socket.local, &socket.remote);
            let count = alike.entry(key).or_default();
            *count += 1;
            if *count > 1 {
                repeated.insert(each.index, *count);
            }
        }
        Self { snapshot, repeated }
    }

    pub(crate) fn of(&self, index: SocketIndex) -> Id<'_> {
        let socket = &self.snapshot.sockets[index.0 as usize];
        let netns = self.snapshot.namespace(socket.netns).inode;
        Id { netns, socket, number: self.repeated.get(&index).copied() }
    }
}

pub(crate) struct Id<'s> {
    netns: u64,
    socket: &'s Socket,
    number: Option<u32>,
}

impl fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = self.socket;
        match (socket.cookie, socket.inode) {
            (0, 0) => {
                write!(f, "{}/{}/", self.netns, socket.protocol.name())?;
                address(f, &socket.local)?;
                f.write_str("/")?;
                address(f, &socket.remote)?;
                self.number.map_or(Ok(()), |number| write!(f, "/{number}"))
            }
            (0, inode) => write!(f, "{}/inode/{inode}", self.netns),
            (cookie, _) => write!(f, "{}/cookie/{cookie}", self.netns),
        }
    }
}

fn address(f: &mut fmt::Formatter<'_>, end: &Endpoint) -> fmt::Result {
    match end {
        Endpoint::None => f.write_str("*"),
        Endpoint::Inet(address, port) => write!(f, "{}", std::net::SocketAddr::new(*address, *port)),
        Endpoint::UnixPath(path) => write!(f, "{path}"),
        Endpoint::UnixAbstract(name) => write!(f, "@{name}"),
        Endpoint::Vsock { cid, port } => write!(f, "{cid}:{port}"),
        Endpoint::Interface(index) => write!(f, "if{index}"),
    }
}

/// A socket as the contract writes it.
pub(crate) struct SocketV1<'s> {
    pub(crate) ids: &'s Ids<'s>,
    pub(crate) each: Observation<'s>,
}

impl Serialize for SocketV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (each, socket) = (self.each, self.each.socket);
        let interface = each.interface().map(|interface| &interface.name);
        let mut object = serializer.serialize_struct("socket", 27)?;
        object.serialize_field("id", &Shown(self.ids.of(each.index)))?;
        object.serialize_field("protocol", &socket.protocol.name())?;
        object.serialize_field("protocol_number", &socket.protocol_number)?;
        object.serialize_field("type", socket.kind.name())?;
        object.serialize_field("state", socket.state.name())?;
        object.serialize_field("role", socket.role.name())?;
        object.serialize_field("netns", &NetnsV1(each.namespace()))?;
        object.serialize_field("local", &EndpointV1 { each, end: &socket.local })?;
        object.serialize_field("remote", &EndpointV1 { each, end: &socket.remote })?;
        object.serialize_field("peer", &socket.peer.map(|peer| Shown(self.ids.of(peer))))?;
        object.serialize_field("v6only", &socket.v6only)?;
        object.serialize_field("interface", &interface.map(Lossy))?;
        object.serialize_field("groups", &texts(&socket.groups))?;
        object.serialize_field("access", &socket.access.as_deref().map(AccessV1))?;
        object.serialize_field("inode", &some(socket.inode))?;
        object.serialize_field("cookie", &some(socket.cookie))?;
        object.serialize_field("uid", &socket.uid)?;
        object.serialize_field("user", &each.user().map(Lossy))?;
        object.serialize_field("owners", &OwnersV1(each))?;
        object.serialize_field("owner_gap", &socket.owner_gap.map(crate::model::OwnerGap::name))?;
        object.serialize_field("activation", &socket.activation.as_deref().map(ActivationV1))?;
        object.serialize_field("recv_q", &socket.queues.0)?;
        object.serialize_field("send_q", &socket.queues.1)?;
        object.serialize_field("filtered", &socket.filtered)?;
        object.serialize_field(
            "published",
            &socket.published.as_deref().map(|published| PublishedV1(self, published)),
        )?;
        let exposure = socket.exposure.as_deref();
        object.serialize_field("exposure", &exposure.map(|exposure| ExposureV1(each.snapshot, exposure)))?;
        let mut raw = Raw::of([("interface", interface), ("user", each.user())]);
        raw.list("groups", &socket.groups);
        raw.write(&mut object)?;
        object.end()
    }
}

/// The kernel's 0 for "none".
fn some(number: u64) -> Option<u64> {
    (number != 0).then_some(number)
}

struct NetnsV1<'s>(&'s Namespace);

impl Serialize for NetnsV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("netns", 4)?;
        object.serialize_field("inode", &self.0.inode)?;
        object.serialize_field("cookie", &self.0.cookie)?;
        object.serialize_field("name", &self.0.name.as_ref().map(Lossy))?;
        Raw::of([("name", self.0.name.as_ref())]).write(&mut object)?;
        object.end()
    }
}

struct EndpointV1<'s> {
    each: Observation<'s>,
    end: &'s Endpoint,
}

impl Serialize for EndpointV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.end {
            Endpoint::None => serializer.serialize_none(),
            Endpoint::Inet(address, port) => {
                // A raw socket has no port; the kernel's field holds its protocol. A published port
                // that stands for many is none of them.
                let socket = self.each.socket;
                let many = socket.state == State::Published && *port == 0;
                let port = (socket.protocol != Protocol::Raw && !many).then_some(*port);
                inet(serializer, *address, port)
            }
            Endpoint::UnixPath(path) => unix(serializer, path, false),
            Endpoint::UnixAbstract(name) => unix(serializer, name, true),
            Endpoint::Vsock { cid, port } => vsock(serializer, *cid, *port),
            Endpoint::Interface(index) => {
                let known = self.each.namespace().interfaces.known();
                let name =
                    known.and_then(|all| all.iter().find(|each| each.index == *index)).map(|each| &each.name);
                let mut object = serializer.serialize_struct("interface", 2)?;
                object.serialize_field("interface", &name.map(Lossy))?;
                Raw::of([("interface", name)]).write(&mut object)?;
                object.end()
            }
        }
    }
}

pub(super) fn vsock<S: Serializer>(serializer: S, cid: u32, port: u32) -> Result<S::Ok, S::Error> {
    let mut object = serializer.serialize_struct("vsock", 2)?;
    object.serialize_field("cid", &cid)?;
    object.serialize_field("port", &port)?;
    object.end()
}

pub(super) fn inet<S: Serializer>(
    serializer: S,
    address: IpAddr,
    port: Option<u16>,
) -> Result<S::Ok, S::Error> {
    let mut object = serializer.serialize_struct("inet", 2)?;
    object.serialize_field("address", &address)?;
    object.serialize_field("port", &port)?;
    object.end()
}

pub(super) fn unix<S: Serializer>(serializer: S, name: &Text, is_abstract: bool) -> Result<S::Ok, S::Error> {
    let mut object = serializer.serialize_struct("unix", 3)?;
    object.serialize_field("path", &Lossy(name))?;
    object.serialize_field("abstract", &is_abstract)?;
    Raw::of([("path", Some(name))]).write(&mut object)?;
    object.end()
}

struct PublishedV1<'s>(&'s SocketV1<'s>, &'s Published);

impl Serialize for PublishedV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(of, published) = self;
        let mut object = serializer.serialize_struct("published", 1)?;
        object.serialize_field("targets", &Each(&published.targets, |target| TargetV1(of, target)))?;
        object.end()
    }
}

struct TargetV1<'s>(&'s SocketV1<'s>, &'s PublishedTarget);

impl Serialize for TargetV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(SocketV1 { ids, each }, target) = self;
        let mut object = serializer.serialize_struct("target", 4)?;
        object.serialize_field("netns", &target.netns.map(|netns| each.snapshot.namespace(netns).inode))?;
        match target.address {
            AddrRange { first, last } if first == last => object.serialize_field("address", &first)?,
            range => object.serialize_field("address", &Shown(range))?,
        }
        object.serialize_field("port", &PortV1(&target.ports))?;
        object.serialize_field("socket", &target.socket.map(|socket| Shown(ids.of(socket))))?;
        object.end()
    }
}

struct AccessV1<'s>(&'s Access);

impl Serialize for AccessV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("access", 5)?;
        object.serialize_field("mode", &self.0.mode)?;
        object.serialize_field("uid", &self.0.uid)?;
        object.serialize_field("gid", &self.0.gid)?;
        let mut raw = Raw(Vec::new());
        match &self.0.users {
            Users::Everyone => object.serialize_field("users", "everyone")?,
            Users::Named(names) => {
                object.serialize_field("users", &texts(names))?;
                raw.list("users", names);
            }
            Users::Unknown => object.serialize_field("users", &())?,
        }
        raw.write(&mut object)?;
        object.end()
    }
}

struct ActivationV1<'s>(&'s Activation);

impl Serialize for ActivationV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("activation", 3)?;
        object.serialize_field("units", &texts(&self.0.units))?;
        object.serialize_field("services", &texts(&self.0.services))?;
        let mut raw = Raw(Vec::new());
        raw.list("units", &self.0.units);
        raw.list("services", &self.0.services);
        raw.write(&mut object)?;
        object.end()
    }
}

struct OwnersV1<'s>(Observation<'s>);

impl Serialize for OwnersV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for owner in self.0.owners() {
            list.serialize_element(&OwnerV1(owner))?;
        }
        list.end()
    }
}

struct OwnerV1<'s>(Owner<'s>);

impl Serialize for OwnerV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let process = self.0.process;
        let cmdline = process.cmdline.known().map_or(&[][..], Vec::as_slice);
        let parents = process.parents.known().map_or(&[][..], Vec::as_slice);
        let started = process.start_time.known().and_then(|at| time(*at));
        let mut object = serializer.serialize_struct("owner", 15)?;
        object.serialize_field("pid", &process.pid)?;
        object.serialize_field("start_ticks", &process.start_ticks)?;
        object.serialize_field("start_time", &started.map(Shown))?;
        object.serialize_field("name", &Lossy(&process.name))?;
        object.serialize_field("exe", &process.exe.known().map(Lossy))?;
        object.serialize_field("exe_state", process.exe_state.name())?;
        object.serialize_field("cmdline", &texts(cmdline))?;
        object.serialize_field("user", &process.user.known().map(Lossy))?;
        object.serialize_field("unit", &process.unit.known().map(Lossy))?;
        object.serialize_field("container", &process.container.known().map(ContainerV1))?;
        object.serialize_field("package", &process.package.known().map(Lossy))?;
        object.serialize_field("parents", &Each(parents, ParentV1))?;
        object.serialize_field("fds", &Descriptors(self.0.holders))?;
        object.serialize_field("how", self.how().name())?;
        let mut raw = Raw::of([
            ("name", Some(&process.name)),
            ("exe", process.exe.known()),
            ("user", process.user.known()),
            ("unit", process.unit.known()),
            ("package", process.package.known()),
        ]);
        raw.list("cmdline", cmdline);
        raw.write(&mut object)?;
        object.end()
    }
}

/// Their numbers; mapped memory has none.
struct Descriptors<'s>(&'s [Holder]);

impl Serialize for Descriptors<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|holder| holder.fd).filter(|fd| *fd >= 0))
    }
}

impl OwnerV1<'_> {
    /// A file table is the plainest way to hold a socket; the others are said where it is not one.
    fn how(&self) -> How {
        let holders = self.0.holders;
        holders.iter().map(|holder| holder.how).find(|how| *how == How::Fd).unwrap_or(holders[0].how)
    }
}

struct ContainerV1<'s>(&'s Container);

impl Serialize for ContainerV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Container { runtime, id, name, image } = self.0;
        let mut object = serializer.serialize_struct("container", 5)?;
        object.serialize_field("runtime", runtime)?;
        object.serialize_field("id", &Lossy(id))?;
        object.serialize_field("name", &name.as_ref().map(Lossy))?;
        object.serialize_field("image", &image.as_ref().map(Lossy))?;
        Raw::of([("id", Some(id)), ("name", name.as_ref()), ("image", image.as_ref())]).write(&mut object)?;
        object.end()
    }
}

struct ParentV1<'s>(&'s Ancestor);

impl Serialize for ParentV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("parent", 3)?;
        object.serialize_field("pid", &self.0.pid)?;
        object.serialize_field("name", &Lossy(&self.0.name))?;
        Raw::of([("name", Some(&self.0.name))]).write(&mut object)?;
        object.end()
    }
}

struct ExposureV1<'s>(&'s Snapshot, &'s Exposure);

impl Serialize for ExposureV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(snapshot, exposure) = self;
        let mut object = serializer.serialize_struct("exposure", 3)?;
        object.serialize_field("reach", exposure.reach.name())?;
        object.serialize_field("certain", &exposure.certain)?;
        object.serialize_field("paths", &Each(&exposure.paths, |path| PathV1(snapshot, path)))?;
        object.end()
    }
}

pub(super) struct PathV1<'s>(pub(super) &'s Snapshot, pub(super) &'s Path);

impl Serialize for PathV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(snapshot, path) = self;
        let mut object = serializer.serialize_struct("path", 7)?;
        object.serialize_field(
            "entry",
            &EntryV1(snapshot.namespace(path.entry.netns).inode, &path.entry.interfaces),
        )?;
        object.serialize_field("destinations", &Each(&path.destinations, Shown))?;
        object.serialize_field("ports", &path.ports.as_deref().map(|ports| Each(ports, PortV1)))?;
        object.serialize_field("sources", &Each(&path.sources, Shown))?;
        object.serialize_field("verdict", path.verdict.name())?;
        object.serialize_field("because", &path.because)?;
        object.serialize_field("via", &[(); 0])?;
        object.end()
    }
}

pub(super) struct EntryV1<'s>(pub(super) u64, pub(super) &'s [Text]);

impl Serialize for EntryV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("entry", 3)?;
        object.serialize_field("netns", &self.0)?;
        object.serialize_field("interfaces", &texts(self.1))?;
        let mut raw = Raw(Vec::new());
        raw.list("interfaces", self.1);
        raw.write(&mut object)?;
        object.end()
    }
}

/// A number, or "a-b".
pub(super) struct PortV1<'s>(pub(super) &'s crate::model::PortRange);

impl Serialize for PortV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.first == self.0.last {
            serializer.serialize_u16(self.0.first)
        } else {
            serializer.collect_str(self.0)
        }
    }
}

/// RFC 3339 in UTC.
pub(super) fn time(nanoseconds: i64) -> Option<Timestamp> {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).ok()
}

/// A map with one entry for each pair.
pub(super) struct Pairs<'p, V>(pub(super) &'p [(&'static str, V)]);

impl<V: Serialize> Serialize for Pairs<'_, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}
