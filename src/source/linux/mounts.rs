//! Mounts that may keep a reader waiting for ever: their server, or the program behind them, may be
//! gone.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, PoisonError};

/// Devices of the file systems that did not answer in time; they are not asked again.
static DEAD: Mutex<BTreeSet<Vec<u8>>> = Mutex::new(BTreeSet::new());

/// The doubtful mounts of one root.
#[derive(Debug)]
pub(super) enum Doubt {
    /// The mount table could not be read.
    Everywhere,
    /// At these places only.
    At(Vec<Mount>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mount {
    /// `major:minor`, the same in every mount namespace.
    device: Vec<u8>,
    point: Vec<u8>,
}

impl Doubt {
    /// From a mount table (proc_pid_mountinfo(5)).
    pub(super) fn read(table: &io::Result<Vec<u8>>) -> Self {
        let Ok(text) = table else { return Self::Everywhere };
        Self::At(text.split(|byte| *byte == b'\n').filter_map(doubtful).collect())
    }

    pub(super) fn is_none(&self) -> bool {
        matches!(self, Self::At(mounts) if mounts.is_empty())
    }

    /// Whether a path leads past all of them, as long as no link is followed.
    pub(super) fn spares(&self, path: &[u8]) -> bool {
        match self {
            Self::Everywhere => false,
            Self::At(_) => {
                !path.split(|byte| *byte == b'/').any(|part| part == b"..") && self.over(path).is_none()
            }
        }
    }

    /// The innermost that a path lies in, as it is written.
    fn over(&self, path: &[u8]) -> Option<&Mount> {
        let Self::At(mounts) = self else { return None };
        mounts.iter().filter(|mount| lies_in(path, &mount.point)).max_by_key(|mount| mount.point.len())
    }

    pub(super) fn is_dead(&self, path: &[u8]) -> bool {
        let dead = DEAD.lock().unwrap_or_else(PoisonError::into_inner);
        self.over(path).is_some_and(|mount| dead.contains(&mount.device))
    }

    /// Remembers that nobody answered at this path. False when it is not known which mount it is.
    pub(super) fn declare_dead(&self, path: &[u8]) -> bool {
        let Some(mount) = self.over(path) else { return false };
        DEAD.lock().unwrap_or_else(PoisonError::into_inner).insert(mount.device.clone());
        true
    }
}

/// A mount of a file system that may hang.
fn doubtful(line: &[u8]) -> Option<Mount> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let (device, point) = (words.get(2)?, words.get(4)?);
    let kind = words.iter().position(|word| *word == b"-").and_then(|dash| words.get(dash + 1));
    let local = kind.is_some_and(|kind| LOCAL.contains(kind));
    (!local).then(|| Mount { device: device.to_vec(), point: unescaped(point) })
}

/// Both are absolute; empty parts do not count.
fn lies_in(path: &[u8], point: &[u8]) -> bool {
    let parts =
        |path| <[u8]>::split(path, |byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    let mut inner = parts(path);
    parts(point).all(|part| inner.next() == Some(part))
}

/// Undoes `\040` and its kin.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let digits =
            after.get(..3).filter(|_| byte == b'\\').and_then(|three| std::str::from_utf8(three).ok());
        let value = digits.and_then(|three| u8::from_str_radix(three, 8).ok());
        plain.push(value.unwrap_or(byte));
        rest = if value.is_some() { &after[3..] } else { after };
    }
    plain
}

/// File systems that answer from this computer's own memory or disks.
const LOCAL: [&[u8]; 40] = [
    b"ext2",
    b"ext3",
    b"ext4",
    b"xfs",
    b"btrfs",
    b"f2fs",
    b"zfs",
    b"bcachefs",
    b"vfat",
    b"exfat",
    b"ntfs3",
    b"iso9660",
    b"udf",
    b"squashfs",
    b"erofs",
    b"overlay",
    b"tmpfs",
    b"ramfs",
    b"rootfs",
    b"devtmpfs",
    b"devpts",
    b"proc",
    b"sysfs",
    b"cgroup",
    b"cgroup2",
    b"securityfs",
    b"debugfs",
    b"tracefs",
    b"configfs",
    b"bpf",
    b"pstore",
    b"efivarfs",
    b"mqueue",
    b"hugetlbfs",
    b"nsfs",
    b"binfmt_misc",
    b"fusectl",
    b"rpc_pipefs",
    b"selinuxfs",
    b"jfs",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn doubt(table: &[u8]) -> Doubt {
        Doubt::read(&Ok(table.to_vec()))
    }

    #[test]
    fn only_a_network_or_user_space_mount_is_doubted() {
        let quiet = b"22 1 0:20 / / rw shared:1 - ext4 /dev/sda1 rw\n23 22 0:4 / /proc rw - proc proc rw\n";
        assert!(doubt(quiet).is_none());
        assert!(!doubt(b"40 22 0:50 / /mnt rw - nfs4 server:/x rw\n").is_none());
        assert!(!doubt(b"40 22 0:50 / /mnt rw - fuse.sshfs a rw\n").is_none());
        assert!(!Doubt::read(&Err(io::ErrorKind::PermissionDenied.into())).spares(b"/etc"));
    }

    #[test]
    fn a_path_beside_a_doubtful_mount_is_spared() {
        let doubt = doubt(b"40 22 0:50 / /mnt/a\\040b rw - nfs4 server:/x rw\n");
        for beside in [&b"/mnt"[..], b"/mnt/a", b"/mnt/a bc/x", b"/etc/passwd", b"/"] {
            assert!(doubt.spares(beside));
        }
        for within in [&b"/mnt/a b"[..], b"//mnt/./a b/c", b"/etc/../mnt/a b/c", b"/x/.."] {
            assert!(!doubt.spares(within));
        }
    }

    #[test]
    fn a_dead_mount_is_not_asked_again() {
        let doubt =
            doubt(b"40 22 999:50 / /dead rw - nfs4 s:/x rw\n41 22 999:51 / /alive rw - nfs4 s:/y rw\n");
        assert!(!doubt.is_dead(b"/dead/x"));
        assert!(doubt.declare_dead(b"/dead/y") && !doubt.declare_dead(b"/etc"));
        assert!(doubt.is_dead(b"/dead/x") && !doubt.is_dead(b"/alive/x") && !doubt.is_dead(b"/deadly"));
    }
}
