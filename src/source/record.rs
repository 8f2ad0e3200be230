//! A recorded machine: one small file for each thing that was read.
//!
//! `proc/` mirrors /proc, with links as links; `netlink/NAMESPACE/NAME` holds the kernel's bytes;
//! `netns/NAMESPACE/` what /proc shows inside a namespace; `root/PID/` what was looked up in a
//! process's own file system; `answers/` everything else. What could not be read is kept too, as
//! the number of the error in `NAME.errno`.

#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::netlink::NetlinkError;
use super::{FILE_LIMIT, FileStat};

const VERSION_FILE: &str = "sockwarden-recording";
const VERSION: &str = "1\n";

/// Writes what a live source reads.
#[derive(Debug)]
pub(crate) struct Tee {
    dir: PathBuf,
    /// The first thing that went wrong.
    failed: Mutex<Option<io::Error>>,
}

impl Tee {
    pub(crate) fn create(dir: &Path) -> io::Result<Self> {
        make_private(dir)?;
        if fs::read_dir(dir)?.next().is_some() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the folder is not empty"));
        }
        fs::write(dir.join(VERSION_FILE), VERSION)?;
        Ok(Self { dir: dir.to_owned(), failed: Mutex::new(None) })
    }

    pub(crate) fn finish(&self) -> io::Result<()> {
        let mut failed = self.failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        failed.take().map_or(Ok(()), Err)
    }

    fn note<T>(&self, done: io::Result<T>) {
        if let Err(error) = done {
            let mut failed = self.failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            failed.get_or_insert(error);
        }
    }

    pub(crate) fn file(&self, area: &str, path: &str, found: &io::Result<Vec<u8>>) {
        self.note(self.store(&self.place(area, path), found));
    }

    fn place(&self, area: &str, path: &str) -> PathBuf {
        self.dir.join(area).join(path)
    }

    fn store(&self, place: &Path, found: &io::Result<Vec<u8>>) -> io::Result<()> {
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        match found {
            Ok(bytes) => fs::write(place, bytes),
            Err(error) => self.store_error(place, error),
        }
    }

    fn store_error(&self, place: &Path, error: &io::Error) -> io::Result<()> {
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(errno_place(place), errno_of(error).to_string())
    }

    pub(crate) fn link(&self, area: &str, path: &str, found: &io::Result<Vec<u8>>) {
        let place = self.place(area, path);
        self.note(match found {
            Ok(target) => self.store_link(&place, target),
            Err(error) => self.store_error(&place, error),
        });
    }

    fn store_link(&self, place: &Path, target: &[u8]) -> io::Result<()> {
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        match write_link(place, target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(place)?;
                write_link(place, target)
            }
            done => done,
        }
    }

    pub(crate) fn folder(&self, area: &str, path: &str, done: &io::Result<()>) {
        let place = self.place(area, path);
        self.note(match done {
            Ok(()) => fs::create_dir_all(place),
            Err(error) => self.store_error(&place, error),
        });
    }

    pub(crate) fn list(&self, area: &str, path: &str, found: &io::Result<Vec<String>>) {
        let place = self.place(area, path);
        self.note(match found {
            Ok(names) => fs::create_dir_all(&place).and_then(|()| {
                names.iter().filter(|name| name.parse::<u32>().is_ok()).try_for_each(|name| {
                    // Only threads need to be found again; descriptors stand there as links.
                    if path.ends_with("/task") { fs::create_dir_all(place.join(name)) } else { Ok(()) }
                })
            }),
            Err(error) => self.store_error(&place, error),
        });
    }

    pub(crate) fn pids(&self, pids: &[u32]) {
        for pid in pids {
            self.note(fs::create_dir_all(self.place("proc", &pid.to_string())));
        }
    }

    pub(crate) fn stat(&self, path: &str, found: &io::Result<FileStat>) {
        let bytes = match found {
            Ok(stat) => serde_json::to_vec(stat).map_err(io::Error::other),
            Err(error) => Err(io::Error::from_raw_os_error(errno_of(error))),
        };
        self.file("answers", path, &bytes);
    }

    pub(crate) fn netlink(&self, key: &str, bytes: &[u8], done: &Result<(), NetlinkError>) {
        let place = self.place("netlink", key);
        // An error that the kernel sent stands in the bytes; only others need a note.
        self.note(match done {
            Err(error) if bytes.is_empty() => self.store_error(&place, &io::Error::from(error)),
            Ok(()) | Err(_) => self.store(&place, &Ok(bytes.to_vec())),
        });
    }

    /// A lookup in a process's own file system. `path` is foreign text.
    pub(crate) fn rooted(&self, pid: u32, path: &[u8], what: &str, found: &io::Result<Vec<u8>>) {
        self.note(self.store(&rooted_place(&self.dir, pid, path, what), found));
    }
}

impl From<&NetlinkError> for io::Error {
    fn from(error: &NetlinkError) -> Self {
        match error {
            NetlinkError::Missing(error) | NetlinkError::Refused(error) | NetlinkError::Failed(error) => {
                Self::from_raw_os_error(errno_of(error))
            }
            NetlinkError::Interrupted => Self::from_raw_os_error(105),
            NetlinkError::Short => Self::from_raw_os_error(EIO),
        }
    }
}

/// Reads what a [`Tee`] wrote.
#[derive(Debug)]
pub(crate) struct Recording {
    dir: PathBuf,
}

impl Recording {
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let version = fs::read(dir.join(VERSION_FILE)).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                io::Error::new(io::ErrorKind::InvalidData, "not a recording of sockwarden")
            } else {
                error
            }
        })?;
        if version != VERSION.as_bytes() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a recording of another version"));
        }
        Ok(Self { dir: fs::canonicalize(dir)? })
    }

    pub(crate) fn file(&self, area: &str, path: &str) -> io::Result<Vec<u8>> {
        self.load(&self.dir.join(area).join(path))
    }

    pub(crate) fn link(&self, area: &str, path: &str) -> io::Result<Vec<u8>> {
        let place = self.dir.join(area).join(path);
        stored_error(&place)?;
        read_link(&place)
    }

    pub(crate) fn process(&self, pid: u32) -> io::Result<()> {
        fs::metadata(self.dir.join("proc").join(pid.to_string())).map(|_| ())
    }

    pub(crate) fn pids(&self) -> io::Result<Vec<u32>> {
        let mut pids: Vec<u32> = self.list("proc", "")?.iter().filter_map(|name| name.parse().ok()).collect();
        pids.sort_unstable();
        Ok(pids)
    }

    pub(crate) fn list(&self, area: &str, path: &str) -> io::Result<Vec<String>> {
        let place = self.dir.join(area).join(path);
        stored_error(&place)?;
        let mut names = Vec::new();
        for entry in fs::read_dir(place)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    pub(crate) fn stat(&self, path: &str) -> io::Result<FileStat> {
        let bytes = self.file("answers", path)?;
        serde_json::from_slice(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    pub(crate) fn each_link(&self, path: &str, take: &mut dyn FnMut(i32, &[u8])) -> io::Result<()> {
        let place = self.dir.join("proc").join(path);
        let mut numbers: Vec<i32> =
            self.list("proc", path)?.iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        for number in numbers {
            if let Ok(target) = read_link(&place.join(number.to_string())) {
                take(number, &target);
            }
        }
        Ok(())
    }

    pub(crate) fn has_table(&self, pid: u32, thread: u32) -> bool {
        let folder = self.dir.join(format!("proc/{pid}/task/{thread}/fd"));
        folder.exists() || errno_place(&folder).exists()
    }

    pub(crate) fn netlink(&self, key: &str) -> Result<Vec<u8>, NetlinkError> {
        Ok(self.file("netlink", key)?)
    }

    pub(crate) fn rooted(&self, pid: u32, path: &[u8], what: &str) -> io::Result<Vec<u8>> {
        self.load(&rooted_place(&self.dir, pid, path, what))
    }

    fn load(&self, place: &Path) -> io::Result<Vec<u8>> {
        stored_error(place)?;
        // A recording can come from a stranger: no device, no pipe, nothing without end, and no
        // link that leads to a file of ours.
        let place = fs::canonicalize(place)?;
        let about = fs::metadata(&place)?;
        if !about.is_file() || !place.starts_with(&self.dir) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if about.len() > FILE_LIMIT as u64 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        fs::read(place)
    }
}

fn stored_error(place: &Path) -> io::Result<()> {
    match fs::read_to_string(errno_place(place)) {
        Ok(number) => Err(io::Error::from_raw_os_error(number.trim().parse().unwrap_or(EIO))),
        Err(_) => Ok(()),
    }
}

const EIO: i32 = 5;

fn errno_place(place: &Path) -> PathBuf {
    let mut name = place.file_name().unwrap_or(OsStr::new("")).to_owned();
    name.push(".errno");
    place.with_file_name(name)
}

/// The kernel's number of an error; for those that never had one, the nearest.
fn errno_of(error: &io::Error) -> i32 {
    const NUMBERS: [(io::ErrorKind, i32); 6] = [
        (io::ErrorKind::InvalidInput, 22),
        (io::ErrorKind::NotFound, 2),
        (io::ErrorKind::PermissionDenied, 13),
        (io::ErrorKind::FileTooLarge, 27),
        (io::ErrorKind::Unsupported, 95),
        (io::ErrorKind::TimedOut, 110),
    ];
    let nearest = NUMBERS.iter().find(|(kind, _)| *kind == error.kind()).map_or(EIO, |(_, number)| *number);
    error.raw_os_error().unwrap_or(nearest)
}

/// Each component of a foreign path becomes a plain file name, so that nothing leaves the folder.
fn rooted_place(dir: &Path, pid: u32, path: &[u8], what: &str) -> PathBuf {
    let mut place = dir.join("root").join(pid.to_string());
    let mut parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).peekable();
    let mut last = String::new();
    while let Some(part) = parts.next() {
        let name = plain_name(part);
        if parts.peek().is_some() {
            place.push(name);
        } else {
            last = name;
        }
    }
    place.join(format!("{last}@{what}"))
}

/// Foreign text as a plain file name.
pub(super) fn plain_name(part: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut name = String::new();
    for (at, byte) in part.iter().enumerate() {
        let plain =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'+') || (*byte == b'.' && at > 0);
        if plain {
            name.push(char::from(*byte));
        } else {
            let _ = write!(name, "%{byte:02x}");
        }
    }
    if name.len() > 200 {
        // FNV-1a keeps long names apart.
        let hash = part.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
        name.truncate(180);
        let _ = write!(name, "%{hash:016x}");
    }
    name
}

#[cfg(unix)]
fn make_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
        }
        done => done,
    }
}

#[cfg(not(unix))]
fn make_private(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)
}

#[cfg(unix)]
fn write_link(place: &Path, target: &[u8]) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    std::os::unix::fs::symlink(OsStr::from_bytes(target), place)
}

#[cfg(not(unix))]
fn write_link(_place: &Path, _target: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(unix)]
fn read_link(place: &Path) -> io::Result<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt as _;
    Ok(fs::read_link(place)?.into_os_string().into_vec())
}

#[cfg(not(unix))]
fn read_link(place: &Path) -> io::Result<Vec<u8>> {
    Ok(fs::read_link(place)?.to_string_lossy().into_owned().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever a path is called, its place stays inside the folder.
    #[test]
    fn foreign_paths_cannot_leave_the_folder() {
        let dir = Path::new("/recording");
        let long = vec![b'x'; 5000];
        for path in [&b"/../../etc/passwd"[..], b"..", b"/a/./b\0c", b"\xff\n", &long] {
            let place = rooted_place(dir, 1, path, "read");
            assert!(place.starts_with("/recording/root/1"), "{place:?}");
            assert!(place.components().all(|part| part.as_os_str().len() <= 255 && part.as_os_str() != ".."));
        }
        assert_ne!(rooted_place(dir, 1, b"/a", "read"), rooted_place(dir, 1, b"/a", "stat"));
        assert_ne!(
            plain_name(&[long.clone(), b"1".to_vec()].concat()),
            plain_name(&[long, b"2".to_vec()].concat())
        );
    }

    #[test]
    fn an_error_is_recorded_with_its_kind() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("host");
        let tee = Tee::create(&dir).unwrap();
        tee.file("proc", "1/environ", &Err(io::Error::from_raw_os_error(13)));
        tee.file("proc", "1/comm", &Ok(b"init\n".to_vec()));
        tee.finish().unwrap();
        let recording = Recording::open(&dir).unwrap();
        assert_eq!(recording.file("proc", "1/environ").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(recording.file("proc", "1/comm").unwrap(), b"init\n");
        assert_eq!(recording.file("proc", "1/maps").unwrap_err().kind(), io::ErrorKind::NotFound);
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("/etc/passwd", dir.join("proc/1/status")).unwrap();
            let foreign = recording.file("proc", "1/status").unwrap_err();
            assert_eq!(foreign.kind(), io::ErrorKind::InvalidData, "a file outside of the recording");
        }
        std::fs::write(dir.join(VERSION_FILE), "2\n").unwrap();
        assert!(Recording::open(&dir).is_err());
    }
}
