//! Whose files are believed: a rule or suppression that another user can change would decide what
//! this user is told.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::settings::shown;
use crate::model::Problem;

/// More than any configuration a person writes.
const FILE_LIMIT: u64 = 1 << 20;
const FOLDER_LIMIT: usize = 10_000;
const DEPTH_LIMIT: usize = 8;

/// Whom a file may belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trust {
    /// The effective user of this run.
    me: u32,
    /// Owners that are believed.
    owners: Vec<u32>,
}

/// Why a file was not taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    Untrusted(String),
    Unreadable(io::Error),
}

impl Refusal {
    pub(crate) fn into_problem(self, file: &Path) -> Problem {
        let (message, help) = match self {
            Self::Untrusted(message) => {
                (message, Some(format!("chown root {0}; chmod go-w {0}", shown(file))))
            }
            Self::Unreadable(error) => (error.to_string(), None),
        };
        Problem { file: shown(file), source: Arc::from(""), span: None, message, help }
    }
}

impl Trust {
    /// Root believes root; a user believes root and themselves.
    pub(crate) fn of_this_user() -> Self {
        let me = effective_uid();
        Self { me, owners: if me == 0 { vec![0] } else { vec![0, me] } }
    }

    /// For files below /etc, which only root may have written.
    pub(crate) fn system() -> Self {
        Self { me: effective_uid(), owners: vec![0] }
    }

    pub(crate) fn is_root(&self) -> bool {
        self.me == 0
    }

    /// Reads a file whose owner and permissions are in order, through one handle.
    pub(crate) fn read(&self, file: &Path) -> Result<String, Refusal> {
        let mut handle = open(file).map_err(Refusal::Unreadable)?;
        let metadata = handle.metadata().map_err(Refusal::Unreadable)?;
        if !metadata.is_file() {
            return Err(Refusal::Untrusted("is not a regular file".to_owned()));
        }
        self.judge(&metadata).map_err(Refusal::Untrusted)?;
        let mut text = String::new();
        let length = handle.by_ref().take(FILE_LIMIT + 1).read_to_string(&mut text);
        if length.map_err(Refusal::Unreadable)? as u64 > FILE_LIMIT {
            return Err(Refusal::Untrusted(format!("is longer than {FILE_LIMIT} bytes")));
        }
        Ok(text)
    }

    /// Looks at a folder, all that is in it, and, for root, the folders above: whoever can rename
    /// one of those can put another in its place.
    pub(crate) fn check_tree(&self, folder: &Path) -> Result<(), Vec<Problem>> {
        let mut problems = Vec::new();
        let mut left = FOLDER_LIMIT;
        if self.is_root() {
            let whole = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
            for above in whole.ancestors().skip(1) {
                self.check(above, &mut problems);
            }
        }
        self.walk(folder, 0, &mut left, &mut problems);
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn walk(&self, place: &Path, depth: usize, left: &mut usize, problems: &mut Vec<Problem>) {
        if *left == 0 || depth > DEPTH_LIMIT {
            let message = format!("holds more than {FOLDER_LIMIT} files or {DEPTH_LIMIT} levels");
            problems.push(Refusal::Untrusted(message).into_problem(place));
            return;
        }
        *left -= 1;
        if !self.check(place, problems) {
            return;
        }
        match children(place) {
            Ok(children) => children.iter().for_each(|child| self.walk(child, depth + 1, left, problems)),
            Err(error) => problems.push(Refusal::Unreadable(error).into_problem(place)),
        }
    }

    /// Whether the place is a folder in good order; what is not is told.
    fn check(&self, place: &Path, problems: &mut Vec<Problem>) -> bool {
        let judged = std::fs::metadata(place).map_err(Refusal::Unreadable).and_then(|metadata| {
            self.judge(&metadata).map_err(Refusal::Untrusted)?;
            Ok(metadata.is_dir())
        });
        judged.unwrap_or_else(|refusal| {
            problems.push(refusal.into_problem(place));
            false
        })
    }

    #[cfg(unix)]
    fn judge(&self, metadata: &Metadata) -> Result<(), String> {
        use std::os::unix::fs::MetadataExt as _;
        if !self.owners.contains(&metadata.uid()) {
            return Err(format!("belongs to user {}, who is not trusted here", metadata.uid()));
        }
        // A user's own group often is private (umask 002), and a sticky folder keeps its entries.
        let group = if self.is_root() && metadata.gid() != 0 { 0o020 } else { 0 };
        let sticky = metadata.is_dir() && metadata.mode() & 0o1000 != 0;
        if metadata.mode() & (0o002 | group) != 0 && !sticky {
            return Err(format!("can be written by others (mode {:04o})", metadata.mode() & 0o7777));
        }
        Ok(())
    }

    #[cfg(not(unix))]
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "the same signature on every system")]
    fn judge(&self, _: &Metadata) -> Result<(), String> {
        Ok(())
    }
}

/// What stands in a folder, in order; nothing for a file.
fn children(place: &Path) -> io::Result<Vec<PathBuf>> {
    if !place.is_dir() {
        return Ok(Vec::new());
    }
    let mut children =
        std::fs::read_dir(place)?.map(|entry| entry.map(|e| e.path())).collect::<io::Result<Vec<_>>>()?;
    children.sort();
    Ok(children)
}

/// Opens without waiting for the other end of a FIFO.
#[cfg(unix)]
fn open(file: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    File::options().read(true).custom_flags(flags.bits().cast_signed()).open(file)
}

#[cfg(not(unix))]
fn open(file: &Path) -> io::Result<File> {
    File::open(file)
}

#[cfg(unix)]
fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(not(unix))]
fn effective_uid() -> u32 {
    u32::MAX
}
