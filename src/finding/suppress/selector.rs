//! One condition of a suppression: a key and the values any of which will do.

use std::fmt;

use crate::model::{Endpoint, Fact, Observation, Process, Protocol, Reach, Text};

/// The keys, which mean what they mean as filter words on the command line.
pub(super) const KEYS: &[&str] =
    &["proto", "port", "rport", "path", "reach", "user", "process", "exe", "unit", "container"];

#[derive(Clone, Debug)]
pub(super) struct Selector {
    pub(super) key: &'static str,
    pub(super) values: Vec<Value>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Value {
    Proto(Protocol),
    /// First and last port.
    Ports(u16, u16),
    Reach(Reach),
    /// `*` and `?` over the whole value.
    Glob(String),
    Any,
    None,
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.key)?;
        for (at, value) in self.values.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "," })?;
            match value {
                Value::Proto(protocol) => f.write_str(&protocol.name())?,
                Value::Ports(first, last) if first == last => write!(f, "{first}")?,
                Value::Ports(first, last) => write!(f, "{first}-{last}")?,
                Value::Reach(reach) => f.write_str(reach.name())?,
                Value::Glob(glob) => f.write_str(glob)?,
                Value::Any => f.write_str("any")?,
                Value::None => f.write_str("none")?,
            }
        }
        Ok(())
    }
}

/// Reads one value of a key; `Err` says what would be one.
pub(super) fn value(key: &str, text: &str) -> Result<Value, String> {
    match key {
        "proto" => {
            Protocol::from_name(text).map(Value::Proto).ok_or_else(|| "no protocol of that name".to_owned())
        }
        "reach" => Reach::from_name(text).map(Value::Reach).ok_or_else(|| {
            let names: Vec<&str> = Reach::ALL.iter().map(|reach| reach.name()).collect();
            format!("no such reach; there are {}", names.join(", "))
        }),
        "port" | "rport" => {
            ports(text).ok_or_else(|| "not a port or a range of ports such as 8000-8010".to_owned())
        }
        "unit" | "container" if text == "any" => Ok(Value::Any),
        "unit" | "container" if text == "none" => Ok(Value::None),
        _ if text.is_empty() => Err("an empty value fits nothing".to_owned()),
        _ => Ok(Value::Glob(text.to_owned())),
    }
}

fn ports(text: &str) -> Option<Value> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some(Value::Ports(first, last))
}

impl Selector {
    /// Whether the socket fits. Every holder must: another program that got hold of the same
    /// socket is not what was agreed to. A fact that is not known fits nothing.
    pub(super) fn fits(&self, socket: &Observation<'_>) -> bool {
        let any = |test: &dyn Fn(&Value) -> bool| self.values.iter().any(test);
        let text = |bytes: &[u8]| {
            any(&|value| matches!(value, Value::Glob(glob) if matches(glob.as_bytes(), bytes)))
        };
        let known = |fact: &Fact<Text>| fact.known().is_some_and(|known| text(known.as_bytes()));
        let port = |end: &Endpoint| match end {
            Endpoint::Inet(_, port) => {
                any(&|value| matches!(value, Value::Ports(a, b) if (a..=b).contains(&port)))
            }
            Endpoint::None
            | Endpoint::UnixPath(_)
            | Endpoint::UnixAbstract(_)
            | Endpoint::Vsock { .. }
            | Endpoint::Interface(_) => false,
        };
        match self.key {
            "proto" => any(&|value| *value == Value::Proto(socket.socket.protocol)),
            "port" => port(&socket.socket.local),
            "rport" => port(&socket.socket.remote),
            "path" => match &socket.socket.local {
                Endpoint::UnixPath(path) => text(path.as_bytes()),
                Endpoint::UnixAbstract(name) => text(&[b"@", name.as_bytes()].concat()),
                Endpoint::None | Endpoint::Inet(..) | Endpoint::Vsock { .. } | Endpoint::Interface(_) => {
                    false
                }
            },
            "reach" => {
                let reach = socket.socket.exposure.as_ref().map(|exposure| exposure.reach);
                reach.is_some_and(|reach| any(&|value| *value == Value::Reach(reach)))
            }
            "user" if socket.socket.holders.len == 0 => {
                socket.user().is_some_and(|user| text(user.as_bytes()))
            }
            "user" => every_holder(socket, |process| known(&process.user)),
            "process" => every_holder(socket, |process| {
                text(process.name.as_bytes()) || known(&basename(&process.exe))
            }),
            "exe" => every_holder(socket, |process| known(&process.exe)),
            "unit" if socket.socket.activation.is_some() => socket.units().any(|unit| text(unit.as_bytes())),
            "unit" => every_holder(socket, |process| self.present(&process.unit) || known(&process.unit)),
            "container" => every_holder(socket, |process| {
                self.present(&process.container)
                    || process.container.known().is_some_and(|container| {
                        let names = [container.name.as_ref(), container.image.as_ref()];
                        names.into_iter().flatten().any(|name| text(name.as_bytes()))
                    })
            }),
            _ => false,
        }
    }

    /// `any` and `none`.
    fn present<T>(&self, fact: &Fact<T>) -> bool {
        self.values.iter().any(|value| match value {
            Value::Any => matches!(fact, Fact::Known(_)),
            Value::None => matches!(fact, Fact::Absent),
            Value::Proto(_) | Value::Ports(..) | Value::Reach(_) | Value::Glob(_) => false,
        })
    }
}

fn every_holder(socket: &Observation<'_>, mut fits: impl FnMut(&Process) -> bool) -> bool {
    socket.socket.holders.len > 0 && socket.owners().all(|owner| fits(owner.process))
}

fn basename(exe: &Fact<Text>) -> Fact<Text> {
    let name = exe.known().and_then(|exe| exe.as_bytes().rsplit(|byte| *byte == b'/').next());
    name.map_or(Fact::Unknown, |name| Fact::Known(Text::from(name)))
}

/// Whether a glob of `*` and `?` covers the whole of `text`; time is bounded by the product of
/// both lengths. `?` is one byte.
fn matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut g, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match glob.get(g) {
            Some(b'*') => {
                retry = Some((g + 1, t));
                g += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[t] => {
                g += 1;
                t += 1;
            }
            Some(_) | None => match retry {
                Some((after, from)) => {
                    g = after;
                    t = from + 1;
                    retry = Some((after, from + 1));
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_cover_the_whole_value() {
        for (glob, text, fits) in [
            ("redis", "redis", true),
            ("redis", "redis-server", false),
            ("redis*", "redis-server", true),
            ("*server", "redis-server", true),
            ("r?dis*", "redis-server", true),
            ("*a*b*c", "xxaxxbxxbxxc", true),
            ("*a*b*c", "xxaxxbxxbxx", false),
            ("*", "", true),
            ("?", "", false),
        ] {
            assert_eq!(matches(glob.as_bytes(), text.as_bytes()), fits, "{glob} {text}");
        }
    }
}
