//! Values as columns, and columns as values. What a column holds is believed no more than any other
//! file: a row that makes no sense is an error of its own.

use std::net::IpAddr;

use rusqlite::types::{FromSql, Type};
use rusqlite::{Error, Row};

use crate::finding::PastHolder;
use crate::model::{Endpoint, Protocol, Reach, Text};

/// Address, port and name of an endpoint. The name of an abstract socket begins with NUL, as the
/// kernel keeps it.
pub(super) type Columns = (Option<String>, Option<u32>, Option<Vec<u8>>);

pub(super) fn columns(end: &Endpoint) -> Columns {
    match end {
        Endpoint::None => (None, None, None),
        Endpoint::Inet(address, port) => (Some(address.to_string()), Some(u32::from(*port)), None),
        Endpoint::UnixPath(path) => (None, None, Some(path.as_bytes().to_vec())),
        Endpoint::UnixAbstract(name) => (None, None, Some([b"\0", name.as_bytes()].concat())),
        Endpoint::Vsock { cid, port } => (Some(format!("vsock:{cid}")), Some(*port), None),
        Endpoint::Interface(index) => (Some(format!("interface:{index}")), None, None),
    }
}

pub(super) fn endpoint(address: Option<&str>, port: Option<u32>, name: Option<&[u8]>) -> Option<Endpoint> {
    if let Some(name) = name {
        return Some(match name.strip_prefix(b"\0") {
            Some(name) => Endpoint::UnixAbstract(name.into()),
            None => Endpoint::UnixPath(name.into()),
        });
    }
    let Some(address) = address else { return Some(Endpoint::None) };
    if let Some(cid) = address.strip_prefix("vsock:") {
        return Some(Endpoint::Vsock { cid: cid.parse().ok()?, port: port? });
    }
    if let Some(index) = address.strip_prefix("interface:") {
        return Some(Endpoint::Interface(index.parse().ok()?));
    }
    Some(Endpoint::Inet(address.parse::<IpAddr>().ok()?, u16::try_from(port?).ok()?))
}

/// The columns of a holder, in the order of `HOLDER`.
pub(super) const HOLDER: &str = "pid, process, exe, user, unit, container, package, parent";

pub(super) fn holder(row: &Row<'_>, from: usize) -> rusqlite::Result<Option<PastHolder>> {
    let text = |at: usize| Ok::<_, Error>(row.get::<_, Option<Vec<u8>>>(from + at)?.map(Text::from));
    let Some(pid) = row.get::<_, Option<u32>>(from)? else { return Ok(None) };
    Ok(Some(PastHolder {
        pid,
        name: text(1)?.unwrap_or_default(),
        exe: text(2)?,
        user: text(3)?,
        unit: text(4)?,
        container: text(5)?,
        package: text(6)?,
        parent: text(7)?,
    }))
}

pub(super) fn local(row: &Row<'_>, from: usize) -> rusqlite::Result<Endpoint> {
    let (address, port) = (row.get::<_, Option<String>>(from)?, row.get::<_, Option<u32>>(from + 1)?);
    let name = row.get::<_, Option<Vec<u8>>>(from + 2)?;
    endpoint(address.as_deref(), port, name.as_deref()).ok_or_else(|| nonsense(from))
}

pub(super) fn protocol(row: &Row<'_>, at: usize) -> rusqlite::Result<Protocol> {
    word(row, at, Protocol::from_name)
}

pub(super) fn reach(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<(Reach, bool)>> {
    let Some(name) = row.get::<_, Option<String>>(at)? else { return Ok(None) };
    let reach = Reach::from_name(&name).ok_or_else(|| nonsense(at))?;
    Ok(Some((reach, row.get::<_, Option<bool>>(at + 1)?.unwrap_or_default())))
}

/// A word that names one of several things.
pub(super) fn word<T>(
    row: &Row<'_>,
    at: usize,
    known: impl FnOnce(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    known(&row.get::<_, String>(at)?).ok_or_else(|| nonsense(at))
}

pub(super) fn count<T: TryFrom<i64>>(row: &Row<'_>, at: usize) -> rusqlite::Result<T>
where
    i64: FromSql,
{
    T::try_from(row.get::<_, i64>(at)?).map_err(|_| nonsense(at))
}

pub(super) fn nonsense(at: usize) -> Error {
    Error::FromSqlConversionFailure(at, Type::Text, "the value makes no sense".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_comes_back() {
        let ends = [
            Endpoint::None,
            Endpoint::Inet("10.0.0.1".parse().unwrap(), 80),
            Endpoint::Inet("2001:db8::1".parse().unwrap(), 65535),
            Endpoint::UnixPath(Text::from(&b"/run/\xff\x1b.sock"[..])),
            Endpoint::UnixAbstract(Text::from(&b"a\0b"[..])),
            Endpoint::UnixAbstract(Text::default()),
            Endpoint::Vsock { cid: u32::MAX, port: 22 },
            Endpoint::Interface(7),
        ];
        for end in ends {
            let (address, port, name) = columns(&end);
            assert_eq!(endpoint(address.as_deref(), port, name.as_deref()), Some(end));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for (address, port) in
            [("vsock:x", Some(1)), ("10.0.0.1", None), ("10.0.0.1", Some(70000)), ("evil", Some(1))]
        {
            assert_eq!(endpoint(Some(address), port, None), None, "{address}");
        }
    }
}
