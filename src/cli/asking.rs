//! `why … --from ADDR --interface IF`: about whom somebody asks. `--from` also names a snapshot, as in
//! every command; what reads as an address or a network is one.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use super::errors::Usage;
use super::session::is_standard_input;
use super::settings::shown;
use crate::model::{AddrRange, Asking, Fact, Snapshot, Text, canonical};

/// What the values of `--from` say: a source, a snapshot, or one of each.
pub(crate) fn sort(values: &[OsString]) -> Result<(Option<AddrRange>, Option<PathBuf>), Usage> {
    let (mut source, mut snapshot) = (None, None);
    for value in values {
        if let Some(range) = value.to_str().and_then(range) {
            if source.replace(range).is_some() {
                return Err(
                    Usage::new("`--from` asks about one source at a time").help("give a network: 10.0.0.0/8")
                );
            }
            continue;
        }
        let place = PathBuf::from(value);
        if !is_standard_input(&place) && !place.exists() {
            return Err(nothing(value));
        }
        if snapshot.replace(place).is_some() {
            return Err(Usage::new("`--from` reads one snapshot at a time"));
        }
    }
    Ok((source, snapshot))
}

fn nothing(value: &OsString) -> Usage {
    let text = value.to_string_lossy();
    let numeric = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '/');
    let name = shown(&PathBuf::from(value));
    if !text.is_empty() && text.chars().all(numeric) && text.contains(['.', ':']) {
        Usage::new(format!("{name} is no address and no network"))
            .help("write 8.8.8.8, 10.0.0.0/8, 2001:db8::1 or 2001:db8::/32")
    } else {
        Usage::new(format!("{name} is no address, no network and no snapshot that is there"))
            .help("`--from` takes a source (8.8.8.8, 10.0.0.0/8) or a snapshot (FILE, DIR or -)")
    }
}

/// An address, with its IPv4 form where it has one, or a network.
fn range(text: &str) -> Option<AddrRange> {
    match text.parse::<IpAddr>() {
        Ok(address) => Some(AddrRange::one(canonical(address))),
        Err(_) => text.parse::<IpNet>().ok().map(AddrRange::from),
    }
}

/// The question, if there is one. An interface that nowhere is there is a mistake.
pub(crate) fn question(
    sources: Option<AddrRange>,
    interface: Option<&OsString>,
    snapshot: &Snapshot,
) -> Result<Option<Asking>, Usage> {
    let interface = interface.map(|name| Text::from(name.as_encoded_bytes()));
    if let Some(name) = &interface {
        let mut known: Vec<String> = Vec::new();
        let mut read = false;
        for namespace in &snapshot.namespaces {
            let Fact::Known(interfaces) = &namespace.interfaces else { continue };
            read = true;
            known.extend(interfaces.iter().map(|each| each.name.to_string()));
        }
        known.sort_unstable();
        known.dedup();
        if read && !known.contains(&name.to_string()) {
            let names: Vec<&str> = known.iter().map(String::as_str).collect();
            return Err(Usage::new(format!("there is no interface `{name}`")).meant(&name.to_string(), names));
        }
    }
    Ok((sources.is_some() || interface.is_some()).then_some(Asking { sources, interface }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_source_and_anything_else_a_snapshot() {
        let sort = |values: &[&str]| sort(&values.iter().map(OsString::from).collect::<Vec<_>>());
        let source = |text: &str| sort(&[text]).unwrap().0.unwrap().to_string();
        assert_eq!(source("8.8.8.8"), "8.8.8.8/32");
        assert_eq!(source("10.1.2.3/8"), "10.0.0.0/8");
        assert_eq!(source("::ffff:8.8.8.8"), "8.8.8.8/32");
        assert_eq!(source("2001:db8::/32"), "2001:db8::/32");
        let (from, file) = sort(&["-", "::1"]).unwrap();
        assert_eq!((from.unwrap().to_string().as_str(), file), ("::1/128", Some(PathBuf::from("-"))));
        for (bad, says) in [
            (&["8.8.8"][..], "no address and no network"),
            (&["10.0.0.0/33"], "no address and no network"),
            (&["no-such-file"], "no snapshot that is there"),
            (&["1.1.1.1", "8.8.8.8"], "one source at a time"),
            (&["-", "-"], "one snapshot at a time"),
        ] {
            assert!(sort(bad).unwrap_err().to_string().contains(says), "{bad:?}");
        }
    }
}
