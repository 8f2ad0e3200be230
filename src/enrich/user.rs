//! Who the numbers are: accounts and groups of one root, and what a user namespace makes of ids.
//!
//! Names belong to the data base of the process that carries the number: uid 999 is `mysql` in one
//! root and `systemd-coredump` in another.

use crate::model::Text;

/// Beyond this many accounts or groups of one data base the rest is ignored.
const MOST: usize = 100_000;

/// One line of passwd(5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    pub name: Text,
    pub uid: u32,
    pub gid: u32,
    pub home: Text,
}

/// One line of group(5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    pub name: Text,
    pub gid: u32,
    pub members: Vec<Text>,
}

/// One line of `/proc/PID/uid_map` (user_namespaces(7)): `count` ids from `inside` on are those from
/// `outside` on in the reader's user namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdRange {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

/// The accounts of `/etc/passwd`, in the order of the file. Lines that are no account (comments,
/// NIS includes, broken ones) are left out.
pub fn passwd(bytes: &[u8]) -> Vec<Account> {
    lines(bytes)
        .filter_map(|line| {
            let mut fields = line.split(|&byte| byte == b':');
            let (name, _password) = (fields.next()?, fields.next()?);
            let (uid, gid) = (number(fields.next()?)?, number(fields.next()?)?);
            let (_comment, home) = (fields.next()?, fields.next().unwrap_or_default());
            account_name(name).then(|| Account { name: name.into(), uid, gid, home: home.into() })
        })
        .take(MOST)
        .collect()
}

/// The groups of `/etc/group`, in the order of the file.
pub fn group(bytes: &[u8]) -> Vec<Group> {
    lines(bytes)
        .filter_map(|line| {
            let mut fields = line.split(|&byte| byte == b':');
            let (name, _password) = (fields.next()?, fields.next()?);
            let gid = number(fields.next()?)?;
            let members = fields.next().unwrap_or_default().split(|&byte| byte == b',');
            let members = members.filter(|each| !each.is_empty()).map(Text::from).collect();
            account_name(name).then(|| Group { name: name.into(), gid, members })
        })
        .take(MOST)
        .collect()
}

/// The ranges of `/proc/PID/uid_map` or `gid_map`; the kernel allows 340 lines.
pub fn id_map(bytes: &[u8]) -> Vec<IdRange> {
    lines(bytes)
        .filter_map(|line| {
            let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
            let mut next = || number(fields.next()?);
            Some(IdRange { inside: next()?, outside: next()?, count: next()? })
        })
        .take(340)
        .collect()
}

/// What `outside` is called inside; `None` for an id that the namespace does not map.
pub fn inside(map: &[IdRange], outside: u32) -> Option<u32> {
    map.iter().find_map(|range| {
        let offset = outside.checked_sub(range.outside)?;
        (offset < range.count).then(|| range.inside.checked_add(offset)).flatten()
    })
}

/// What `inside` is called out here.
pub fn outside(map: &[IdRange], inside: u32) -> Option<u32> {
    map.iter().find_map(|range| {
        let offset = inside.checked_sub(range.inside)?;
        (offset < range.count).then(|| range.outside.checked_add(offset)).flatten()
    })
}

/// Whether accounts may stand elsewhere than in the files: a `passwd:` line of nsswitch.conf(5)
/// that names LDAP, SSSD or the like. `systemd` is left out: it adds users by itself that exist for
/// as long as their service runs.
pub fn other_sources(nsswitch: &[u8]) -> bool {
    lines(nsswitch)
        .filter_map(|line| line.trim_ascii_start().strip_prefix(b"passwd:"))
        .flat_map(|rest| rest.split(u8::is_ascii_whitespace))
        .take_while(|word| !word.starts_with(b"#"))
        .any(|word| !word.is_empty() && !word.starts_with(b"[") && !is_file_source(word))
}

fn is_file_source(word: &[u8]) -> bool {
    matches!(word, b"files" | b"compat" | b"systemd" | b"db" | b"altfiles")
}

/// glibc's own test: entries for NIS begin with a sign.
fn account_name(name: &[u8]) -> bool {
    !name.is_empty() && !matches!(name[0], b'+' | b'-' | b'#')
}

pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty())
}

pub(super) fn number<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    if field.first().is_none_or(|byte| !byte.is_ascii_digit()) {
        return None; // `parse` would take a sign
    }
    std::str::from_utf8(field).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn reads_accounts_and_skips_what_is_none() {
        let read = passwd(
            b"root:x:0:0:root:/root:/bin/sh\n# note\n+nis::::::\nbad:x:y:1::/:/\n\
            a\xffb:x:7:8::/h:/s\nshort:x:9:9:\n",
        );
        assert_eq!(read.len(), 3);
        assert_eq!((read[0].uid, read[0].home.clone()), (0, Text::from("/root")));
        assert_eq!((read[1].name.clone(), read[1].gid), (Text::from(&b"a\xffb"[..]), 8));
        assert_eq!(read[2].name, Text::from("short"));
    }

    #[test]
    fn a_sign_makes_no_number() {
        assert!(passwd(b"x:x:+0:0::/:/\n").is_empty());
        assert!(passwd(b"x:x:4294967296:0::/:/\n").is_empty());
    }

    #[test]
    fn reads_groups_with_their_members() {
        let read = group(b"docker:x:998:ann,bob\nnone:x:5:\n");
        assert_eq!(read[0].members, ["ann", "bob"].map(Text::from));
        assert!(read[1].members.is_empty());
    }

    #[test]
    fn a_container_user_is_root_inside() {
        let map = id_map(b"         0     100000      65536\n     65536       1000          1\n");
        assert_eq!(inside(&map, 100_000), Some(0));
        assert_eq!(inside(&map, 1000), Some(65536));
        assert_eq!(inside(&map, 0), None);
        assert_eq!(outside(&map, 33), Some(100_033));
        assert_eq!(outside(&map, 65537), None);
    }

    #[test]
    fn knows_when_accounts_may_stand_elsewhere() {
        assert!(!other_sources(b"passwd:         files systemd\ngroup: files ldap\n"));
        assert!(!other_sources(b"passwd: files [NOTFOUND=return] # sss\n"));
        assert!(other_sources(b"passwd:\tfiles sss\n"));
        assert!(!other_sources(b""));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>(), id in any::<u32>()) {
            let _ = (passwd(&bytes), group(&bytes), other_sources(&bytes));
            let _ = (inside(&id_map(&bytes), id), outside(&id_map(&bytes), id));
        }

        #[test]
        fn mapping_there_and_back(first in any::<u32>(), base in any::<u32>(), id in any::<u32>()) {
            let map = [IdRange { inside: first, outside: base, count: 65536 }];
            if let Some(within) = inside(&map, id) {
                prop_assert_eq!(outside(&map, within), Some(id));
            }
        }
    }
}
