//! The file system of one process: nothing leads out of it, no device is opened, no dead mount waited for.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};

use super::FileStat;
use super::file::{Decimal, file_stat, list, read_file, read_link};
use super::mounts::Doubt;

/// How long a mount may take before it counts as dead.
const MOUNT_PATIENCE: Duration = Duration::from_secs(2);
/// After so many threads stuck in unknown mounts, doubtful ones are no longer asked.
const STUCK_LIMIT: u32 = 4;

/// The root of one process's file system.
#[derive(Debug)]
pub(crate) struct RootDir {
    root: Arc<OwnedFd>,
    /// Whether some mount could keep us waiting for ever: then a helper thread asks.
    doubt: Doubt,
    /// Our own root, where a kernel without openat2 may be asked in the old way.
    own: bool,
}

impl RootDir {
    pub(super) fn new(root: OwnedFd, doubt: Doubt, own: bool) -> Self {
        Self { root: Arc::new(root), doubt, own }
    }

    pub(crate) fn read(&self, path: &[u8], limit: usize) -> io::Result<Vec<u8>> {
        self.patiently(path, move |place| {
            let found = place.regular()?;
            // The file itself, by way of our own handle: no path is walked a second time.
            let again = format!("/proc/self/fd/{}", found.as_raw_fd());
            read_file(rustix::fs::CWD, &again, limit, true)
        })
    }

    pub(crate) fn read_at(&self, path: &[u8], offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.patiently(path, move |place| {
            let found = place.regular()?;
            let again = format!("/proc/self/fd/{}", found.as_raw_fd());
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
            let file = openat(rustix::fs::CWD, &again, flags, Mode::empty())?;
            let mut bytes = Vec::with_capacity(len);
            while bytes.len() < len {
                let from = offset.saturating_add(bytes.len() as u64);
                if rustix::io::pread(&file, rustix::buffer::spare_capacity(&mut bytes), from)? == 0 {
                    break;
                }
            }
            bytes.truncate(len);
            Ok(bytes)
        })
    }

    pub(crate) fn stat(&self, path: &[u8]) -> io::Result<FileStat> {
        self.patiently(path, |place| Ok(file_stat(&fstat(place.find(OFlags::empty())?)?)))
    }

    pub(crate) fn read_link(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        self.patiently(path, |place| {
            let found = place.find(OFlags::NOFOLLOW)?;
            if FileType::from_raw_mode(fstat(&found)?.st_mode) != FileType::Symlink {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            read_link(found.as_fd(), b"")
        })
    }

    pub(crate) fn acl(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        self.patiently(path, |place| {
            let found = place.find(OFlags::empty())?;
            // An O_PATH handle answers no fgetxattr(2); this name for it leads to the file itself.
            let again = format!("/proc/self/fd/{}", found.as_raw_fd());
            let mut list = vec![0; 8192];
            match rustix::fs::getxattr(again, c"system.posix_acl_access", &mut list[..]) {
                Ok(size) => {
                    list.truncate(size);
                    Ok(list)
                }
                Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => Ok(Vec::new()),
                Err(error) => Err(error.into()),
            }
        })
    }

    /// A folder from which many files are read. `None` where it is not there, or where a mount or a
    /// link on the way asks for care: then they are read one by one.
    pub(crate) fn folder(&self, path: &[u8]) -> Option<Folder> {
        let follow = self.doubt.is_none();
        if !follow && !self.doubt.spares(path) {
            return None;
        }
        let place = Place { root: Arc::clone(&self.root), path: path.to_vec(), own: self.own, follow };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Some(Folder {
            dir: place.find(OFlags::DIRECTORY).ok()?,
            handles: openat(rustix::fs::CWD, c"/proc/self/fd", flags, Mode::empty()).ok()?,
            bytes: Vec::with_capacity(64 << 10),
        })
    }

    pub(crate) fn list(&self, path: &[u8], limit: usize) -> io::Result<Vec<Vec<u8>>> {
        self.patiently(path, move |place| {
            let found = place.find(OFlags::DIRECTORY)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            list(openat(&found, c".", flags, Mode::empty())?, limit)
        })
    }

    /// Asks at once where no mount on the way could hang, else in a helper thread with a deadline.
    fn patiently<T: Send + 'static>(
        &self,
        path: &[u8],
        ask: impl FnOnce(Place) -> io::Result<T> + Clone + Send + 'static,
    ) -> io::Result<T> {
        static STUCK: AtomicU32 = AtomicU32::new(0);
        let mut place =
            Place { root: Arc::clone(&self.root), path: path.to_vec(), own: self.own, follow: true };
        if self.doubt.is_none() {
            return ask(place);
        }
        if self.doubt.spares(path) {
            place.follow = false;
            match ask.clone()(place.clone()) {
                Err(error) if error.raw_os_error() == Some(libc::ELOOP) => place.follow = true, // by a link
                answer => return answer,
            }
        }
        if self.doubt.is_dead(path) || STUCK.load(Ordering::Relaxed) >= STUCK_LIMIT {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let (answer, wait) = mpsc::sync_channel(1);
        std::thread::Builder::new().spawn(move || answer.send(ask(place)))?;
        wait.recv_timeout(MOUNT_PATIENCE).unwrap_or_else(|_| {
            if !self.doubt.declare_dead(path) {
                STUCK.fetch_add(1, Ordering::Relaxed);
            }
            Err(io::ErrorKind::TimedOut.into())
        })
    }
}

/// See [`RootDir::folder`].
pub(crate) struct Folder {
    dir: OwnedFd,
    /// /proc/self/fd
    handles: OwnedFd,
    bytes: Vec<u8>,
}

impl Folder {
    /// The whole of a regular file that lies in the folder itself.
    pub(crate) fn read(&mut self, name: &[u8], limit: usize) -> io::Result<&[u8]> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let found = openat2(&self.dir, name, flags, Mode::empty(), resolve)?;
        if FileType::from_raw_mode(fstat(&found)?.st_mode) != FileType::RegularFile {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let number = u32::try_from(found.as_raw_fd()).map_err(io::Error::other)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = openat(&self.handles, Decimal::default().of(number), flags, Mode::empty())?;
        self.bytes.clear();
        loop {
            let room = self.bytes.capacity() - self.bytes.len();
            // A regular file gives less than there is room for at its end only.
            if rustix::io::read(&file, rustix::buffer::spare_capacity(&mut self.bytes))? < room {
                break;
            }
            if self.bytes.len() > limit {
                break;
            }
            self.bytes.reserve(self.bytes.len().max(4096));
        }
        if self.bytes.len() > limit { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(&self.bytes) }
    }
}

#[derive(Clone)]
struct Place {
    root: Arc<OwnedFd>,
    path: Vec<u8>,
    own: bool,
    /// Without it a link on the way is an error (`ELOOP`).
    follow: bool,
}

impl Place {
    fn regular(&self) -> io::Result<OwnedFd> {
        let found = self.find(OFlags::empty())?;
        if FileType::from_raw_mode(fstat(&found)?.st_mode) != FileType::RegularFile {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(found)
    }

    /// A handle that can only be looked at (`O_PATH`), never a device that was opened.
    fn find(&self, extra: OFlags) -> io::Result<OwnedFd> {
        let inside: &[u8] = match self.path.iter().position(|byte| *byte != b'/') {
            Some(start) => &self.path[start..],
            None => b".",
        };
        let flags = OFlags::PATH | OFlags::CLOEXEC | extra;
        let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        if !self.follow {
            resolve |= ResolveFlags::NO_SYMLINKS;
        }
        match openat2(&self.root, inside, flags, Mode::empty(), resolve) {
            Err(rustix::io::Errno::NOSYS) if self.own && !self.follow => Err(rustix::io::Errno::LOOP.into()),
            Err(rustix::io::Errno::NOSYS) if self.own => {
                Ok(openat(&self.root, inside, flags, Mode::empty())?)
            }
            found => Ok(found?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::source::Source;

    /// The same from a folder as a whole and file by file.
    #[test]
    fn a_folder_gives_what_its_files_give() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let long = vec![b'x'; 200_000];
        std::fs::write(at("short"), "text").unwrap();
        std::fs::write(at("empty"), "").unwrap();
        std::fs::write(at("long"), &long).unwrap();
        std::fs::write(at("full"), vec![b'y'; 64 << 10]).unwrap();
        std::fs::write(at("too-long"), vec![b'z'; 200_001]).unwrap();
        std::os::unix::fs::symlink("short", at("link")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
        let source = Source::live().unwrap();
        let root = source.root(0).unwrap();
        let mut seen = BTreeMap::new();
        let wanted = |name: &[u8]| name != b"full";
        let dir = folder.path().to_str().unwrap();
        root.each_file(dir, 200_000, wanted, |name, read| {
            let read = read.map(<[u8]>::to_vec).map_err(|error| error.kind());
            seen.insert(String::from_utf8(name.to_vec()).unwrap(), read);
        })
        .unwrap();
        for (name, read) in &seen {
            let alone = root.read(at(name).as_os_str().as_encoded_bytes(), 200_000);
            assert_eq!(read, &alone.map_err(|error| error.kind()), "{name}");
        }
        assert_eq!(seen.keys().collect::<Vec<_>>(), ["empty", "link", "long", "pipe", "short", "too-long"]);
        assert_eq!(seen["link"].as_deref(), Ok(&b"text"[..]));
        assert_eq!(seen["long"], Ok(long));
        assert!(seen["pipe"].is_err() && seen["too-long"].is_err());
        assert!(root.each_file("/no/such/folder", 1, |_| true, |_, _| ()).is_err());
    }
}
