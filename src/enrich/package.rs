//! Which package an executable comes from: the data bases of dpkg, apk and rpm, read as files.
//!
//! Each data base is read once for all programs of a root together. No program is ever run; what only
//! rpm's library could tell (data bases before rpm 4.16) stays unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::model::{Fact, Text};
use crate::source::Root;

use super::rpm;
use super::user::lines;

/// No list of files is longer (the kernel's headers have 1 MB).
const LIST_LIMIT: usize = 32 << 20;
/// Alpine keeps everything in one file.
const APK_LIMIT: usize = 128 << 20;

/// One entry of `/var/lib/dpkg/diversions` (dpkg-divert(1)): what any package but `by` ships as
/// `from` stands at `to`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diversion {
    pub from: Text,
    pub to: Text,
    /// `:` for a local diversion.
    pub by: Text,
}

/// Three lines each.
pub fn diversions(bytes: &[u8]) -> Vec<Diversion> {
    let all: Vec<&[u8]> = lines(bytes).collect();
    let whole = all.chunks_exact(3).take(100_000);
    whole.map(|three| Diversion { from: three[0].into(), to: three[1].into(), by: three[2].into() }).collect()
}

/// Paths that are looked for, each under every name by which a package may list it.
#[derive(Debug, Default)]
pub struct Search {
    /// Name in a list → the paths that it would answer.
    names: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
    /// At n, whether a name is n bytes long.
    lengths: Vec<bool>,
    diversions: Vec<Diversion>,
    found: BTreeMap<Vec<u8>, Text>,
}

impl Search {
    /// `merged`: top folders such as `bin` that are links to the same below `usr`; packages still
    /// ship files under the old names.
    pub fn new<'p>(
        paths: impl IntoIterator<Item = &'p [u8]>,
        merged: &[&[u8]],
        diversions: Vec<Diversion>,
    ) -> Self {
        let mut search = Self { diversions, ..Self::default() };
        for path in paths {
            search.add(path, path);
            for top in merged {
                let old = path.strip_prefix(b"/usr").filter(|rest| below(rest, top));
                if let Some(old) = old {
                    search.add(old, path);
                }
            }
        }
        search
    }

    /// `name` answers `path`; so does whatever was moved away to `name`.
    fn add(&mut self, name: &[u8], path: &[u8]) {
        self.name(name, path);
        let moved = self.diversions.iter().filter(|each| each.to.as_bytes() == name);
        let origins: Vec<Vec<u8>> = moved.map(|each| each.from.as_bytes().to_vec()).collect();
        for from in origins {
            self.name(&from, path);
        }
    }

    fn name(&mut self, name: &[u8], path: &[u8]) {
        self.names.entry(name.to_vec()).or_default().push(path.to_vec());
        if self.lengths.len() <= name.len() {
            self.lengths.resize(name.len() + 1, false);
        }
        self.lengths[name.len()] = true;
    }

    /// Takes in the list of one dpkg package; `package` without architecture.
    pub fn dpkg_list(&mut self, package: &[u8], bytes: &[u8]) {
        // All lists of a machine are some ten megabytes, and few lines are as long as a name.
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', bytes).chain([bytes.len()]) {
            let line = &bytes[start..end];
            if self.lengths.get(line.len()) == Some(&true) {
                self.dpkg_line(package, line);
            }
            start = end + 1;
        }
    }

    fn dpkg_line(&mut self, package: &[u8], line: &[u8]) {
        if let Some(paths) = self.names.get(line) {
            let paths = paths.clone();
            paths.iter().for_each(|path| self.listed(package, line, path));
        }
    }

    /// `package` ships `name`, which may be what stands at `path`.
    fn listed(&mut self, package: &[u8], name: &[u8], path: &[u8]) {
        let diverted = self.diversions.iter().find(|each| each.from.as_bytes() == name);
        let lands = match diverted {
            Some(each) if each.by.as_bytes() != package => each.to.as_bytes(),
            Some(_) | None => name,
        };
        if lands == path || path.strip_prefix(b"/usr") == Some(lands) {
            self.found.insert(path.to_vec(), package.into());
        }
    }

    /// Takes in `/lib/apk/db/installed`: `P:` package, `F:` folder, `R:` file in it.
    pub fn apk_installed(&mut self, bytes: &[u8]) {
        let (mut package, mut folder) = (&b""[..], &b""[..]);
        for line in lines(bytes) {
            match line.split_at_checked(2) {
                Some((b"P:", name)) => package = name,
                Some((b"F:", path)) => folder = path,
                Some((b"R:", file)) => {
                    let name = if folder.is_empty() {
                        [b"/", file].concat()
                    } else {
                        [b"/", folder, b"/", file].concat()
                    };
                    for path in self.names.get(&name).cloned().unwrap_or_default() {
                        self.found.insert(path, package.into());
                    }
                }
                Some(_) | None => {}
            }
        }
    }

    /// The package of a path, where one was found.
    pub fn package(&self, path: &[u8]) -> Option<&Text> {
        self.found.get(path)
    }
}

/// Whether `path` lies in the top folder `top`.
fn below(path: &[u8], top: &[u8]) -> bool {
    path.strip_prefix(b"/").and_then(|rest| rest.strip_prefix(top)).is_some_and(|rest| rest.starts_with(b"/"))
}

/// `libc6:amd64.list` → `libc6`.
fn package_of_list(name: &[u8]) -> Option<&[u8]> {
    let stem = name.strip_suffix(b".list")?;
    let stem = stem.split(|&byte| byte == b':').next()?;
    (!stem.is_empty()).then_some(stem)
}

/// Why the packages of a root are not known.
#[derive(Debug)]
pub enum Unread {
    /// A data base that only its own library reads.
    Rpm,
    Failed(io::Error),
}

/// Packages by path; `Absent`: every data base of this root was read, and none lists the path.
pub type Packages = BTreeMap<Vec<u8>, Fact<Text>>;

/// The packages of these programs, paths as in that root, and why those that are missing are.
pub fn packages(root: &Root<'_>, paths: &BTreeSet<Vec<u8>>) -> (Packages, Option<Unread>) {
    let merged: Vec<&[u8]> = [&b"bin"[..], b"sbin", b"lib", b"lib64", b"lib32"]
        .into_iter()
        .filter(|top| {
            root.read_link([b"/", *top].concat()).is_ok_and(|to| to.ends_with(&[b"usr/", *top].concat()))
        })
        .collect();
    let mut found = match listed(root, paths, &merged) {
        Ok(found) => found,
        Err(unread) => return (Packages::new(), Some(unread)),
    };
    let missing: Vec<&[u8]> = found
        .iter()
        .filter(|(_, package)| package.known().is_none())
        .map(|(path, _)| path.as_slice())
        .collect();
    if missing.is_empty() {
        return (found, None);
    }
    match of_rpm(root, &missing, &merged) {
        Ok(more) => {
            found.extend(more);
            (found, None)
        }
        Err(unread) => {
            found.retain(|_, package| package.known().is_some());
            (found, Some(unread))
        }
    }
}

/// What dpkg and apk list.
fn listed(root: &Root<'_>, paths: &BTreeSet<Vec<u8>>, merged: &[&[u8]]) -> Result<Packages, Unread> {
    let diverted = optional(root.read("/var/lib/dpkg/diversions", LIST_LIMIT))?.unwrap_or_default();
    let mut search = Search::new(paths.iter().map(Vec::as_slice), merged, diversions(&diverted));
    let mut failure = None;
    let is_list = |name: &[u8]| package_of_list(name).is_some();
    optional(root.each_file(DPKG, LIST_LIMIT, is_list, |name, list| match list {
        Ok(list) => search.dpkg_list(package_of_list(name).unwrap_or_default(), list),
        // A package may be removed while we read.
        Err(error) => failure = failure.take().or(optional::<()>(Err(error)).err()),
    }))?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    if let Some(installed) = optional(root.read(APK, APK_LIMIT))? {
        search.apk_installed(&installed);
    }
    Ok(paths.iter().map(|path| (path.clone(), Fact::from(search.package(path).cloned()))).collect())
}

/// What rpm's data base lists, where there is one.
fn of_rpm(root: &Root<'_>, paths: &[&[u8]], merged: &[&[u8]]) -> Result<Packages, Unread> {
    let Some(base) = RPM.iter().find(|path| root.stat(path).is_ok()) else {
        return Ok(Packages::new());
    };
    if !base.ends_with(".sqlite") {
        return Err(Unread::Rpm);
    }
    // A change that was broken off in the middle of the file: the journal would take it back.
    if root.stat(format!("{base}-journal")).is_ok_and(|journal| journal.size > 0) {
        return Err(Unread::Failed(io::ErrorKind::ResourceBusy.into()));
    }
    let names = Search::new(paths.iter().copied(), merged, Vec::new()).names;
    rpm::packages(root, base, &names).map_err(|fault| Unread::Failed(io::Error::other(fault)))
}

const DPKG: &str = "/var/lib/dpkg/info";
const APK: &str = "/lib/apk/db/installed";
/// Those of rpm, by age.
const RPM: [&str; 5] = [
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/var/lib/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/Packages.db",
    "/var/lib/rpm/Packages.db",
    "/var/lib/rpm/Packages",
];

/// Device and inode of the package data base of a root, by which two roots that share it are known.
/// `None` for a root without any.
pub fn base(root: &Root<'_>) -> Option<((u32, u32), u64)> {
    let file = [DPKG, APK].iter().chain(&RPM).find_map(|path| root.stat(path).ok())?;
    Some((file.device, file.inode))
}

/// Not being there is an answer.
fn optional<T>(read: io::Result<T>) -> Result<Option<T>, Unread> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(Unread::Failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn search(path: &str, diverted: &str) -> Search {
        Search::new([path.as_bytes()], &[b"bin", b"lib"], diversions(diverted.as_bytes()))
    }

    fn answer(search: &Search, path: &str) -> Option<String> {
        search.package(path.as_bytes()).map(|name| name.lossy().into_owned())
    }

    #[test]
    fn a_list_names_the_path() {
        let mut search = search("/usr/sbin/sshd", "");
        search.dpkg_list(b"other", b"/.\n/usr\n/usr/sbin\n/usr/sbin/sshd2\n");
        assert_eq!(answer(&search, "/usr/sbin/sshd"), None);
        search.dpkg_list(b"openssh-server", b"/usr/sbin\n/usr/sbin/sshd\n");
        assert_eq!(answer(&search, "/usr/sbin/sshd").as_deref(), Some("openssh-server"));
    }

    #[test]
    fn merged_usr_is_listed_under_the_old_name() {
        let mut merged = search("/usr/bin/sh", "");
        merged.dpkg_list(b"dash", b"/bin/sh\n");
        assert_eq!(answer(&merged, "/usr/bin/sh").as_deref(), Some("dash"));
        let mut plain = Search::new([&b"/usr/bin/sh"[..]], &[], Vec::new());
        plain.dpkg_list(b"dash", b"/bin/sh\n");
        assert_eq!(answer(&plain, "/usr/bin/sh"), None);
    }

    #[test]
    fn a_diverted_file_belongs_to_the_package_that_shipped_it() {
        let diverted = "/usr/bin/vi\n/usr/bin/vi.real\nmine\n";
        let mut at_new_place = search("/usr/bin/vi.real", diverted);
        at_new_place.dpkg_list(b"mine", b"/usr/bin/vi\n");
        assert_eq!(answer(&at_new_place, "/usr/bin/vi.real"), None);
        at_new_place.dpkg_list(b"vim", b"/usr/bin/vi\n");
        assert_eq!(answer(&at_new_place, "/usr/bin/vi.real").as_deref(), Some("vim"));
        let mut at_old_place = search("/usr/bin/vi", diverted);
        at_old_place.dpkg_list(b"vim", b"/usr/bin/vi\n");
        assert_eq!(answer(&at_old_place, "/usr/bin/vi"), None);
        at_old_place.dpkg_list(b"mine", b"/usr/bin/vi\n");
        assert_eq!(answer(&at_old_place, "/usr/bin/vi").as_deref(), Some("mine"));
    }

    #[test]
    fn a_local_diversion_leaves_the_place_to_nobody() {
        let diverted = "/usr/bin/x\n/usr/bin/x.distrib\n:\n";
        let mut search = search("/usr/bin/x", diverted);
        search.dpkg_list(b"xpkg", b"/usr/bin/x\n");
        assert_eq!(answer(&search, "/usr/bin/x"), None);
    }

    #[test]
    fn alpine() {
        let mut search = search("/usr/sbin/nginx", "");
        search.apk_installed(
            b"C:x\nP:busybox\nF:bin\nR:busybox\n\nP:nginx\nV:1\nF:usr/sbin\nR:nginx\nF:\nR:top\n",
        );
        assert_eq!(answer(&search, "/usr/sbin/nginx").as_deref(), Some("nginx"));
    }

    #[test]
    fn names_of_lists() {
        assert_eq!(package_of_list(b"libc6:amd64.list"), Some(&b"libc6"[..]));
        assert_eq!(package_of_list(b"dash.list"), Some(&b"dash"[..]));
        assert_eq!(package_of_list(b"dash.md5sums"), None);
        assert_eq!(package_of_list(b".list"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let mut search = Search::new([&bytes[..]], &[b"bin"], diversions(&bytes));
            search.dpkg_list(&bytes, &bytes);
            search.apk_installed(&bytes);
            let _ = (search.package(&bytes), package_of_list(&bytes));
        }
    }
}
