//! Who may connect to a UNIX socket: permissions of its file and of every folder above it.
//!
//! connect(2) needs write permission on the file and search permission on each folder of the path,
//! links included. Looked up in the holder's own root, and believed only when what stands there is
//! the very file that the socket is bound to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;

use crate::model::{Access, Endpoint, Fact, Protocol, Snapshot, Socket, State, Text, Users};
use crate::source::{FileStat, Root};

use super::process::Look;
use super::user::{self, IdRange};
use super::world::{People, Worlds, missing};

/// As the kernel: ELOOP after 40 links (path_resolution(7)).
const MOST_LINKS: u32 = 40;
const SEARCH: u32 = 1;
const WRITE: u32 = 2;

/// Permissions of one file or folder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Step {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// POSIX access control list (acl(5)), where there is one.
    pub acl: Vec<AclEntry>,
}

/// One entry of `system.posix_acl_access`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AclEntry {
    pub tag: u16,
    pub permissions: u16,
    pub id: u32,
}

const USER: u16 = 2;
const GROUP_OBJ: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// The bytes of the extended attribute (linux/posix_acl_xattr.h, version 2).
pub fn acl(bytes: &[u8]) -> Vec<AclEntry> {
    let Some(entries) = bytes.strip_prefix(&2u32.to_le_bytes()) else { return Vec::new() };
    let whole = entries.chunks_exact(8).take(1024);
    whole
        .map(|entry| AclEntry {
            tag: u16::from_le_bytes([entry[0], entry[1]]),
            permissions: u16::from_le_bytes([entry[2], entry[3]]),
            id: u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]),
        })
        .collect()
}

/// Somebody who may call: `uid` is `None` for one whose number is nobody's here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Person {
    pub uid: Option<u32>,
    pub gids: BTreeSet<u32>,
}

impl Step {
    /// The check of the kernel without capabilities (fs/namei.c, acl_permission_check).
    pub fn permits(&self, person: &Person, bit: u32) -> bool {
        if person.uid == Some(self.uid) {
            return self.mode >> 6 & bit != 0;
        }
        if self.acl.is_empty() {
            let class = if person.gids.contains(&self.gid) { self.mode >> 3 } else { self.mode };
            return class & bit != 0;
        }
        let of = |tag: u16| self.acl.iter().filter(move |entry| entry.tag == tag);
        let mask = of(MASK).next().map_or(7, |entry| u32::from(entry.permissions));
        let grants = |entry: &AclEntry| u32::from(entry.permissions) & mask & bit != 0;
        if let Some(entry) = of(USER).find(|entry| person.uid == Some(entry.id)) {
            return grants(entry);
        }
        let own = of(GROUP_OBJ).filter(|_| person.gids.contains(&self.gid));
        let mut groups = own.chain(of(GROUP).filter(|entry| person.gids.contains(&entry.id))).peekable();
        if groups.peek().is_some() {
            return groups.any(grants);
        }
        of(OTHER).next().map_or(self.mode, |entry| u32::from(entry.permissions)) & bit != 0
    }
}

/// Whether `person` gets through all folders and may write to the file, the last of `steps`.
pub fn may_connect(steps: &[Step], person: &Person) -> bool {
    let Some((file, folders)) = steps.split_last() else { return false };
    folders.iter().all(|folder| folder.permits(person, SEARCH)) && file.permits(person, WRITE)
}

/// The users of a root that may connect, root always among them. Accounts that only a directory
/// service knows could be among those let in by group: then unknown.
fn users(steps: &[Step], people: &People, map: &[IdRange]) -> Users {
    if may_connect(steps, &Person::default()) {
        return Users::Everyone;
    }
    let seen =
        |inside: u32| if people.ours || map.is_empty() { Some(inside) } else { user::outside(map, inside) };
    let gids: BTreeSet<u32> = steps.iter().flat_map(Step::groups).collect();
    if people.incomplete && may_connect(steps, &Person { uid: None, gids }) {
        return Users::Unknown;
    }
    let mut groups_of: BTreeMap<&Text, BTreeSet<u32>> = BTreeMap::new();
    for group in &people.groups {
        for member in &group.members {
            groups_of.entry(member).or_default().extend(seen(group.gid));
        }
    }
    let mut named = BTreeSet::new();
    for account in &people.accounts {
        let mut gids = groups_of.remove(&account.name).unwrap_or_default();
        gids.extend(seen(account.gid));
        let person = Person { uid: seen(account.uid), gids };
        if account.uid == 0 || may_connect(steps, &person) {
            named.insert(account.name.clone());
        }
    }
    // Members without an account here.
    for (member, gids) in groups_of {
        if may_connect(steps, &Person { uid: None, gids }) {
            named.insert(member.clone());
        }
    }
    // Users that are let in by number alone.
    for uid in steps.iter().flat_map(Step::users).collect::<BTreeSet<u32>>() {
        if people.name_of(uid, map) == Fact::Absent
            && may_connect(steps, &Person { uid: Some(uid), gids: BTreeSet::new() })
        {
            named.insert(uid.to_string().into());
        }
    }
    if people.name(0).is_none() {
        named.insert("root".into());
    }
    Users::Named(named.into_iter().collect())
}

impl Step {
    fn groups(&self) -> impl Iterator<Item = u32> {
        let listed = self.acl.iter().filter(|entry| entry.tag == GROUP).map(|entry| entry.id);
        std::iter::once(self.gid).chain(listed)
    }

    fn users(&self) -> impl Iterator<Item = u32> {
        let listed = self.acl.iter().filter(|entry| entry.tag == USER).map(|entry| entry.id);
        std::iter::once(self.uid).chain(listed)
    }
}

/// The folders from the top to the file, links resolved as the kernel does, and the path without
/// links.
struct Walk {
    steps: Vec<Step>,
    file: FileStat,
    path: Vec<u8>,
}

fn walk(root: &Root<'_>, path: &[u8], folders: &mut BTreeMap<Vec<u8>, Step>) -> io::Result<Walk> {
    let mut rest: VecDeque<Vec<u8>> = parts(path).map(<[u8]>::to_vec).collect();
    let mut at: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    let mut steps = vec![folder(root, b"/", folders)?];
    while let Some(part) = rest.pop_front() {
        if part == b".." {
            at.pop();
            continue;
        }
        let next = joined(&at, &part);
        let target = match root.read_link(&next) {
            Ok(target) => Some(target),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => None, // no link
            Err(error) => return Err(error),
        };
        if let Some(target) = target {
            links += 1;
            if links > MOST_LINKS || rest.len() > 4096 {
                return Err(io::Error::other("too many links"));
            }
            if target.starts_with(b"/") {
                at.clear();
            }
            for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                rest.push_front(part.to_vec());
            }
            continue;
        }
        if rest.is_empty() {
            let file = root.stat(&next)?;
            steps.push(step(&file, root.acl(&next)?));
            return Ok(Walk { steps, file, path: next });
        }
        steps.push(folder(root, &next, folders)?);
        at.push(part);
    }
    Err(io::ErrorKind::NotFound.into())
}

fn folder(root: &Root<'_>, path: &[u8], known: &mut BTreeMap<Vec<u8>, Step>) -> io::Result<Step> {
    if let Some(step) = known.get(path) {
        return Ok(step.clone());
    }
    let found = step(&root.stat(path)?, root.acl(path)?);
    known.insert(path.to_vec(), found.clone());
    Ok(found)
}

fn step(file: &FileStat, list: Vec<u8>) -> Step {
    Step { mode: file.mode & 0o7777, uid: file.uid, gid: file.gid, acl: acl(&list) }
}

fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

fn joined(folders: &[Vec<u8>], last: &[u8]) -> Vec<u8> {
    let mut path = Vec::new();
    for part in folders.iter().map(Vec::as_slice).chain([last]) {
        path.push(b'/');
        path.extend_from_slice(part);
    }
    path
}

/// Device of the file system that a path lies in, as the kernel numbers it inside, from the mount
/// table of a process with that root. btrfs and overlayfs show stat(2) another device than
/// `UNIX_DIAG_VFS` names.
pub fn device_of(mountinfo: &[u8], path: &[u8]) -> Option<u32> {
    let mut best: Option<(usize, u32)> = None;
    for line in user::lines(mountinfo) {
        let mut words = line.split(|&byte| byte == b' ').skip(2);
        let (Some(device), Some(point)) = (words.next(), words.nth(1)) else { continue };
        let point = super::container::octal(point);
        let under = point == b"/"
            || path.strip_prefix(point.as_slice()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
        let number = |text: &[u8]| user::number::<u32>(text);
        let mut halves = device.splitn(2, |&byte| byte == b':');
        let (Some(major), Some(minor)) = (halves.next().and_then(number), halves.next().and_then(number))
        else {
            continue;
        };
        // A later mount at the same place covers the earlier one.
        if under && best.is_none_or(|(length, _)| point.len() >= length) {
            best = Some((point.len(), major.wrapping_shl(20) | minor & 0xf_ffff));
        }
    }
    best.map(|(_, device)| device)
}

/// The processes in whose roots files of sockets are to be looked up.
pub(super) fn askers(snapshot: &Snapshot) -> BTreeSet<usize> {
    let asked = snapshot.sockets.iter().filter(|socket| is_file(socket));
    let holders = asked.flat_map(|socket| &snapshot.holders[socket.holders.range()]);
    holders.map(|holder| holder.process.0 as usize).collect()
}

/// Bound to a file, and somebody can connect or send to it.
fn is_file(socket: &Socket) -> bool {
    matches!(socket.local, Endpoint::UnixPath(_)) && callable(socket)
}

fn callable(socket: &Socket) -> bool {
    socket.protocol == Protocol::Unix
        && !matches!(socket.state, State::Established | State::Closed | State::CloseWait)
}

/// What came of looking for the file of a socket.
enum Found {
    Here(Access),
    /// Every root that could have it was asked.
    Gone,
    Unread,
}

/// Fills `Socket::access`. Counts the sockets whose file is not at its path, and those whose file
/// could not be looked at.
pub(super) fn fill(snapshot: &mut Snapshot, looks: &[Look], worlds: &mut Worlds<'_>) -> (u64, u64) {
    let mut order: Vec<(Option<usize>, usize)> = Vec::new();
    for index in 0..snapshot.sockets.len() {
        let socket = &snapshot.sockets[index];
        if is_file(socket) {
            let holders = &snapshot.holders[socket.holders.range()];
            let world = holders.iter().find_map(|each| looks.get(each.process.0 as usize)?.world);
            order.push((world, index));
        } else if callable(socket) && matches!(socket.local, Endpoint::UnixAbstract(_)) {
            let access = Access { mode: None, uid: None, gid: None, users: Users::Everyone };
            snapshot.sockets[index].access = Some(Box::new(access));
        }
    }
    order.sort_unstable(); // each root is opened once
    let mut search = Search { looks, worlds, folders: BTreeMap::new(), verdicts: BTreeMap::new() };
    let (mut gone, mut unread) = (0, 0);
    for (_, index) in order {
        let access = match search.look_up(snapshot, index) {
            Found::Here(access) => access,
            Found::Gone => {
                gone += 1;
                Access { mode: None, uid: None, gid: None, users: Users::Unknown }
            }
            Found::Unread => {
                unread += 1;
                Access { mode: None, uid: None, gid: None, users: Users::Unknown }
            }
        };
        snapshot.sockets[index].access = Some(Box::new(access));
    }
    (gone, unread)
}

/// What was found already. `None` stands for our own root.
struct Search<'w, 's> {
    looks: &'w [Look],
    worlds: &'w mut Worlds<'s>,
    folders: BTreeMap<Option<usize>, BTreeMap<Vec<u8>, Step>>,
    verdicts: BTreeMap<(Option<usize>, Vec<Step>), Users>,
}

impl Search<'_, '_> {
    /// Asks in the root of each holder, then in ours, until one shows the very file: a holder that
    /// we may not look into mostly has our root, and device and inode prove it.
    fn look_up(&mut self, snapshot: &Snapshot, index: usize) -> Found {
        let socket = &snapshot.sockets[index];
        let (Endpoint::UnixPath(path), Some(wanted)) = (&socket.local, socket.file) else {
            return Found::Unread;
        };
        let looks = self.looks;
        let mut asked = BTreeSet::new();
        let mut denied = socket.holders.len == 0;
        for holder in &snapshot.holders[socket.holders.range()] {
            let holder = holder.process.0 as usize;
            let Some(look) = looks.get(holder) else { continue };
            let Some(world) = look.world else {
                denied = true;
                continue;
            };
            let cwd = snapshot.processes[holder].cwd.known().or(look.cwd.as_ref());
            let path = absolute(path, cwd, &self.worlds.world(world).prefix);
            let Some(path) = path.filter(|path| asked.insert((world, path.clone()))) else { continue };
            match self.look_at(Some(world), &path, wanted, look.ids.as_deref().unwrap_or_default()) {
                Found::Here(access) => return Found::Here(access),
                Found::Gone => {}
                Found::Unread => denied = true,
            }
        }
        if path.as_bytes().starts_with(b"/")
            && let Found::Here(access) = self.look_at(None, path.as_bytes(), wanted, &[])
        {
            return Found::Here(access);
        }
        if denied { Found::Unread } else { Found::Gone }
    }

    fn look_at(&mut self, world: Option<usize>, path: &[u8], wanted: (u32, u32), ids: &[IdRange]) -> Found {
        let Ok(root) = self.worlds.root(world) else { return Found::Unread };
        let walk = match walk(root, path, self.folders.entry(world).or_default()) {
            Ok(walk) => walk,
            Err(error) if missing(&error) => return Found::Gone,
            Err(_) => return Found::Unread,
        };
        // The kernel tells the lower half of the inode number.
        let same_inode = walk.file.inode & 0xffff_ffff == u64::from(wanted.1);
        let mut same_device = || {
            let mounts = self.worlds.mounts(world);
            walk.file.kernel_device() == wanted.0
                || mounts.and_then(|mounts| device_of(mounts, &walk.path)) == Some(wanted.0)
        };
        if !(walk.file.is_socket() && same_inode && same_device()) {
            return Found::Gone;
        }
        let people = self.worlds.people(world);
        let (mode, uid, gid) = walk.steps.last().map_or((0, 0, 0), |file| (file.mode, file.uid, file.gid));
        let verdict = self.verdicts.entry((world, walk.steps));
        let users = verdict.or_insert_with_key(|(_, steps)| match &people {
            Ok(people) => users(steps, people, ids),
            Err(_) if may_connect(steps, &Person::default()) => Users::Everyone,
            Err(_) => Users::Unknown,
        });
        Found::Here(Access { mode: Some(mode), uid: Some(uid), gid: Some(gid), users: users.clone() })
    }
}

/// The path as the holder's root has it. A relative one is tried below its working folder; whether
/// that is right shows in device and inode.
fn absolute(path: &Text, cwd: Option<&Text>, prefix: &[u8]) -> Option<Vec<u8>> {
    if path.as_bytes().starts_with(b"/") {
        return Some(path.as_bytes().to_vec());
    }
    let cwd = cwd?.as_bytes();
    let inside = if prefix == b"/" { cwd } else { cwd.strip_prefix(prefix)? };
    Some([inside, b"/", path.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use super::*;

    fn step(mode: u32, uid: u32, gid: u32) -> Step {
        Step { mode, uid, gid, acl: Vec::new() }
    }

    fn people() -> People {
        People::new(
            user::passwd(b"root:x:0:0::/:/\nann:x:1000:1000::/:/\nbob:x:1001:1001::/:/\n"),
            user::group(b"docker:x:998:ann,ldapuser\nbob:x:1001:\n"),
            false,
            true,
        )
    }

    fn named(steps: &[Step]) -> Vec<String> {
        match users(steps, &people(), &[]) {
            Users::Everyone => vec!["*".into()],
            Users::Named(names) => names.iter().map(|name| name.lossy().into_owned()).collect(),
            Users::Unknown => vec!["?".into()],
        }
    }

    #[test]
    fn everyone_who_may_write_and_search() {
        let open = [step(0o755, 0, 0), step(0o666, 0, 0)];
        assert_eq!(named(&open), ["*"]);
        assert_eq!(named(&[step(0o755, 0, 0), step(0o700, 0, 0), step(0o666, 0, 0)]), ["root"]);
        assert_eq!(
            named(&[step(0o755, 0, 0), step(0o755, 0, 0), step(0o644, 0, 0)]),
            ["root"],
            "reading is not enough"
        );
    }

    #[test]
    fn members_of_the_group() {
        assert_eq!(named(&[step(0o755, 0, 0), step(0o660, 0, 998)]), ["ann", "ldapuser", "root"]);
        assert_eq!(named(&[step(0o755, 0, 0), step(0o660, 0, 1001)]), ["bob", "root"], "a primary group");
    }

    #[test]
    fn the_owner_class_shuts_the_owner_out() {
        assert_eq!(named(&[step(0o755, 0, 0), step(0o070, 1001, 1001)]), ["root"]);
        assert_eq!(named(&[step(0o755, 0, 0), step(0o600, 7777, 0)]), ["7777", "root"]);
    }

    #[test]
    fn a_list_lets_in_one_more() {
        let entry = |tag, permissions, id| AclEntry { tag, permissions, id };
        let mut file = step(0o660, 0, 0);
        file.acl = vec![
            entry(1, 6, 0), // the owner's, which is also in the mode
            entry(USER, 6, 1001),
            entry(GROUP_OBJ, 0, 0),
            entry(MASK, 6, 0),
            entry(OTHER, 0, 0),
        ];
        assert_eq!(named(&[step(0o755, 0, 0), file.clone()]), ["bob", "root"]);
        file.acl[3].permissions = 4;
        assert_eq!(named(&[step(0o755, 0, 0), file]), ["root"], "masked");
    }

    #[test]
    fn a_directory_service_may_know_more_members() {
        let mut all = people();
        all.incomplete = true;
        let steps = [step(0o755, 0, 0), step(0o660, 0, 998)];
        assert_eq!(users(&steps, &all, &[]), Users::Unknown);
        assert_eq!(
            users(&[step(0o755, 0, 0), step(0o600, 0, 0)], &all, &[]),
            Users::Named(vec!["root".into()])
        );
    }

    #[test]
    fn accounts_of_a_container_have_its_numbers() {
        let mut inside = people();
        inside.ours = false;
        let map = [IdRange { inside: 0, outside: 100_000, count: 65536 }];
        let steps = [step(0o755, 100_000, 100_000), step(0o600, 101_000, 101_000)];
        assert_eq!(users(&steps, &inside, &map), Users::Named(vec!["ann".into(), "root".into()]));
    }

    #[test]
    fn the_device_of_the_covering_mount() {
        let table = b"1 0 8:1 / / rw - btrfs a rw\n2 1 0:22 / /run rw - tmpfs b rw\n3 1 0:23 / /run/x\\040y rw - tmpfs c rw\n";
        assert_eq!(device_of(table, b"/etc/s"), Some(8 << 20 | 1));
        assert_eq!(device_of(table, b"/run/s"), Some(22));
        assert_eq!(device_of(table, b"/running"), Some(8 << 20 | 1));
        assert_eq!(device_of(table, b"/run/x y/s"), Some(23));
        assert_eq!(device_of(b"", b"/"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let _ = (acl(&bytes), device_of(&bytes, &bytes), device_of(&bytes, b"/run"));
            let _ = acl(&[&2u32.to_le_bytes()[..], &bytes].concat());
        }

        #[test]
        fn everyone_means_everyone_without_special_rights(
            modes in proptest::collection::vec(0u32..0o1000, 1..4), uid in 5u32..9,
        ) {
            let steps: Vec<Step> = modes.iter().map(|&mode| step(mode, 0, 0)).collect();
            if users(&steps, &people(), &[]) == Users::Everyone {
                let person = Person { uid: Some(uid), gids: BTreeSet::new() };
                prop_assert!(may_connect(&steps, &person));
            }
        }
    }
}
