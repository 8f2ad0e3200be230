//! The file system as one process sees it.
//!
//! A path means what it means to that process: links are resolved inside its root, none leads out
//! (openat2(2) with `RESOLVE_IN_ROOT` and `RESOLVE_NO_MAGICLINKS`). No device, pipe or socket is
//! ever opened.

#![forbid(unsafe_code)]

use std::io;

use super::record::{Recording, Tee};
use super::{FileStat, imp};

/// How many names of a directory are returned at most.
const LIST_LIMIT: usize = 200_000;

/// See the module.
#[derive(Debug)]
pub struct Root<'s> {
    pid: u32,
    inner: Inner<'s>,
}

#[derive(Debug)]
enum Inner<'s> {
    Live(imp::RootDir, Option<&'s Tee>),
    Recorded(&'s Recording),
}

impl<'s> Root<'s> {
    pub(super) fn live(opened: io::Result<imp::RootDir>, pid: u32, tee: Option<&'s Tee>) -> io::Result<Self> {
        if let Some(tee) = tee {
            let done = opened.as_ref().map(|_| Vec::new());
            tee.rooted(
                pid,
                b"",
                "root",
                &done.map_err(|error| io::Error::new(error.kind(), error.to_string())),
            );
        }
        Ok(Self { pid, inner: Inner::Live(opened?, tee) })
    }

    pub(super) fn recorded(pid: u32, recording: &'s Recording) -> io::Result<Self> {
        recording.rooted(pid, b"", "root")?;
        Ok(Self { pid, inner: Inner::Recorded(recording) })
    }

    /// The whole of a regular file.
    ///
    /// # Errors
    /// As open(2) and read(2); `FileTooLarge` above `limit` bytes, `InvalidInput` for anything
    /// that is no regular file, `TimedOut` when a dead mount does not answer.
    pub fn read(&self, path: impl AsRef<[u8]>, limit: usize) -> io::Result<Vec<u8>> {
        let path = path.as_ref();
        self.ask(path, "read", |dir| dir.read(path, limit))
    }

    /// `len` bytes of a regular file from `offset` on, fewer only at its end.
    ///
    /// # Errors
    /// As `read`.
    pub fn read_at(&self, path: impl AsRef<[u8]>, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let path = path.as_ref();
        self.ask(path, &format!("read-{offset}-{len}"), |dir| dir.read_at(path, offset, len))
    }

    /// stat(2), links followed.
    ///
    /// # Errors
    /// As stat(2); `TimedOut` when a dead mount does not answer.
    pub fn stat(&self, path: impl AsRef<[u8]>) -> io::Result<FileStat> {
        let path = path.as_ref();
        let bytes =
            self.ask(path, "stat", |dir| serde_json::to_vec(&dir.stat(path)?).map_err(io::Error::other))?;
        serde_json::from_slice(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Where a symbolic link points to.
    ///
    /// # Errors
    /// As readlink(2): `InvalidInput` for what is no link; `TimedOut` as above.
    pub fn read_link(&self, path: impl AsRef<[u8]>) -> io::Result<Vec<u8>> {
        let path = path.as_ref();
        self.ask(path, "link", |dir| dir.read_link(path))
    }

    /// The POSIX access control list of a file (`system.posix_acl_access`), empty where it has none.
    ///
    /// # Errors
    /// As stat(2); `TimedOut` as above.
    pub fn acl(&self, path: impl AsRef<[u8]>) -> io::Result<Vec<u8>> {
        let path = path.as_ref();
        self.ask(path, "acl", |dir| dir.acl(path))
    }

    /// Names in a directory, sorted, without `.` and `..`; at most 200,000.
    ///
    /// # Errors
    /// As open(2) and getdents(2); `TimedOut` as above.
    pub fn list(&self, path: impl AsRef<[u8]>) -> io::Result<Vec<Vec<u8>>> {
        let path = path.as_ref();
        let joined = self.ask(path, "list", |dir| {
            let mut names = dir.list(path, LIST_LIMIT)?;
            names.sort_unstable();
            Ok(names.join(&0))
        })?;
        // No file name holds a NUL byte.
        Ok(joined.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
    }

    /// Hands over the files of a folder whose names are `wanted`, in order of name, each as
    /// [`Root::read`] would read it.
    ///
    /// # Errors
    /// As [`Root::list`].
    pub fn each_file(
        &self,
        folder: &str,
        limit: usize,
        wanted: impl Fn(&[u8]) -> bool,
        mut take: impl FnMut(&[u8], io::Result<&[u8]>),
    ) -> io::Result<()> {
        let mut quick = match &self.inner {
            Inner::Live(dir, None) => dir.folder(folder.as_bytes()),
            Inner::Live(_, Some(_)) | Inner::Recorded(_) => None,
        };
        for name in self.list(folder)?.iter().filter(|name| wanted(name)) {
            if let Some(bytes) = quick.as_mut().and_then(|quick| quick.read(name, limit).ok()) {
                take(name, Ok(bytes));
                continue;
            }
            match self.read([folder.as_bytes(), b"/", name].concat(), limit) {
                Ok(bytes) => take(name, Ok(&bytes)),
                Err(error) => take(name, Err(error)),
            }
        }
        Ok(())
    }

    fn ask(
        &self,
        path: &[u8],
        what: &str,
        read: impl FnOnce(&imp::RootDir) -> io::Result<Vec<u8>>,
    ) -> io::Result<Vec<u8>> {
        match &self.inner {
            Inner::Live(dir, tee) => {
                let found = read(dir);
                if let Some(tee) = tee {
                    tee.rooted(self.pid, path, what, &found);
                }
                found
            }
            Inner::Recorded(recording) => recording.rooted(self.pid, path, what),
        }
    }
}
