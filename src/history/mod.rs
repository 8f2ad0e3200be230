//! What was seen when, on disk: doors with their first and last sighting, every change and finding,
//! and connections counted by program and peer. One SQLite file, which other tools can read too.
//!
//! Written by a thread of its own, so that a slow disk never holds up the watch. What is handed in
//! is committed within a fifth of a second: `kill -9` loses that much and no more. A power cut may
//! lose what the kernel had not yet written, but leaves the file in order (WAL, sqlite.org/wal.html).

#![forbid(unsafe_code)]

mod file;
mod keeper;
mod note;
mod query;
mod row;
mod schema;
mod store;
#[cfg(test)]
mod tests;

pub use keeper::Keeper;
pub use note::{Record, Talks, change, standing};
pub use query::{Past, Span};

use std::path::PathBuf;
use std::time::Duration;

/// Where the system service keeps it.
pub const USUAL: &str = "/var/lib/sockwarden/history.db";

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// What is older goes.
    pub age: Duration,
    /// Bytes of the file, without its log; the oldest goes.
    pub size: u64,
}

/// Why there is no history.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} is no regular file", shown(.0))]
    NoFile(PathBuf),
    #[error("a history's name ends in .db, which {} does not", shown(.0))]
    Name(PathBuf),
    #[error("another watch keeps its history in {}", shown(.0))]
    Busy(PathBuf),
    #[error("{} is no history of sockwarden", shown(.0))]
    Foreign(PathBuf),
    #[error("{} is damaged", shown(.0))]
    Damaged(PathBuf),
    #[error("nothing has been kept in {} yet", shown(.0))]
    Missing(PathBuf),
    #[error("{}", shown(.path))]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}", shown(.path))]
    Database {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
}

fn shown(path: &std::path::Path) -> crate::model::Text {
    path.as_os_str().as_encoded_bytes().into()
}
