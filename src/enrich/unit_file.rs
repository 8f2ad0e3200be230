//! Unit files of systemd, as far as sockets need them (systemd.syntax(7), systemd.socket(5)).
//!
//! Pure. A file and its drop-ins are read one after the other into one [`SocketUnit`].

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::model::{SocketType, Text};

/// Beyond this many addresses in one unit the rest is ignored.
const MOST: usize = 1024;

/// One `Key=Value` of a section, with lines ending in a backslash joined.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assignment {
    pub section: Text,
    pub key: Text,
    pub value: Vec<u8>,
}

/// Where a socket unit listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listen {
    pub kind: SocketType,
    pub at: Place,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// A port alone stands for `[::]`, which also takes IPv4 unless `BindIPv6Only=ipv6-only`, and
    /// for 0.0.0.0 where the kernel has no IPv6.
    Port(u16),
    Inet(IpAddr, u16),
    Path(Text),
    Abstract(Text),
    /// `None` stands for any context id.
    Vsock(Option<u32>, u32),
}

/// What `[Socket]` says that concerns us.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SocketUnit {
    pub listens: Vec<Listen>,
    /// `Accept=yes`: one instance of a template for each connection.
    pub accept: bool,
    /// `Service=`, where it is set.
    pub service: Option<Text>,
    /// `BindToDevice=`
    pub interface: Option<Text>,
    /// `SocketProtocol=`: udplite, sctp, mptcp.
    pub protocol: Option<Text>,
}

/// What the specifiers `%i`, `%t`, … stand for (systemd.unit(5), "Specifiers").
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Specifiers {
    /// Name with suffix: `%n`; `%p` and `%i` are its parts.
    pub unit: Text,
    /// `%t`: /run, or the user's runtime folder.
    pub runtime: Text,
    /// `%h`
    pub home: Option<Text>,
    /// `%U`
    pub uid: Option<u32>,
    /// `%u`
    pub user: Option<Text>,
}

/// Every assignment, in order.
pub fn assignments(bytes: &[u8]) -> Vec<Assignment> {
    let mut section = Text::default();
    let mut found = Vec::new();
    let mut joined: Vec<u8> = Vec::new();
    for line in bytes.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let start = line.trim_ascii_start();
        if start.first().is_some_and(|byte| b"#;".contains(byte)) {
            continue; // also between joined lines
        }
        if let Some(more) = line.strip_suffix(b"\\") {
            joined.extend_from_slice(more);
            joined.push(b' ');
            continue;
        }
        joined.extend_from_slice(line);
        let whole = std::mem::take(&mut joined);
        let whole = whole.trim_ascii();
        if let Some(name) = whole.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")) {
            section = name.into();
        } else if let Some(equals) = whole.iter().position(|&byte| byte == b'=') {
            found.push(Assignment {
                section: section.clone(),
                key: whole[..equals].trim_ascii_end().into(),
                value: whole[equals + 1..].trim_ascii_start().to_vec(),
            });
        }
    }
    found
}

impl SocketUnit {
    /// Takes in one file: the unit's own first, then its drop-ins by name. An empty value resets a
    /// list, as systemd does.
    pub fn read(&mut self, bytes: &[u8], names: &Specifiers) {
        for each in assignments(bytes) {
            if each.section.as_bytes() != b"Socket" {
                continue;
            }
            let value = expand(&each.value, names);
            let kind = match each.key.as_bytes() {
                b"ListenStream" => SocketType::Stream,
                b"ListenDatagram" => SocketType::Dgram,
                b"ListenSequentialPacket" => SocketType::Seqpacket,
                b"Accept" => {
                    self.accept = matches!(value.as_slice(), b"yes" | b"true" | b"on" | b"1" | b"y" | b"t");
                    continue;
                }
                b"Service" => {
                    self.service = set(value);
                    continue;
                }
                b"BindToDevice" => {
                    self.interface = set(value);
                    continue;
                }
                b"SocketProtocol" => {
                    self.protocol = set(value);
                    continue;
                }
                _ => continue,
            };
            if value.is_empty() {
                self.listens.clear(); // any empty Listen…= drops them all (load-fragment.c)
            } else if let Some(at) = place(&value)
                && self.listens.len() < MOST
            {
                self.listens.push(Listen { kind, at });
            }
        }
    }

    /// The unit that a call starts: `Service=`, else the unit of the same name; a template where
    /// each connection gets an instance.
    pub fn triggers(&self, unit: &Text) -> Text {
        if let Some(service) = &self.service {
            return service.clone();
        }
        let name = unit.as_bytes();
        let stem = name.strip_suffix(b".socket").unwrap_or(name);
        if self.accept { [stem, b"@.service"].concat().into() } else { [stem, b".service"].concat().into() }
    }
}

fn set(value: Vec<u8>) -> Option<Text> {
    (!value.is_empty()).then(|| value.into())
}

/// An address as `ListenStream=` and its kin write it.
pub fn place(value: &[u8]) -> Option<Place> {
    match value.first()? {
        b'/' => return Some(Place::Path(simplified(value).into())),
        b'@' => return Some(Place::Abstract(value[1..].into())),
        _ => {}
    }
    let text = std::str::from_utf8(value).ok()?;
    if let Some(rest) = text.strip_prefix("vsock:") {
        let (cid, port) = rest.split_once(':')?;
        let cid = if cid.is_empty() { None } else { Some(cid.parse().ok()?) };
        return Some(Place::Vsock(cid, port.parse().ok()?));
    }
    if let Ok(port) = text.parse::<u16>() {
        return (port != 0).then_some(Place::Port(port));
    }
    // `[fe80::1]:80%eth0`: the interface is a matter of scope
    let text = text.split_once('%').map_or(text, |(address, _scope)| address);
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(Place::Inet(address.ip().to_canonical(), address.port()));
    }
    // `x:80`, an IPv6 address without brackets is not allowed
    let (address, port) = text.rsplit_once(':')?;
    Some(Place::Inet(IpAddr::V6(address.parse::<Ipv6Addr>().ok()?), port.parse().ok()?))
}

/// Without double or trailing slashes, as systemd binds it.
fn simplified(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    for part in path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
        plain.push(b'/');
        plain.extend_from_slice(part);
    }
    plain
}

/// Replaces the specifiers that stand in addresses; one that we do not know stays as it is, so that
/// the address matches nothing.
fn expand(value: &[u8], names: &Specifiers) -> Vec<u8> {
    let mut plain = Vec::with_capacity(value.len());
    let mut bytes = value.iter().copied();
    let unit = names.unit.as_bytes();
    let stem = unit.iter().rposition(|&byte| byte == b'.').map_or(unit, |dot| &unit[..dot]);
    let at = stem.iter().position(|&byte| byte == b'@');
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            plain.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'%') => plain.push(b'%'),
            Some(b'n') => plain.extend_from_slice(unit),
            Some(b'N') => plain.extend_from_slice(stem),
            Some(b'p') => plain.extend_from_slice(at.map_or(stem, |at| &stem[..at])),
            Some(b'i') => plain.extend_from_slice(at.map_or(b"", |at| &stem[at + 1..])),
            Some(b'I') => {
                plain.extend(super::cgroup::unit_unescaped(at.map_or(b"", |at| &stem[at + 1..])));
            }
            Some(b't') => plain.extend_from_slice(names.runtime.as_bytes()),
            Some(b'h') if let Some(home) = &names.home => plain.extend_from_slice(home.as_bytes()),
            Some(b'u') if let Some(user) = &names.user => plain.extend_from_slice(user.as_bytes()),
            Some(b'U') if let Some(uid) = names.uid => plain.extend_from_slice(uid.to_string().as_bytes()),
            Some(b'S') if names.home.is_none() => plain.extend_from_slice(b"/var/lib"),
            Some(b'T') => plain.extend_from_slice(b"/tmp"),
            Some(other) => plain.extend_from_slice(&[b'%', other]),
            None => plain.push(b'%'),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn names(unit: &str) -> Specifiers {
        Specifiers { unit: unit.into(), runtime: "/run".into(), ..Specifiers::default() }
    }

    fn read(unit: &str, files: &[&str]) -> SocketUnit {
        let mut read = SocketUnit::default();
        files.iter().for_each(|file| read.read(file.as_bytes(), &names(unit)));
        read
    }

    #[test]
    fn the_service_of_a_socket_unit() {
        let plain = read("ssh.socket", &["[Unit]\nService=no\n[Socket]\nListenStream=22\n"]);
        assert_eq!(plain.triggers(&"ssh.socket".into()), Text::from("ssh.service"));
        let each = read("ssh.socket", &["[Socket]\nListenStream=22\nAccept = yes\n"]);
        assert_eq!(each.triggers(&"ssh.socket".into()), Text::from("ssh@.service"));
        let other = read("a.socket", &["[Socket]\nService=b.service\n"]);
        assert_eq!(other.triggers(&"a.socket".into()), Text::from("b.service"));
    }

    #[test]
    fn a_drop_in_resets_the_list() {
        let unit = read(
            "ssh.socket",
            &[
                "[Socket]\nListenStream=22\nListenDatagram=9\n",
                "[Socket]\nListenStream=\nListenStream=2222\n",
            ],
        );
        assert_eq!(unit.listens, [Listen { kind: SocketType::Stream, at: Place::Port(2222) }]);
    }

    #[test]
    fn comments_and_joined_lines() {
        let file =
            "# x\n[Socket]\nListenStream=\\\n; note\n  127.0.0.1:80\r\nListenStream = [::1]:81\n junk\n";
        let unit = read("x.socket", &[file]);
        let at: Vec<_> = unit.listens.into_iter().map(|each| each.at).collect();
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(at, [Place::Inet(ip("127.0.0.1"), 80), Place::Inet(ip("::1"), 81)]);
    }

    #[test]
    fn addresses() {
        let read = |text: &str| place(text.as_bytes());
        assert_eq!(read("/run//x/./y/"), Some(Place::Path("/run/x/y".into())));
        assert_eq!(read("@bus"), Some(Place::Abstract("bus".into())));
        assert_eq!(read("vsock::9"), Some(Place::Vsock(None, 9)));
        assert_eq!(read("vsock:2:9"), Some(Place::Vsock(Some(2), 9)));
        assert_eq!(read("[::ffff:1.2.3.4]:5"), Some(Place::Inet("1.2.3.4".parse().expect("address"), 5)));
        assert_eq!(read("[fe80::1]:5%eth0"), Some(Place::Inet("fe80::1".parse().expect("address"), 5)));
        assert_eq!(read("0"), None);
        assert_eq!(read("99999"), None);
        assert_eq!(read("kobject-uevent 1"), None);
    }

    #[test]
    fn specifiers() {
        let unit = read("a@b\\x2dc.socket", &["[Socket]\nListenStream=%t/%p/%i/%I/%%/%q\n"]);
        let want = Place::Path("/run/a/b\\x2dc/b-c/%/%q".into());
        assert_eq!(unit.listens[0].at, want);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let mut unit = SocketUnit::default();
            unit.read(&bytes, &Specifiers::default());
            unit.read(&[b"[Socket]\nListenStream=", &bytes[..]].concat(), &Specifiers::default());
            let _ = place(&bytes);
        }
    }
}
