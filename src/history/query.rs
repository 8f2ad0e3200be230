//! What was kept, read back. Nothing is written, and what stands in the file is believed no more
//! than any other file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Row, params};

use super::file::{harden, identity, is_damage};
use super::schema::{APPLICATION, VERSION};
use super::{Error, row};
use crate::finding::{ChangeKind, PastChange, PastDoor, PastFinding, PastTalk, Severity, Watched};
use crate::model::{Role, Text};

/// From when until when, in nanoseconds since the epoch; both ends belong to it.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub since: i64,
    pub until: i64,
}

impl Span {
    pub const ALWAYS: Self = Self { since: i64::MIN, until: i64::MAX };
}

/// An open history.
#[derive(Debug)]
pub struct Past {
    connection: Connection,
    path: PathBuf,
}

impl Past {
    /// # Errors
    /// When there is none, it is not ours, damaged, or may not be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        match std::fs::metadata(path) {
            Ok(about) if !about.is_file() => return Err(Error::NoFile(path.to_owned())),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::Missing(path.to_owned()));
            }
            Err(source) => return Err(Error::Io { path: path.to_owned(), source }),
        }
        // SQLite has no word for "may not".
        std::fs::File::open(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let connection = connect(path).map_err(|source| {
            if is_damage(&source) {
                Error::Damaged(path.to_owned())
            } else {
                Error::Database { path: path.to_owned(), source }
            }
        })?;
        match identity(&connection) {
            Ok((APPLICATION, VERSION)) => Ok(Self { connection, path: path.to_owned() }),
            Ok((0, 0)) if is_empty(&connection) => Err(Error::Missing(path.to_owned())),
            Ok(_) => Err(Error::Foreign(path.to_owned())),
            Err(source) => Err(Error::Database { path: path.to_owned(), source }),
        }
    }

    /// Every change of this time, the oldest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn changes(&self, span: Span) -> Result<Vec<PastChange>, Error> {
        let sql = format!(
            "SELECT c.at, c.change, c.seen_by, {}, {}, f.fingerprint, f.rule, f.title, f.severity, f.message
             FROM change c LEFT JOIN door d ON d.id = c.door LEFT JOIN door w ON w.id = c.was
             LEFT JOIN finding f ON f.fingerprint = c.finding
             WHERE c.at BETWEEN ?1 AND ?2 ORDER BY c.at, c.id",
            moment("d", "c.", "c"),
            moment("w", "c.was_", "c"),
        );
        let kept = self.all(&sql, params![span.since, span.until], |row| {
            let kind = |name: &str| ChangeKind::ALL.iter().copied().find(|kind| kind.name() == name);
            Ok(PastChange {
                at: row.get(0)?,
                kind: row::word(row, 1, kind)?,
                seen_by: row.get(2)?,
                after: past_door(row, 3)?,
                before: past_door(row, 3 + DOOR)?,
                finding: finding(row, 3 + 2 * DOOR)?,
            })
        })?;
        // Whose door or finding has been forgotten has nothing left to tell.
        Ok(kept
            .into_iter()
            .filter(|each| each.before.is_some() || each.after.is_some() || each.finding.is_some())
            .collect())
    }

    /// Every door that stood in this time, those first that were seen first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn doors(&self, span: Span) -> Result<Vec<PastDoor>, Error> {
        let sql = format!(
            "SELECT {} FROM door d WHERE d.first_seen <= ?2 AND {LAST} >= ?1 ORDER BY d.first_seen, d.id",
            moment("d", "d.", "d")
        );
        let kept = self.all(&sql, params![span.since, span.until], |row| past_door(row, 0))?;
        Ok(kept.into_iter().flatten().collect())
    }

    /// Every conversation of this time, the oldest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn talks(&self, span: Span) -> Result<Vec<PastTalk>, Error> {
        let sql = format!(
            "SELECT first_seen, last_seen, times, protocol, role, peer, port, netns, {} FROM talk
             WHERE first_seen <= ?2 AND last_seen >= ?1 ORDER BY first_seen, id",
            row::HOLDER
        );
        self.all(&sql, params![span.since, span.until], |row| {
            Ok(PastTalk {
                first_seen: row.get(0)?,
                last_seen: row.get(1)?,
                times: row::count(row, 2)?,
                protocol: row::protocol(row, 3)?,
                role: row::word(row, 4, Role::from_name)?,
                peer: row::word(row, 5, |text| text.parse().ok())?,
                port: row::count(row, 6)?,
                netns: named(row.get(7)?),
                holder: row::holder(row, 8)?,
            })
        })
    }

    /// When somebody kept watch.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn watched(&self) -> Result<Vec<Watched>, Error> {
        self.all("SELECT began, until, version, lost FROM watch ORDER BY id", [], |row| {
            Ok(Watched {
                began: row.get(0)?,
                until: row.get(1)?,
                version: row.get(2)?,
                lost: row::count(row, 3)?,
            })
        })
    }

    fn all<T>(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Error> {
        let rows = || -> rusqlite::Result<Vec<T>> {
            self.connection.prepare(sql)?.query_map(values, read)?.collect()
        };
        rows().map_err(|source| {
            if is_damage(&source) {
                Error::Damaged(self.path.clone())
            } else {
                Error::Database { path: self.path.clone(), source }
            }
        })
    }
}

/// What a standing door was last seen at is the last moment that the watch was there.
const LAST: &str = "CASE WHEN d.open > 0 THEN MAX(d.last_seen, IFNULL((SELECT MAX(until) FROM watch), 0))
      ELSE d.last_seen END";
/// Columns of a door.
const DOOR: usize = 20;

/// The columns of a door, those that change taken as they were at the moment of a change.
fn moment(door: &str, at: &str, table: &str) -> String {
    let last = LAST.replace("d.", &format!("{door}."));
    let exe = if door == table { format!("{door}.exe") } else { format!("IFNULL({at}exe, {door}.exe)") };
    format!(
        "{door}.id, {door}.first_seen, {last}, {door}.times, {door}.open, {door}.netns, {door}.protocol,
         {at}address, {at}port, {at}name, {at}reach, {at}certain, {at}pid, {door}.process, {exe}, {door}.user,
         {door}.unit, {door}.container, {door}.package, {door}.parent"
    )
}

fn past_door(row: &Row<'_>, from: usize) -> rusqlite::Result<Option<PastDoor>> {
    if row.get::<_, Option<i64>>(from)?.is_none() {
        return Ok(None);
    }
    Ok(Some(PastDoor {
        first_seen: row.get(from + 1)?,
        last_seen: row.get(from + 2)?,
        times: row::count(row, from + 3)?,
        open: row.get::<_, i64>(from + 4)? > 0,
        netns: named(row.get(from + 5)?),
        protocol: row::protocol(row, from + 6)?,
        local: row::local(row, from + 7)?,
        reach: row::reach(row, from + 10)?,
        holder: row::holder(row, from + 12)?,
    }))
}

fn finding(row: &Row<'_>, from: usize) -> rusqlite::Result<Option<PastFinding>> {
    let Some(fingerprint) = row.get(from)? else { return Ok(None) };
    Ok(Some(PastFinding {
        fingerprint,
        rule: row.get(from + 1)?,
        title: row.get(from + 2)?,
        severity: row::word(row, from + 3, Severity::from_name)?,
        message: row.get(from + 4)?,
    }))
}

fn named(netns: Vec<u8>) -> Option<Text> {
    (!netns.is_empty()).then(|| netns.into())
}

fn is_empty(connection: &Connection) -> bool {
    let tables = connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
    tables.is_ok_and(|count| count == 0)
}

/// Of a history that nobody writes and whose folder we may not write in, SQLite cannot make the
/// files that readers share (sqlite.org/wal.html, "Read-Only Databases"); then nobody changes it
/// either.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let read = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = |connection: rusqlite::Result<Connection>| {
        let connection = connection?;
        connection.busy_timeout(Duration::from_secs(5))?;
        harden(&connection)?;
        identity(&connection)?;
        Ok::<_, rusqlite::Error>(connection)
    };
    let first = open(Connection::open_with_flags(path, read));
    let cannot = |error: &rusqlite::Error| {
        matches!(
            error.sqlite_error_code(),
            Some(rusqlite::ErrorCode::CannotOpen | rusqlite::ErrorCode::ReadOnly)
        )
    };
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    if !first.as_ref().is_err_and(cannot) || Path::new(&log).exists() {
        return first;
    }
    let Some(name) = path.to_str().filter(|name| name.starts_with('/')) else { return first };
    let name: String = name
        .bytes()
        .map(|byte| match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect();
    let uri = format!("file:{name}?immutable=1");
    open(Connection::open_with_flags(uri, read | OpenFlags::SQLITE_OPEN_URI))
}
