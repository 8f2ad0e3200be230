//! The inputs of a snapshot, and reading them back: nothing that a file says is believed before
//! it was checked.

use std::collections::HashSet;
use std::io;

use serde::Deserialize;
use thiserror::Error;

use super::SCHEMA;
use super::document::Document;
use crate::model::{Exposure, NamespaceId, Snapshot, Socket};

/// The key `inputs`: all that judging anew needs, in the order and with the names of the model.
pub(super) fn inputs(document: &mut Document<'_>, snapshot: &Snapshot) -> io::Result<()> {
    let Snapshot { taken_at, host, namespaces, processes, holders, sockets, users, gaps, evidence, upstream } =
        snapshot;
    document.object("inputs", |inner| {
        inner.field("taken_at", taken_at)?;
        inner.field("host", host)?;
        inner.list("namespaces", namespaces.iter())?;
        inner.list("processes", processes.iter())?;
        inner.field("holders", holders)?;
        inner.list("sockets", sockets.iter())?;
        inner.field("users", users)?;
        inner.list("gaps", gaps.iter())?;
        inner.list("evidence", evidence.iter())?;
        inner.field("upstream", upstream)
    })
}

/// Why a file cannot be used as a snapshot.
#[derive(Debug, Error)]
pub enum ReadError {
    #[error("not a sockwarden document: {0}")]
    Foreign(#[source] serde_json::Error),
    #[error("not a sockwarden document: it has no `schema`, `kind` and `inputs`")]
    Shapeless,
    #[error("the file ends in the middle, in line {line}: it was not written whole")]
    Truncated { line: usize },
    #[error("a document of kind `{0}`, where a snapshot is needed (`sockwarden snapshot -o FILE`)")]
    Kind(String),
    #[error("schema `{0}`, which this version does not read; it reads `{SCHEMA}`")]
    Version(String),
    #[error("a snapshot whose inputs are not as sockwarden writes them: {0}")]
    Inputs(#[source] serde_json::Error),
    #[error("a snapshot that contradicts itself: {0}")]
    Contradiction(String),
}

/// What the file says it is. The rest is not looked at.
#[derive(Deserialize)]
struct Label {
    schema: String,
    kind: String,
}

#[derive(Deserialize)]
struct Whole {
    inputs: Snapshot,
}

/// Reads a document of kind `snapshot`. Only `inputs` counts: the inventory in it is made from
/// that.
///
/// # Errors
/// When the bytes are cut off, not ours, of another kind or version, or contradict themselves: an
/// index that points nowhere, two sockets of one name.
pub fn read_snapshot(bytes: &[u8]) -> Result<Snapshot, ReadError> {
    let foreign = |error: serde_json::Error| match error.classify() {
        serde_json::error::Category::Eof => ReadError::Truncated { line: error.line() },
        serde_json::error::Category::Data => ReadError::Shapeless,
        serde_json::error::Category::Io | serde_json::error::Category::Syntax => ReadError::Foreign(error),
    };
    let label: Label = serde_json::from_slice(bytes).map_err(foreign)?;
    if !label.schema.starts_with("sockwarden/") {
        return Err(ReadError::Shapeless);
    }
    if label.schema != SCHEMA {
        return Err(ReadError::Version(label.schema));
    }
    if label.kind != "snapshot" {
        return Err(ReadError::Kind(label.kind));
    }
    let whole: Whole = serde_json::from_slice(bytes).map_err(ReadError::Inputs)?;
    check(&whole.inputs).map_err(ReadError::Contradiction)?;
    Ok(whole.inputs)
}

/// Every index points somewhere, and no two sockets have one name.
fn check(snapshot: &Snapshot) -> Result<(), String> {
    let namespace = |what: &str, id: NamespaceId| within(what, "namespace", id.0, snapshot.namespaces.len());
    for (at, holder) in snapshot.holders.iter().enumerate() {
        within(&format!("holder {at}"), "process", holder.process.0, snapshot.processes.len())?;
    }
    for gap in &snapshot.gaps {
        if let Some((_, Some(id))) = gap.unlisted {
            namespace(&format!("gap {}", gap.id), id)?;
        }
    }
    let mut names = HashSet::new();
    for (at, socket) in snapshot.sockets.iter().enumerate() {
        let what = format!("socket {at}");
        namespace(&what, socket.netns)?;
        references(&what, snapshot, socket)?;
        if let Some(exposure) = &socket.exposure {
            paths(&what, snapshot, exposure)?;
        }
        let netns = snapshot.namespace(socket.netns).inode;
        let name =
            if socket.cookie == 0 { (netns, false, socket.inode) } else { (netns, true, socket.cookie) };
        if name.2 != 0 && !names.insert(name) {
            return Err(format!("{what} has the cookie or inode of another"));
        }
    }
    Ok(())
}

fn references(what: &str, snapshot: &Snapshot, socket: &Socket) -> Result<(), String> {
    if let Some(peer) = socket.peer {
        within(what, "socket", peer.0, snapshot.sockets.len())?;
    }
    if let Some(user) = socket.user {
        within(what, "user", user, snapshot.users.len())?;
    }
    let end = u64::from(socket.holders.start) + u64::from(socket.holders.len);
    if end > snapshot.holders.len() as u64 {
        return Err(format!("{what} refers to holders up to {end} of {}", snapshot.holders.len()));
    }
    Ok(())
}

fn paths(what: &str, snapshot: &Snapshot, exposure: &Exposure) -> Result<(), String> {
    for path in &exposure.paths {
        within(what, "namespace", path.entry.netns.0, snapshot.namespaces.len())?;
        for because in &path.because {
            within(what, "evidence", *because, snapshot.evidence.len())?;
        }
    }
    Ok(())
}

fn within(what: &str, kind: &str, index: u32, len: usize) -> Result<(), String> {
    if (index as usize) < len { Ok(()) } else { Err(format!("{what} refers to {kind} {index} of {len}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample::Sample;
    use crate::model::{Access, Gap, ProcessId, Protocol, Reach, Span, State, Text, Users};
    use crate::output::json::v1::write_snapshot;

    fn host() -> Sample {
        let mut sample = Sample::new();
        sample.process(10, "/usr/sbin/nginx").name = Text::from(&b"ng\xffinx\x1b[2J"[..]);
        sample.listener("0.0.0.0:80", Reach::Internet, &[10]);
        sample.listener("[::1]:80", Reach::Host, &[10]);
        sample.socket(Protocol::Other(40), State::Unknown, "", &[]).cookie = 0;
        sample.socket(Protocol::Unix, State::Listen, "@a\0b\u{202e}", &[10]).access =
            Some(Box::new(Access { mode: None, uid: None, gid: None, users: Users::Everyone }));
        sample.snapshot.gaps.push(Gap {
            id: "owners-hidden".into(),
            what: "processes".into(),
            why: "permission denied".into(),
            remedy: None,
            count: 3,
            unlisted: Some((None, Some(NamespaceId(0)))),
        });
        sample
    }

    fn written(snapshot: &Snapshot) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_snapshot(&mut bytes, snapshot).unwrap();
        bytes
    }

    #[test]
    fn what_is_written_is_read_back_whole() {
        let snapshot = host().snapshot;
        let bytes = written(&snapshot);
        let read = read_snapshot(&bytes).unwrap();
        assert_eq!(read, snapshot);
        assert_eq!(written(&read), bytes);
    }

    #[test]
    fn every_cut_is_refused() {
        let bytes = written(&host().snapshot);
        for end in 0..bytes.len() - 2 {
            let error = read_snapshot(&bytes[..end]).unwrap_err();
            assert!(matches!(error, ReadError::Truncated { .. }), "cut at {end}: {error}");
        }
    }

    #[test]
    fn what_is_not_ours_is_refused_by_name() {
        let refused = |text: &str| read_snapshot(text.as_bytes()).unwrap_err().to_string();
        assert!(refused("hello").starts_with("not a sockwarden document: "));
        assert!(refused("{\"a\":1}").starts_with("not a sockwarden document: "));
        assert!(refused("[1]").starts_with("not a sockwarden document: "));
        assert!(
            refused(r#"{"schema":"sockwarden/v2","kind":"snapshot"}"#).starts_with("schema `sockwarden/v2`")
        );
        assert!(
            refused(r#"{"schema":"sockwarden/v1","kind":"report"}"#)
                .starts_with("a document of kind `report`")
        );
        assert!(
            refused(r#"{"schema":"sockwarden/v1","kind":"snapshot"}"#).contains("missing field `inputs`")
        );
        assert!(refused(&"[".repeat(100_000)).starts_with("not a sockwarden document: "));
    }

    #[test]
    fn an_index_that_points_nowhere_is_refused() {
        let breaks: &[fn(&mut Snapshot)] = &[
            |s| s.sockets[0].netns = NamespaceId(9),
            |s| s.sockets[0].peer = Some(crate::model::SocketIndex(9)),
            |s| s.sockets[0].user = Some(9),
            |s| s.sockets[0].holders = Span { start: u32::MAX, len: u32::MAX },
            |s| s.sockets[1].cookie = s.sockets[0].cookie,
            |s| s.holders[0].process = ProcessId(9),
            |s| s.gaps[0].unlisted = Some((None, Some(NamespaceId(7)))),
            |s| s.sockets[0].exposure.as_mut().unwrap().paths[0].because = vec![0],
            |s| {
                std::sync::Arc::make_mut(&mut s.sockets[0].exposure.as_mut().unwrap().paths[0].entry).netns =
                    NamespaceId(3)
            },
        ];
        for (at, break_it) in breaks.iter().enumerate() {
            let good = host().snapshot;
            let mut bad = good.clone();
            break_it(&mut bad);
            // The inventory cannot be written of a broken snapshot, so only its inputs are.
            let text = format!(
                r#"{{"schema":"sockwarden/v1","kind":"snapshot","inputs":{}}}"#,
                serde_json::to_string(&bad).unwrap()
            );
            let error = read_snapshot(text.as_bytes()).unwrap_err();
            assert!(matches!(error, ReadError::Contradiction(_)), "{at}: {error}");
        }
    }

    #[test]
    fn a_range_that_is_none_is_refused() {
        let text = String::from_utf8(written(&host().snapshot)).unwrap();
        let inputs = text.find("\"inputs\"").unwrap();
        let (head, tail) = text.split_at(inputs);
        let tail = tail.replacen(r#""first":80,"last":80"#, r#""first":81,"last":80"#, 1);
        let error = read_snapshot(format!("{head}{tail}").as_bytes()).unwrap_err();
        assert!(error.to_string().contains("81-80 is no range of ports"), "{error}");
    }
}
