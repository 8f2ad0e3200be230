//! What `why` is asked about: a port, an address, a path, a name, a process, or filter words.

use std::ffi::OsString;
use std::net::IpAddr;

use super::errors::Usage;
use super::filter::Filter;
use crate::model::{Endpoint, Observation, Protocol, Text};

/// `PORT | PROTO/PORT | ADDR:PORT | [ADDR6]:PORT | @abstract | /path | filter words`.
/// `pid:N` and `container:NAME` are filter words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    Port {
        protocol: Option<Protocol>,
        address: Option<IpAddr>,
        port: u16,
    },
    Abstract(Vec<u8>),
    /// The path as written, and where it leads when symbolic links are followed.
    Path {
        written: Vec<u8>,
        resolved: Option<Vec<u8>>,
    },
    Words(Filter),
}

impl Target {
    pub(crate) fn parse(words: &[OsString]) -> Result<Self, Usage> {
        let [word] = words else { return Self::parse_words(words) };
        let bytes = word.as_encoded_bytes();
        match bytes.first() {
            Some(b'@') => return Ok(Self::Abstract(bytes[1..].to_vec())),
            Some(b'/') => {
                let resolved = std::fs::canonicalize(word).ok();
                let resolved = resolved.map(|path| path.into_os_string().into_encoded_bytes());
                return Ok(Self::Path { written: bytes.to_vec(), resolved });
            }
            Some(_) => {}
            None => return Err(Usage::new("the target is empty").help(FORMS)),
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => match one(text)? {
                Some(target) => Ok(target),
                None => Self::parse_words(words),
            },
            Err(_) => Self::parse_words(words),
        }
    }

    fn parse_words(words: &[OsString]) -> Result<Self, Usage> {
        let first = words.iter().find(|word| !word.as_encoded_bytes().contains(&b':') && *word != "not");
        match first {
            Some(word) if words.len() > 1 => {
                let word = Text::from(word.as_encoded_bytes());
                Err(Usage::new(format!("`{word}` is no filter word"))
                    .help("one target at a time, or filter words"))
            }
            Some(word) => {
                let word = Text::from(word.as_encoded_bytes());
                Err(Usage::new(format!("`{word}` is no target")).help(FORMS))
            }
            None => Filter::parse(words).map(Self::Words),
        }
    }

    /// The protocols that the target can be of; `None` for any.
    pub(crate) fn protocols(&self) -> Option<Vec<Protocol>> {
        match self {
            Self::Port { protocol: Some(protocol), .. } => Some(vec![*protocol]),
            Self::Port { protocol: None, .. } => {
                Some(Protocol::NAMED.into_iter().filter(|each| each.has_ports()).collect())
            }
            Self::Abstract(_) | Self::Path { .. } => Some(vec![Protocol::Unix]),
            Self::Words(filter) => filter.protocols(),
        }
    }

    pub(crate) fn matches(&self, seen: &Observation<'_>) -> bool {
        match self {
            Self::Port { protocol, address, port } => {
                protocol.is_none_or(|wanted| seen.socket.protocol == wanted)
                    && seen.has_port(*port)
                    && matches!(&seen.socket.local, Endpoint::Inet(local, _) if
                        address.is_none_or(|wanted| serves(*local, seen.socket.v6only, wanted)))
            }
            Self::Abstract(name) => {
                matches!(&seen.socket.local, Endpoint::UnixAbstract(local) if local.as_bytes() == name)
            }
            Self::Path { written, resolved } => {
                matches!(&seen.socket.local, Endpoint::UnixPath(local)
                    if local.as_bytes() == written || resolved.as_deref() == Some(local.as_bytes()))
            }
            Self::Words(filter) => filter.matches(seen),
        }
    }
}

/// Whether a socket bound to `local` answers at `wanted`: the same address, or the wildcard of its
/// family; `::` without V6ONLY also serves IPv4.
fn serves(local: IpAddr, v6only: Option<bool>, wanted: IpAddr) -> bool {
    local == wanted
        || local.is_unspecified()
            && (local.is_ipv4() == wanted.is_ipv4() || local.is_ipv6() && v6only != Some(true))
}

const FORMS: &str = "a target is 8080, tcp/8080, 127.0.0.1:8080, [::1]:8080, /run/x.sock, @name, pid:42, \
                     container:NAME or other filter words";

/// A single word that is no path and no name: `None` when it can only be a filter word.
fn one(text: &str) -> Result<Option<Target>, Usage> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Some(Target::Port { protocol: None, address: None, port: port(text)? }));
    }
    if let Some((name, number)) = text.split_once('/').filter(|(name, _)| !name.contains(':')) {
        let known = Protocol::NAMED.iter().filter(|each| each.has_ports()).map(|each| each.name());
        let Some(protocol) = Protocol::from_name(name).filter(|each| each.has_ports()) else {
            let known: Vec<_> = known.collect();
            return Err(Usage::new(format!("`{}` is no protocol with ports", Text::from(name)))
                .meant(name, known.iter().map(|each| &**each)));
        };
        return Ok(Some(Target::Port { protocol: Some(protocol), address: None, port: port(number)? }));
    }
    let Some((host, number)) = text.rsplit_once(':') else { return Ok(None) };
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: std::net::Ipv6Addr = inner.parse().map_err(|_| {
            Usage::new(format!("`{}` is no IPv6 address", Text::from(inner)))
                .help("write [::1]:8080, without a scope")
        })?;
        let address = Some(IpAddr::V6(address).to_canonical());
        return Ok(Some(Target::Port { protocol: None, address, port: port(number)? }));
    }
    if let Ok(address) = host.parse::<std::net::Ipv4Addr>() {
        let address = Some(IpAddr::V4(address));
        return Ok(Some(Target::Port { protocol: None, address, port: port(number)? }));
    }
    if text.parse::<std::net::Ipv6Addr>().is_ok() || host.parse::<std::net::Ipv6Addr>().is_ok() {
        return Err(Usage::new(format!("`{}` has no brackets", Text::from(text))).help("write [::1]:8080"));
    }
    if host == "localhost" {
        return Err(
            Usage::new("names are not looked up").help(format!("write 127.0.0.1:{number} or [::1]:{number}"))
        );
    }
    Ok(None)
}

fn port(text: &str) -> Result<u16, Usage> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&port| digits && port != 0).ok_or_else(|| {
        Usage::new(format!("`{}` is no port", Text::from(text))).help("ports go from 1 to 65535")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(word: &str) -> Result<Target, Usage> {
        Target::parse(&[OsString::from(word)])
    }

    fn at(address: &str, port: u16) -> Target {
        Target::Port { protocol: None, address: Some(address.parse().unwrap()), port }
    }

    #[test]
    fn every_form_of_the_grammar_is_understood() {
        assert_eq!(parse("8080").unwrap(), Target::Port { protocol: None, address: None, port: 8080 });
        assert_eq!(
            parse("udp/53").unwrap(),
            Target::Port { protocol: Some(Protocol::Udp), address: None, port: 53 }
        );
        assert_eq!(parse("10.0.0.1:53").unwrap(), at("10.0.0.1", 53));
        assert_eq!(parse("[::1]:53").unwrap(), at("::1", 53));
        assert_eq!(parse("[::ffff:10.0.0.1]:53").unwrap(), at("10.0.0.1", 53));
        assert_eq!(parse("@/tmp/.X11-unix/X0").unwrap(), Target::Abstract(b"/tmp/.X11-unix/X0".to_vec()));
        assert!(matches!(parse("/run/none.sock").unwrap(), Target::Path { resolved: None, .. }));
        assert!(matches!(parse("pid:1").unwrap(), Target::Words(_)));
        assert!(matches!(parse("container:web").unwrap(), Target::Words(_)));
        assert!(matches!(parse("addr:10.0.0.0/8").unwrap(), Target::Words(_)));
        assert!(matches!(parse("unit:a/b").unwrap(), Target::Words(_)));
    }

    #[test]
    fn what_is_no_target_is_refused_with_the_right_form() {
        for (word, says) in [
            ("0", "no port"),
            ("65536", "no port"),
            ("99999999999999999999", "no port"),
            ("tpc/80", "no protocol"),
            ("raw/80", "no protocol"),
            ("tcp/", "no port"),
            ("::1:53", "no brackets"),
            ("[fe80::1%eth0]:53", "no IPv6 address"),
            ("localhost:80", "not looked up"),
            ("nginx", "no target"),
            ("", "empty"),
        ] {
            let error = parse(word).unwrap_err();
            assert!(error.to_string().contains(says), "{word}: {error}");
        }
        let two = [OsString::from("80"), OsString::from("443")];
        assert!(Target::parse(&two).unwrap_err().to_string().contains("no filter word"));
    }

    #[test]
    fn a_wildcard_serves_every_address_of_its_family() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(serves(ip("0.0.0.0"), None, ip("10.0.0.1")));
        assert!(serves(ip("::"), Some(false), ip("10.0.0.1")));
        assert!(!serves(ip("::"), Some(true), ip("10.0.0.1")));
        assert!(!serves(ip("0.0.0.0"), None, ip("::1")));
        assert!(!serves(ip("127.0.0.1"), None, ip("10.0.0.1")));
    }
}
