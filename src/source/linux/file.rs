//! Files, folders and links, read as they come.

#![forbid(unsafe_code)]

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, RawDir, openat};

use super::FileStat;

pub(super) fn list(dir: OwnedFd, limit: usize) -> io::Result<Vec<Vec<u8>>> {
    let mut buffer = Vec::with_capacity(32 << 10);
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
        if names.len() >= limit {
            break;
        }
    }
    Ok(names)
}

/// Reads a file whole. Above `limit` it is an error when `strict`, else the rest is left out.
pub(super) fn read_file(dir: BorrowedFd<'_>, path: &str, limit: usize, strict: bool) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(openat(dir, path, flags, Mode::empty())?);
    let mut bytes = Vec::with_capacity(4096);
    if comes_at_once(path) {
        rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes))?;
        if bytes.len() < bytes.capacity() && bytes.len() <= limit {
            return Ok(bytes);
        }
    }
    file.take((limit as u64 + 1).saturating_sub(bytes.len() as u64)).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        if strict {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        bytes.truncate(limit);
    }
    Ok(bytes)
}

/// Files of a process that the kernel hands over as a whole: where it gave less than there was room
/// for, there is no more (fs/proc/base.c: `ONE`, and `proc_pid_cmdline_read`).
fn comes_at_once(path: &str) -> bool {
    matches!(path, "stat" | "status" | "cmdline" | "cgroup")
}

pub(super) fn read_link(dir: BorrowedFd<'_>, path: &[u8]) -> io::Result<Vec<u8>> {
    Ok(rustix::fs::readlinkat(dir, path, Vec::new())?.into_bytes())
}

#[allow(clippy::useless_conversion, reason = "the width of st_nlink depends on the architecture")]
pub(super) fn file_stat(stat: &rustix::fs::Stat) -> FileStat {
    let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
    FileStat {
        device: (major, minor),
        inode: stat.st_ino,
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        links: u64::from(stat.st_nlink),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mount: 0,
    }
}

/// The file names of /proc are short decimal numbers; anything else is none.
pub(super) fn number(name: &[u8]) -> Option<u32> {
    if name.is_empty() || name.len() > 10 {
        return None;
    }
    name.iter().try_fold(0_u32, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// A number as a file name.
#[derive(Default)]
pub(super) struct Decimal([u8; 11]);

impl Decimal {
    pub(super) fn of(&mut self, mut number: u32) -> &CStr {
        let mut start = self.0.len() - 1; // the last byte stays NUL
        loop {
            start -= 1;
            self.0[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        CStr::from_bytes_until_nul(&self.0[start..]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Decimal, number};

    #[test]
    fn numbers_are_plain_decimals() {
        assert_eq!(number(b"4294967295"), Some(u32::MAX));
        for bad in [&b""[..], b"-1", b"4294967296", b"12a", b"99999999999"] {
            assert_eq!(number(bad), None);
        }
    }

    #[test]
    fn numbers_are_names() {
        let mut text = Decimal::default();
        for (number, name) in [(0, c"0"), (907, c"907"), (u32::MAX, c"4294967295"), (12, c"12")] {
            assert_eq!(text.of(number), name);
        }
    }
}
