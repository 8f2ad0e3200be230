//! /proc/PID, one process behind one handle.

#![allow(unsafe_code, reason = "kcmp has no safe wrapper")]

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, fstat, openat, statat};

use super::FileStat;
use super::file::{Decimal, file_stat, list, number, read_file, read_link};

/// A handle on /proc/PID.
#[derive(Debug)]
pub(crate) struct Dir(pub(super) OwnedFd);

impl Dir {
    pub(crate) fn read(&self, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        read_file(self.0.as_fd(), name, limit, false)
    }

    pub(crate) fn read_link(&self, name: &str) -> io::Result<Vec<u8>> {
        read_link(self.0.as_fd(), name.as_bytes())
    }

    pub(crate) fn list(&self, name: &str) -> io::Result<Vec<String>> {
        let names = list(self.open_dir(name)?, usize::MAX)?;
        Ok(names.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect())
    }

    fn open_dir(&self, name: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat(&self.0, name, flags, Mode::empty())?)
    }

    pub(crate) fn stat(&self, name: &str) -> io::Result<FileStat> {
        use rustix::fs::{StatxFlags, statx};
        // What is cached suffices: nobody waits for the server behind a dead mount.
        let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
        match statx(&self.0, name, flags, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID) {
            Ok(found) => Ok(FileStat {
                device: (found.stx_dev_major, found.stx_dev_minor),
                inode: found.stx_ino,
                mode: found.stx_mode.into(),
                uid: found.stx_uid,
                gid: found.stx_gid,
                links: found.stx_nlink.into(),
                size: found.stx_size,
                mount: if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 { 0 } else { found.stx_mnt_id },
            }),
            // Older kernels, and sandboxes that refuse what they do not know.
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {
                Ok(file_stat(&statat(&self.0, name, AtFlags::empty())?))
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn each_link(
        &self,
        name: &str,
        buffer: &mut LinkBuffer,
        take: &mut dyn FnMut(i32, &[u8]),
    ) -> io::Result<()> {
        let dir = self.open_dir(name)?;
        let LinkBuffer { entries, target } = buffer;
        let mut read =
            |number: u32, name: &CStr| match rustix::fs::readlinkat_raw(&dir, name, &mut target[..]) {
                Ok((target, _)) => {
                    take(number as i32, target);
                    Ok(true)
                }
                // Whoever may list a directory of links may still be forbidden to read them.
                Err(error @ (rustix::io::Errno::ACCESS | rustix::io::Errno::PERM)) => Err(error),
                Err(_) => Ok(false),
            };
        let first = probe(&dir, &mut read)?;
        let mut entries = RawDir::new(&dir, &mut entries[..]);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let number = number(entry.file_name().to_bytes());
            if let Some(number) = number.filter(|number| *number >= first) {
                read(number, entry.file_name())?;
            }
        }
        Ok(())
    }

    pub(crate) fn own_tables(&self, pid: u32, mut threads: Vec<u32>) -> Vec<u32> {
        // A leading thread that has exited has no table any more: then the others' count.
        let leader = threads.iter().copied().find(|thread| *thread == pid && self.has_table());
        match leader {
            Some(leader) => threads.retain(|thread| *thread != leader && !same_table(leader, *thread)),
            None => threads.retain(|thread| *thread != pid),
        }
        threads
    }

    /// The name of the protocol of a socket, as the kernel's own tables call it (xattr(7),
    /// `sockfs_xattr_get` in net/socket.c).
    pub(crate) fn protocol_name(&self, pid: u32, fd: i32) -> io::Result<Vec<u8>> {
        let mut name = [0_u8; 64];
        let path = format!("/proc/{pid}/fd/{fd}");
        let size = rustix::fs::getxattr(path, c"system.sockprotoname", &mut name[..])?;
        // Read by number, not through the handle: still the same process?
        self.stat("stat")?;
        let name = name.get(..size).unwrap_or_default();
        Ok(name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec())
    }

    fn has_table(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 512];
        self.open_dir("fd").is_ok_and(|dir| matches!(RawDir::new(dir, &mut buffer).next(), Some(Ok(_))))
    }
}

/// kcmp(2) with `KCMP_FILES`; false also where nobody can tell.
fn same_table(one: u32, other: u32) -> bool {
    const KCMP_FILES: libc::c_int = 2;
    // SAFETY: kcmp takes plain numbers and touches no memory of ours.
    unsafe {
        libc::syscall(libc::SYS_kcmp, one as libc::pid_t, other as libc::pid_t, KCMP_FILES, 0_u64, 0_u64) == 0
    }
}

/// Tries the numbers of a file table from 0 on, and leaves the folder where listing it goes on.
/// Returns the first number that was not tried.
///
/// Listing a table costs a quarter of what a walk through it costs, and most tables have few holes: of
/// n open descriptors nearly all have a number below n. The count (`st_size`, since Linux 6.2) is a
/// hint and no more: whatever it was, the numbers below the returned one were tried, and all from there
/// on are listed, since `proc_readfd_common` (fs/proc/fd.c) has descriptor n at position n + 2. Without
/// a count everything is listed.
fn probe(
    dir: &OwnedFd,
    read: &mut impl FnMut(u32, &CStr) -> rustix::io::Result<bool>,
) -> rustix::io::Result<u32> {
    const HOLES: u32 = 32;
    let open = fstat(dir).ok().and_then(|stat| u32::try_from(stat.st_size).ok()).unwrap_or(0);
    let (mut number, mut holes) = (0, 0);
    let mut text = Decimal::default();
    while number < open && holes < HOLES {
        holes += u32::from(!read(number, text.of(number))?);
        number += 1;
    }
    if number > 0 {
        rustix::fs::seek(dir, rustix::fs::SeekFrom::Start(u64::from(number) + 2))?;
    }
    Ok(number)
}

pub(crate) struct LinkBuffer {
    entries: Box<[MaybeUninit<u8>]>,
    target: Box<[MaybeUninit<u8>]>,
}

impl std::fmt::Debug for LinkBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkBuffer")
    }
}

impl LinkBuffer {
    pub(crate) fn new() -> Self {
        Self {
            entries: vec![MaybeUninit::uninit(); 32 << 10].into(),
            target: vec![MaybeUninit::uninit(); 4096].into(),
        }
    }
}
