//! What is written into the file, and how it is kept within its bounds.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::file::{Unfit, connect, lock, set_aside};
use super::note::{Change, Door, Record, Said, Talk};
use super::{Bounds, Error, row};
use crate::finding::{ChangeKind, PastHolder};

/// One in so many rows goes when the file has grown too large.
const SLICE: u64 = 10;

/// The open file, and the lock that keeps other watches away.
#[derive(Debug)]
pub(super) struct Store {
    connection: Connection,
    path: PathBuf,
    bounds: Bounds,
    /// The row of `watch` that this run fills.
    run: i64,
    /// Whether nothing had been kept before: then nothing that stands is news.
    first: bool,
    _lock: File,
}

impl Store {
    /// Opens or makes the history; what stands there and cannot be one is set aside. The words
    /// say so.
    pub(super) fn open(path: &Path, bounds: Bounds) -> Result<(Self, Option<String>), Error> {
        let lock = lock(path)?;
        let (connection, said) = match connect(path) {
            Ok(connection) => (connection, None),
            Err(Unfit::Not(why)) => {
                let words = set_aside(path, why)?;
                let connection = connect(path).map_err(|unfit| unfit.into_error(path))?;
                (connection, Some(words))
            }
            Err(Unfit::Error(error)) => return Err(error),
        };
        let mut store = Self { connection, path: path.to_owned(), bounds, run: 0, first: false, _lock: lock };
        store.begin().map_err(|source| store.error(source))?;
        Ok((store, said))
    }

    /// The same file anew, after it was found damaged.
    pub(super) fn renew(self) -> Result<(Self, Option<String>), Error> {
        let Self { connection, path, bounds, _lock, .. } = self;
        // What SQLite still holds open would keep the old file in use.
        drop(connection);
        let words = set_aside(&path, "damaged")?;
        drop(_lock);
        let (store, more) = Self::open(&path, bounds)?;
        Ok((store, Some(more.map_or(words.clone(), |more| format!("{words}; {more}")))))
    }

    pub(super) fn error(&self, source: rusqlite::Error) -> Error {
        Error::Database { path: self.path.clone(), source }
    }

    fn begin(&mut self) -> rusqlite::Result<()> {
        self.first =
            self.connection.query_row("SELECT COUNT(*) FROM watch", [], |row| row.get::<_, i64>(0))? == 0;
        self.run = 0;
        self.prune()
    }

    /// Keeps all of these, or none.
    pub(super) fn keep(&mut self, records: &[Record], lost: u64) -> rusqlite::Result<()> {
        let (run, first) = (self.run, self.first);
        let work = self.connection.transaction()?;
        let mut kept = Keeping { work: &work, run, first };
        for record in records {
            kept.record(record)?;
        }
        if lost > 0 {
            let lost = i64::try_from(lost).unwrap_or(i64::MAX);
            kept.work.execute("UPDATE watch SET lost = lost + ?2 WHERE id = ?1", params![kept.run, lost])?;
        }
        let now = (kept.run, kept.first);
        work.commit()?;
        (self.run, self.first) = now;
        if self.used()? > self.bounds.size {
            self.prune()?;
        }
        Ok(())
    }

    /// Bytes of the file that hold something.
    fn used(&self) -> rusqlite::Result<u64> {
        let number = |name: &str| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let pages = number("page_count")? - number("freelist_count")?;
        Ok(u64::try_from(pages * number("page_size")?).unwrap_or_default())
    }

    /// Takes away what is too old, then the oldest until the file is small enough.
    pub(super) fn prune(&mut self) -> rusqlite::Result<()> {
        let age = i64::try_from(self.bounds.age.as_nanos()).unwrap_or(i64::MAX);
        let before = super::keeper::epoch().saturating_sub(age);
        let work = self.connection.transaction()?;
        work.execute("DELETE FROM change WHERE at < ?1", [before])?;
        for table in ["door", "finding"] {
            work.execute(&format!("DELETE FROM {table} WHERE open = 0 AND last_seen < ?1"), [before])?;
        }
        work.execute("DELETE FROM talk WHERE last_seen < ?1", [before])?;
        work.execute("DELETE FROM watch WHERE until < ?1 AND id <> ?2", params![before, self.run])?;
        work.commit()?;
        // Each round takes a part of what there is, so they end.
        while self.used()? > self.bounds.size / SLICE * 9 && self.slice()? {}
        // Each step gives one page back.
        let mut vacuum = self.connection.prepare("PRAGMA incremental_vacuum")?;
        let mut pages = vacuum.query([])?;
        while pages.next()?.is_some() {}
        Ok(())
    }

    /// Takes away a tenth of everything: what is oldest, and stands no more as long as there is such;
    /// says whether there was anything.
    fn slice(&mut self) -> rusqlite::Result<bool> {
        let work = self.connection.transaction()?;
        let mut gone = 0;
        for (table, key, age) in [
            ("change", "id", "at"),
            ("talk", "id", "last_seen"),
            ("door", "id", "open > 0, last_seen"),
            ("finding", "fingerprint", "open > 0, last_seen"),
        ] {
            let part = format!("(SELECT (COUNT(*) + {SLICE} - 1) / {SLICE} FROM {table})");
            let oldest = format!("SELECT {key} FROM {table} ORDER BY {age} LIMIT {part}");
            gone += work.execute(&format!("DELETE FROM {table} WHERE {key} IN ({oldest})"), [])?;
        }
        work.commit()?;
        Ok(gone > 0)
    }
}

struct Keeping<'t> {
    work: &'t Transaction<'t>,
    run: i64,
    first: bool,
}

impl Keeping<'_> {
    fn record(&mut self, record: &Record) -> rusqlite::Result<()> {
        match record {
            Record::Start { at, doors, findings, own } => self.start(*at, doors, findings, own.as_deref()),
            Record::Change(change) => {
                self.change(change)?;
                self.alive(change.at)
            }
            Record::Scan { at, talks } => {
                talks.iter().try_for_each(|talk| self.talk(*at, talk))?;
                self.alive(*at)
            }
        }
    }

    /// The watch was there at this moment.
    fn alive(&mut self, at: i64) -> rusqlite::Result<()> {
        if self.run == 0 {
            return self.began(at);
        }
        let mut set = self.work.prepare_cached("UPDATE watch SET until = MAX(until, ?2) WHERE id = ?1")?;
        set.execute(params![self.run, at]).map(drop)
    }

    fn began(&mut self, at: i64) -> rusqlite::Result<()> {
        let insert = "INSERT INTO watch (began, until, version) VALUES (?1, ?1, ?2)";
        self.work.execute(insert, params![at, env!("CARGO_PKG_VERSION")])?;
        self.run = self.work.last_insert_rowid();
        Ok(())
    }

    /// What stood at the end of the last watch and stands no more has closed in between, and the
    /// other way round.
    fn start(
        &mut self,
        at: i64,
        doors: &[Door],
        findings: &[Said],
        own: Option<&[u8]>,
    ) -> rusqlite::Result<()> {
        let until: Option<i64> = self.work.query_row("SELECT MAX(until) FROM watch", [], |row| row.get(0))?;
        self.began(at)?;
        let scope = "(?1 IS NULL OR netns = ?1)";
        self.work.execute(&format!("UPDATE door SET stood = open, open = 0 WHERE {scope}"), [own])?;
        self.work.execute("UPDATE finding SET stood = open, open = 0", [])?;
        for door in doors {
            let (id, stood, open) = self.meet(door)?;
            if !stood && !self.first && open == 1 {
                self.note(at, ChangeKind::Opened, "start", None, Some((id, door)), None)?;
            }
        }
        for said in findings {
            if !self.say(at, said)? && !self.first {
                self.note(at, ChangeKind::Finding, "start", None, None, Some(said))?;
            }
        }
        let until = until.unwrap_or(at);
        let gone =
            "INSERT INTO change (at, change, seen_by, was, was_address, was_port, was_name, was_pid, was_exe,
              was_reach, was_certain)
            SELECT ?2, 'closed', 'start', id, address, port, name, pid, exe, reach, certain FROM door
            WHERE stood > 0 AND open = 0";
        self.work.execute(&format!("{gone} AND {scope}"), params![own, at])?;
        let last = "UPDATE door SET last_seen = MAX(last_seen, ?2) WHERE stood > 0 AND open = 0";
        self.work.execute(&format!("{last} AND {scope}"), params![own, until])?;
        let gone = "INSERT INTO change (at, change, seen_by, finding)
            SELECT ?1, 'cleared', 'start', fingerprint FROM finding WHERE stood > 0 AND open = 0";
        self.work.execute(gone, [at])?;
        let last = "UPDATE finding SET last_seen = MAX(last_seen, ?1) WHERE stood > 0 AND open = 0";
        self.work.execute(last, [until])?;
        self.work.execute("UPDATE door SET stood = 0 WHERE stood <> 0", [])?;
        self.work.execute("UPDATE finding SET stood = 0 WHERE stood <> 0", [])?;
        self.first = false;
        Ok(())
    }

    /// One more socket at this door: its number, whether it stood when the last watch ended, and
    /// how many there are now.
    fn meet(&self, door: &Door) -> rusqlite::Result<(i64, bool, i64)> {
        let find = "UPDATE door SET open = open + 1, times = times + (stood = 0 AND open = 0),
              last_seen = MAX(last_seen, ?4), reach = ?5, certain = ?6
            WHERE netns = ?1 AND place = ?2 AND program = ?3 RETURNING id, stood > 0, open";
        let (reach, certain) = door.reach.map(|(reach, certain)| (reach.name(), certain)).unzip();
        let mut find = self.work.prepare_cached(find)?;
        let known = find
            .query_row(params![door.netns, door.place, door.program, door.seen, reach, certain], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        match known {
            Some(known) => Ok(known),
            None => self.insert(door, 1).map(|id| (id, false, 1)),
        }
    }

    fn insert(&self, door: &Door, open: i64) -> rusqlite::Result<i64> {
        let insert = format!(
            "INSERT INTO door (netns, place, program, protocol, address, port, name, {}, reach, certain, first_seen,
               last_seen, times, open)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?18, 1, ?19)",
            row::HOLDER
        );
        let (address, port, name) = row::columns(&door.local);
        let who = Who::of(door.holder.as_ref());
        let (reach, certain) = door.reach.map(|(reach, certain)| (reach.name(), certain)).unzip();
        self.work.prepare_cached(&insert)?.execute(params![
            door.netns,
            door.place,
            door.program,
            door.protocol.name(),
            address,
            port,
            name,
            who.pid,
            who.texts[0],
            who.texts[1],
            who.texts[2],
            who.texts[3],
            who.texts[4],
            who.texts[5],
            who.texts[6],
            reach,
            certain,
            door.seen,
            open
        ])?;
        Ok(self.work.last_insert_rowid())
    }

    /// One socket fewer.
    fn leave(&self, door: &Door) -> rusqlite::Result<i64> {
        let find = "UPDATE door SET open = MAX(0, open - 1), last_seen = MAX(last_seen, ?4)
            WHERE netns = ?1 AND place = ?2 AND program = ?3 RETURNING id";
        let mut find = self.work.prepare_cached(find)?;
        let known = find
            .query_row(params![door.netns, door.place, door.program, door.seen], |row| row.get(0))
            .optional()?;
        known.map_or_else(|| self.insert(door, 0), Ok)
    }

    fn change(&mut self, change: &Change) -> rusqlite::Result<()> {
        if let Some(said) = &change.finding {
            match change.kind {
                ChangeKind::Cleared => {
                    let set =
                        "UPDATE finding SET open = 0, last_seen = MAX(last_seen, ?2) WHERE fingerprint = ?1";
                    self.work.execute(set, params![said.fingerprint, change.at])?;
                }
                ChangeKind::Opened
                | ChangeKind::Closed
                | ChangeKind::Reach
                | ChangeKind::Owner
                | ChangeKind::Finding => drop(self.say(change.at, said)?),
            }
            return self.note(change.at, change.kind, change.seen_by, None, None, Some(said));
        }
        let (before, after) = match (&change.before, &change.after) {
            (Some(before), Some(after)) if before.is_same(after) => {
                let (id, _, open) = self.meet(after)?;
                // It was counted already.
                let set = "UPDATE door SET open = ?2 WHERE id = ?1";
                self.work.prepare_cached(set)?.execute(params![id, (open - 1).max(1)])?;
                (Some((id, before)), Some((id, after)))
            }
            (before, after) => {
                let before = before.as_ref().map(|door| Ok::<_, rusqlite::Error>((self.leave(door)?, door)));
                let after = after.as_ref().map(|door| Ok::<_, rusqlite::Error>((self.meet(door)?.0, door)));
                (before.transpose()?, after.transpose()?)
            }
        };
        self.note(change.at, change.kind, change.seen_by, before, after, None)
    }

    /// Notes a finding; says whether it stood already.
    fn say(&self, at: i64, said: &Said) -> rusqlite::Result<bool> {
        let find = "UPDATE finding SET times = times + (open = 0 AND stood = 0), open = 1, last_seen = MAX(last_seen, ?2),
              severity = ?3, title = ?4, message = ?5, rule = ?6
            WHERE fingerprint = ?1 RETURNING stood > 0";
        let values = params![said.fingerprint, at, said.severity.name(), said.title, said.message, said.rule];
        let known = self.work.prepare_cached(find)?.query_row(values, |row| row.get(0)).optional()?;
        if let Some(stood) = known {
            return Ok(stood);
        }
        let insert = "INSERT INTO finding (fingerprint, first_seen, last_seen, severity, title, message, rule, times, open)
            VALUES (?1, ?2, ?2, ?3, ?4, ?5, ?6, 1, 1)";
        self.work.prepare_cached(insert)?.execute(values)?;
        Ok(false)
    }

    fn note(
        &self,
        at: i64,
        kind: ChangeKind,
        seen_by: &str,
        before: Option<(i64, &Door)>,
        after: Option<(i64, &Door)>,
        finding: Option<&Said>,
    ) -> rusqlite::Result<()> {
        let insert = "INSERT INTO change (at, change, seen_by,
              door, address, port, name, pid, exe, reach, certain,
              was, was_address, was_port, was_name, was_pid, was_exe, was_reach, was_certain, finding)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)";
        let (is, was) = (Sight::of(after), Sight::of(before));
        self.work.prepare_cached(insert)?.execute(params![
            at,
            kind.name(),
            seen_by,
            is.door,
            is.local.0,
            is.local.1,
            is.local.2,
            is.pid,
            is.exe,
            is.reach.map(|(name, _)| name),
            is.reach.map(|(_, certain)| certain),
            was.door,
            was.local.0,
            was.local.1,
            was.local.2,
            was.pid,
            was.exe,
            was.reach.map(|(name, _)| name),
            was.reach.map(|(_, certain)| certain),
            finding.map(|said| &said.fingerprint),
        ])?;
        Ok(())
    }

    fn talk(&self, at: i64, talk: &Talk) -> rusqlite::Result<()> {
        let insert = format!(
            "INSERT INTO talk (netns, program, protocol, role, peer, port, {}, first_seen, last_seen, times)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?15, ?16)
             ON CONFLICT DO UPDATE SET last_seen = MAX(last_seen, ?15), times = times + ?16",
            row::HOLDER
        );
        let who = Who::of(talk.holder.as_ref());
        let key = &talk.key;
        self.work.prepare_cached(&insert)?.execute(params![
            key.netns,
            key.program,
            key.protocol.name(),
            key.role.name(),
            key.peer.to_string(),
            key.port,
            who.pid,
            who.texts[0],
            who.texts[1],
            who.texts[2],
            who.texts[3],
            who.texts[4],
            who.texts[5],
            who.texts[6],
            at,
            i64::try_from(talk.new).unwrap_or(i64::MAX),
        ])?;
        Ok(())
    }
}

/// The columns of a holder, in the order of `row::HOLDER`.
struct Who<'h> {
    pid: Option<u32>,
    texts: [Option<&'h [u8]>; 7],
}

impl<'h> Who<'h> {
    fn of(holder: Option<&'h PastHolder>) -> Self {
        let Some(holder) = holder else { return Self { pid: None, texts: [None; 7] } };
        let text = |text: &'h Option<crate::model::Text>| text.as_ref().map(crate::model::Text::as_bytes);
        let PastHolder { pid, name, exe, user, unit, container, package, parent } = holder;
        let texts = [
            Some(name.as_bytes()),
            text(exe),
            text(user),
            text(unit),
            text(container),
            text(package),
            text(parent),
        ];
        Self { pid: Some(*pid), texts }
    }
}

/// A door at the moment of a change.
struct Sight<'d> {
    door: Option<i64>,
    local: row::Columns,
    pid: Option<u32>,
    exe: Option<&'d [u8]>,
    reach: Option<(&'static str, bool)>,
}

impl<'d> Sight<'d> {
    fn of(seen: Option<(i64, &'d Door)>) -> Self {
        let Some((id, door)) = seen else {
            return Self { door: None, local: (None, None, None), pid: None, exe: None, reach: None };
        };
        let holder = door.holder.as_ref();
        Self {
            door: Some(id),
            local: row::columns(&door.local),
            pid: holder.map(|holder| holder.pid),
            exe: holder.and_then(|holder| holder.exe.as_ref()).map(crate::model::Text::as_bytes),
            reach: door.reach.map(|(reach, certain)| (reach.name(), certain)),
        }
    }
}
