//! The file systems of the holders: each distinct root once, with what its names mean.
//!
//! A root is known by mount, device and inode of its top folder; a mount belongs to one mount
//! namespace only. It is opened through a process that has it, and that process' start time is
//! compared afterwards, so that a reused pid never lends a foreign root.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use crate::model::{Fact, Text};
use crate::source::{FileStat, ProcessDir, Root, Source};

use super::record;
use super::user::{self, Account, Group, IdRange};

/// User data bases larger than this are not read.
const PASSWD_LIMIT: usize = 16 << 20;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct RootKey {
    /// Id of the mount, or on old kernels the inode of the mount namespace.
    mount: u64,
    pub(super) device: (u32, u32),
    pub(super) inode: u64,
}

impl RootKey {
    /// Of the process behind this handle; `at` is `""`, or `task/TID/` of a living thread.
    pub(super) fn read(dir: &ProcessDir<'_>, at: &str) -> io::Result<Self> {
        let top = dir.stat(&format!("{at}root"))?;
        let mount = if top.mount != 0 { top.mount } else { mount_namespace(dir, at)? };
        Ok(Self { mount, device: top.device, inode: top.inode })
    }
}

fn mount_namespace(dir: &ProcessDir<'_>, at: &str) -> io::Result<u64> {
    let link = dir.read_link(&format!("{at}ns/mnt"))?;
    record::namespace_inode(&link).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Accounts and groups of one root.
#[derive(Debug, Default)]
pub(super) struct People {
    pub(super) accounts: Vec<Account>,
    pub(super) groups: Vec<Group>,
    names: BTreeMap<u32, Text>,
    /// Others may be known to LDAP or the like.
    pub(super) incomplete: bool,
    /// The file is our own: its numbers are those that we see.
    pub(super) ours: bool,
}

impl People {
    pub(super) fn new(accounts: Vec<Account>, groups: Vec<Group>, incomplete: bool, ours: bool) -> Self {
        let mut names = BTreeMap::new();
        for each in &accounts {
            names.entry(each.uid).or_insert_with(|| each.name.clone()); // the first wins, as in getpwuid(3)
        }
        Self { accounts, groups, names, incomplete, ours }
    }

    /// The name of a uid as this root numbers its users.
    pub(super) fn name(&self, uid: u32) -> Option<&Text> {
        self.names.get(&uid)
    }

    /// What the uid is called here. The number is as we see it; a user namespace may number
    /// otherwise. In our own data base our own numbers count, whatever the namespace of the process:
    /// after `unshare --map-root-user` it is still the same user's.
    pub(super) fn name_of(&self, seen: u32, map: &[IdRange]) -> Fact<Text> {
        let uid = if self.ours || map.is_empty() { Some(seen) } else { user::inside(map, seen) };
        match uid.and_then(|uid| self.name(uid)) {
            Some(name) => Fact::Known(name.clone()),
            None if self.incomplete => Fact::Unknown,
            None => Fact::Absent,
        }
    }
}

/// One root.
#[derive(Debug)]
pub(super) struct World {
    pub(super) key: RootKey,
    /// Inode of its mount namespace.
    space: Option<u64>,
    /// Where it lies in its mount namespace: `/`, or the folder of a chroot.
    pub(super) prefix: Vec<u8>,
    /// Processes that have it: pid (or id of a living thread) and start time of the process.
    through: Vec<(u32, u32, u64)>,
    people: Option<Rc<People>>,
    mounts: Option<Vec<u8>>,
}

/// Every root met so far.
#[derive(Debug)]
pub(super) struct Worlds<'s> {
    source: &'s Source,
    list: Vec<World>,
    by_key: BTreeMap<RootKey, usize>,
    open: Option<(usize, Root<'s>)>,
    own: Option<Root<'s>>,
    own_space: Option<u64>,
    own_mounts: Option<Vec<u8>>,
    own_passwd: Option<FileStat>,
    own_people: Option<Rc<People>>,
    /// By device and inode of /etc/passwd: services with private mounts share it.
    shared: BTreeMap<((u32, u32), u64), Rc<People>>,
}

impl<'s> Worlds<'s> {
    pub(super) fn new(source: &'s Source) -> Self {
        let own_space = source.proc_link("thread-self/ns/mnt").ok();
        let own_space = own_space.as_deref().and_then(record::namespace_inode);
        let mut worlds = Self {
            source,
            list: Vec::new(),
            by_key: BTreeMap::new(),
            open: None,
            own: None,
            own_space,
            own_mounts: None,
            own_passwd: None,
            own_people: None,
            shared: BTreeMap::new(),
        };
        worlds.own_passwd = worlds.root(None).and_then(|root| root.stat("/etc/passwd")).ok();
        worlds
    }

    /// The world of a process whose root has this key. `task` is the thread to look through.
    pub(super) fn meet(
        &mut self,
        key: RootKey,
        dir: &ProcessDir<'_>,
        task: Option<u32>,
        start: u64,
    ) -> usize {
        let through = (task.unwrap_or(dir.pid()), dir.pid(), start);
        if let Some(&known) = self.by_key.get(&key) {
            if self.list[known].through.len() < 8 {
                self.list[known].through.push(through);
            }
            return known;
        }
        let at = task.map_or_else(String::new, |task| format!("task/{task}/"));
        let prefix = dir.read_link(&format!("{at}root")).unwrap_or_else(|_| b"/".to_vec());
        let space = mount_namespace(dir, &at).ok();
        self.list.push(World { key, space, prefix, through: vec![through], people: None, mounts: None });
        self.by_key.insert(key, self.list.len() - 1);
        self.list.len() - 1
    }

    pub(super) fn world(&self, at: usize) -> &World {
        &self.list[at]
    }

    /// Opens a root, `None` standing for ours. That of the last call is kept open.
    pub(super) fn root(&mut self, at: Option<usize>) -> io::Result<&Root<'s>> {
        let Some(at) = at else {
            if self.own.is_none() {
                self.own = Some(self.source.root(0)?);
            }
            return self.own.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into());
        };
        if self.open.as_ref().is_none_or(|(open, _)| *open != at) {
            self.open = None;
            let root = self.open_root(at)?;
            self.open = Some((at, root));
        }
        self.open.as_ref().map(|(_, root)| root).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn open_root(&self, at: usize) -> io::Result<Root<'s>> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for &(task, pid, start) in &self.list[at].through {
            let opened = self.source.root(task).and_then(|root| {
                let stat = record::stat(&self.source.process(pid)?.read("stat")?);
                match stat {
                    Some(stat) if stat.start_ticks == start => Ok(root),
                    Some(_) | None => Err(io::ErrorKind::NotFound.into()),
                }
            });
            match opened {
                Ok(root) => return Ok(root),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The mount table of a process with this root.
    pub(super) fn mounts(&mut self, at: Option<usize>) -> Option<&[u8]> {
        let Some(at) = at else {
            if self.own_mounts.is_none() {
                self.own_mounts = Some(self.source.proc_file("thread-self/mountinfo").unwrap_or_default());
            }
            return self.own_mounts.as_deref();
        };
        if self.list[at].mounts.is_none() {
            let read = |pid: u32| self.source.process(pid)?.read("mountinfo");
            let found = self.list[at].through.iter().find_map(|(task, ..)| read(*task).ok());
            self.list[at].mounts = Some(found.unwrap_or_default());
        }
        self.list[at].mounts.as_deref()
    }

    /// The users of a root, `None` standing for ours.
    pub(super) fn people(&mut self, at: Option<usize>) -> io::Result<Rc<People>> {
        let Some(at) = at else { return self.own_people() };
        if let Some(known) = &self.list[at].people {
            return Ok(Rc::clone(known));
        }
        let (own, shares_mounts) = (self.own_passwd, self.in_our_space(at));
        let root = self.root(Some(at))?;
        let people = match root.stat("/etc/passwd") {
            // A chroot that brings no users of its own means those of the file system it lies in.
            Err(error) if missing(&error) && shares_mounts => self.own_people()?,
            Err(error) if missing(&error) => Rc::default(),
            Err(error) => return Err(error),
            Ok(file) if same_file(Some(&file), own.as_ref()) => self.own_people()?,
            Ok(file) => match self.shared.get(&(file.device, file.inode)) {
                Some(known) => Rc::clone(known),
                None => {
                    let read = Rc::new(read_people(self.root(Some(at))?, false)?);
                    self.shared.insert((file.device, file.inode), Rc::clone(&read));
                    read
                }
            },
        };
        self.list[at].people = Some(Rc::clone(&people));
        Ok(people)
    }

    fn own_people(&mut self) -> io::Result<Rc<People>> {
        if let Some(known) = &self.own_people {
            return Ok(Rc::clone(known));
        }
        let read = Rc::new(read_people(self.root(None)?, true)?);
        self.own_people = Some(Rc::clone(&read));
        Ok(read)
    }

    fn in_our_space(&self, at: usize) -> bool {
        self.list[at].space.is_some() && self.list[at].space == self.own_space
    }

    /// The world in which a program path of this world is to be looked up, and the path there. A
    /// process that called chroot(2) after it was started has its program outside its root: then it
    /// is the top of the same mount namespace, where we know a process that has it.
    pub(super) fn locate(&self, at: usize, path: &[u8]) -> Option<(Option<usize>, Vec<u8>)> {
        let world = &self.list[at];
        if world.prefix == b"/" {
            return Some((Some(at), path.to_vec()));
        }
        let inside = path.strip_prefix(world.prefix.as_slice()).filter(|rest| rest.starts_with(b"/"));
        if let Some(inside) = inside {
            return Some((Some(at), inside.to_vec()));
        }
        if self.in_our_space(at) {
            return Some((None, path.to_vec()));
        }
        let top = |other: &World| other.space.is_some() && other.space == world.space && other.prefix == b"/";
        self.list.iter().position(top).map(|top| (Some(top), path.to_vec()))
    }
}

fn read_people(root: &Root<'_>, ours: bool) -> io::Result<People> {
    let read = |path: &str| match root.read(path, PASSWD_LIMIT) {
        Err(error) if missing(&error) => Ok(Vec::new()),
        read => read,
    };
    let accounts = user::passwd(&read("/etc/passwd")?);
    let groups = user::group(&read("/etc/group")?);
    let incomplete = user::other_sources(&read("/etc/nsswitch.conf").unwrap_or_default());
    Ok(People::new(accounts, groups, incomplete, ours))
}

/// Nothing stands at the path, which is an answer.
pub(super) fn missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

pub(super) fn same_file(one: Option<&FileStat>, other: Option<&FileStat>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one.device == other.device && one.inode == other.inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people(ours: bool, incomplete: bool) -> People {
        let accounts = user::passwd(b"root:x:0:0::/:/\nann:x:1000:1000::/:/\ntoor:x:0:0::/:/\n");
        People::new(accounts, Vec::new(), incomplete, ours)
    }

    #[test]
    fn a_foreign_data_base_names_the_number_inside() {
        let map = [IdRange { inside: 0, outside: 100_000, count: 65536 }];
        assert_eq!(people(false, false).name_of(100_000, &map), Fact::Known("root".into()));
        assert_eq!(people(false, false).name_of(101_000, &map), Fact::Known("ann".into()));
        assert_eq!(people(false, false).name_of(1000, &map), Fact::Absent);
        assert_eq!(people(false, true).name_of(5, &[]), Fact::Unknown);
    }

    #[test]
    fn our_own_data_base_names_the_number_that_we_see() {
        let map = [IdRange { inside: 0, outside: 1000, count: 1 }];
        assert_eq!(people(true, false).name_of(1000, &map), Fact::Known("ann".into()));
    }
}
