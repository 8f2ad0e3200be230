//! The tables. Foreign text is kept as bytes (BLOB), times as nanoseconds since the epoch.

/// "SWH1" in the head of the file (sqlite.org/pragma.html, `application_id`).
pub(super) const APPLICATION: i32 = 0x5357_4831;
pub(super) const VERSION: i32 = 1;

pub(super) const TABLES: &str = "
CREATE TABLE watch (
  id INTEGER PRIMARY KEY, began INTEGER NOT NULL, until INTEGER NOT NULL, version TEXT NOT NULL,
  lost INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE door (
  id INTEGER PRIMARY KEY, netns BLOB NOT NULL, place BLOB NOT NULL, program BLOB NOT NULL,
  protocol TEXT NOT NULL, address TEXT, port INTEGER, name BLOB,
  pid INTEGER, process BLOB, exe BLOB, user BLOB, unit BLOB, container BLOB, package BLOB, parent BLOB,
  reach TEXT, certain INTEGER,
  first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL, times INTEGER NOT NULL,
  open INTEGER NOT NULL, stood INTEGER NOT NULL DEFAULT 0,
  UNIQUE (netns, place, program)
);
CREATE INDEX door_port ON door (port);
CREATE INDEX door_age ON door (open, last_seen);
CREATE TABLE finding (
  fingerprint TEXT PRIMARY KEY, rule TEXT NOT NULL, title TEXT NOT NULL, severity TEXT NOT NULL,
  message TEXT NOT NULL, first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL,
  times INTEGER NOT NULL, open INTEGER NOT NULL, stood INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE change (
  id INTEGER PRIMARY KEY, at INTEGER NOT NULL, change TEXT NOT NULL, seen_by TEXT NOT NULL,
  door INTEGER, address TEXT, port INTEGER, name BLOB, pid INTEGER, exe BLOB, reach TEXT, certain INTEGER,
  was INTEGER, was_address TEXT, was_port INTEGER, was_name BLOB, was_pid INTEGER, was_exe BLOB,
  was_reach TEXT, was_certain INTEGER,
  finding TEXT
);
CREATE INDEX change_at ON change (at);
CREATE TABLE talk (
  id INTEGER PRIMARY KEY, netns BLOB NOT NULL, program BLOB NOT NULL, protocol TEXT NOT NULL,
  role TEXT NOT NULL, peer TEXT NOT NULL, port INTEGER NOT NULL,
  pid INTEGER, process BLOB, exe BLOB, user BLOB, unit BLOB, container BLOB, package BLOB, parent BLOB,
  first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL, times INTEGER NOT NULL,
  UNIQUE (netns, program, protocol, role, peer, port)
);
CREATE INDEX talk_peer ON talk (peer);
CREATE INDEX talk_age ON talk (last_seen);
";
