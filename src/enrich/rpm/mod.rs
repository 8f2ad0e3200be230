//! Packages of rpm: its data base (`rpmdb.sqlite`, since rpm 4.16) is read as a file, through the
//! owner's own root. A name is looked up in the index of base names, and the headers of the
//! packages that have it tell whole paths.

#![forbid(unsafe_code)]

pub mod header;
pub mod sqlite;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

use header::Header;
use sqlite::{Database, Fault, Files, Part, Value};

use crate::model::{Fact, Text};
use crate::source::Root;

/// Bytes that are read at once.
const WINDOW: usize = 32 << 10;
/// So many windows are kept.
const WINDOWS: usize = 1024;
/// How often a data base is asked that changes meanwhile.
const TRIES: usize = 3;

/// A data base in a root.
struct Base<'r, 's> {
    root: &'r Root<'s>,
    path: &'r str,
    windows: RefCell<BTreeMap<(Part, u64), Vec<u8>>>,
}

impl Base<'_, '_> {
    fn window(&self, part: Part, offset: u64) -> io::Result<Vec<u8>> {
        let path = match part {
            Part::Main => self.path.to_owned(),
            Part::Log => format!("{}-wal", self.path),
        };
        match self.root.read_at(path, offset, WINDOW) {
            Err(error) if part == Part::Log && error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read,
        }
    }

    /// What changes with every change: the head of the file, and that of the log.
    fn state(&self) -> io::Result<[Vec<u8>; 2]> {
        let head = |part, size| {
            self.window(part, 0).map(|mut bytes| {
                bytes.truncate(size);
                bytes
            })
        };
        Ok([head(Part::Main, 100)?, head(Part::Log, 32)?])
    }
}

impl Files for &Base<'_, '_> {
    fn at(&self, part: Part, mut offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let start = offset - offset % WINDOW as u64;
            let mut windows = self.windows.borrow_mut();
            if !windows.contains_key(&(part, start)) {
                if windows.len() >= WINDOWS {
                    windows.clear();
                }
                windows.insert((part, start), self.window(part, start)?);
            }
            let window = windows.get(&(part, start)).map_or(&[][..], Vec::as_slice);
            let skip = usize::try_from(offset - start).unwrap_or(WINDOW);
            let Some(rest) = window.get(skip..).filter(|rest| !rest.is_empty()) else { break };
            let take = rest.len().min(len - bytes.len());
            bytes.extend_from_slice(&rest[..take]);
            offset += take as u64;
        }
        Ok(bytes)
    }
}

/// The packages of these paths, each with the names under which a package may list it. `Absent`: no
/// package lists it. Where several share a path all are named.
///
/// # Errors
/// When the data base cannot be read, is damaged, or changes all the time.
pub fn packages(
    root: &Root<'_>,
    path: &str,
    names: &BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
) -> Result<BTreeMap<Vec<u8>, Fact<Text>>, Fault> {
    for _ in 0..TRIES {
        let base = Base { root, path, windows: RefCell::default() };
        let before = base.state()?;
        let found = look_up(&base, names);
        if base.state()? == before {
            return found;
        }
    }
    Err(Fault::Read(io::ErrorKind::ResourceBusy.into()))
}

/// See [`packages`].
///
/// # Errors
/// When the data base cannot be read or is damaged.
pub fn look_up(
    files: impl Files,
    names: &BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
) -> Result<BTreeMap<Vec<u8>, Fact<Text>>, Fault> {
    let base = Database::open(files)?;
    let roots = base.roots()?;
    let root = |kind: &str, table: &str, name: &str| {
        let key = (kind.to_owned(), table.to_owned(), name.to_owned());
        roots.get(&key).copied().ok_or(Fault::Damaged("a table of rpm is missing"))
    };
    let index = root("index", "Basenames", "Basenames_key_idx")?;
    let (basenames, packages) =
        (root("table", "Basenames", "Basenames")?, root("table", "Packages", "Packages")?);

    /// A file of a package by its number, the name that it should have, and the path it would answer.
    type Asked<'n> = (usize, &'n [u8], &'n [u8]);
    let mut asked: BTreeMap<i64, Vec<Asked<'_>>> = BTreeMap::new();
    for (name, paths) in names {
        let last = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        for row in base.find(index, last)? {
            let row = base.get(basenames, row)?.unwrap_or_default();
            let column = |at: usize| row.get(at).and_then(Value::integer);
            let (Some(package), Some(file)) = (column(1), column(2)) else { continue };
            let Ok(file) = usize::try_from(file) else { continue };
            asked.entry(package).or_default().extend(paths.iter().map(|path| (file, &name[..], &path[..])));
        }
    }
    let mut claims: BTreeMap<&[u8], BTreeSet<Vec<u8>>> = BTreeMap::new();
    for (package, files) in asked {
        let row = base.get(packages, package)?.unwrap_or_default();
        let blob = row.get(1).and_then(Value::bytes).unwrap_or_default();
        let header = Header::parse(blob).ok_or(Fault::Damaged("the header of a package"))?;
        for (file, name, path) in files {
            if header.installed(file).as_deref() == Some(name) {
                claims.entry(path).or_default().extend(header.name().map(<[u8]>::to_vec));
            }
        }
    }
    let wanted = names.values().flatten();
    Ok(wanted.map(|path| (path.clone(), package(claims.get(path.as_slice())))).collect())
}

fn package(claims: Option<&BTreeSet<Vec<u8>>>) -> Fact<Text> {
    let names: Vec<&[u8]> = claims.into_iter().flatten().map(Vec::as_slice).collect();
    if names.is_empty() { Fact::Absent } else { Fact::Known(names.join(&b", "[..]).as_slice().into()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    /// Main file and log.
    struct Memory<'b>(&'b [u8], &'b [u8]);

    impl Files for Memory<'_> {
        fn at(&self, part: Part, offset: u64, len: usize) -> io::Result<Vec<u8>> {
            let bytes = if part == Part::Main { self.0 } else { self.1 };
            let rest = usize::try_from(offset).ok().and_then(|start| bytes.get(start..)).unwrap_or_default();
            Ok(rest[..rest.len().min(len)].to_vec())
        }
    }

    /// Fifty packages with files called `tool` and more, in pages of 512 bytes: branches of
    /// every kind, and headers on pages of their own. Made by SQLite with the tables of rpm.
    const BASE: &[u8] = include_bytes!("../../../fuzz/corpus/rpm_base/packages");
    /// The same with one package renamed, which is in the log alone.
    const LOG: &[u8] = include_bytes!("../../../fuzz/corpus/rpm_base/packages.log");

    fn ask(base: &[u8], log: &[u8], paths: &[&str]) -> Result<Vec<Fact<Text>>, Fault> {
        let paths: Vec<Vec<u8>> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
        let names = paths.iter().map(|path| (path.clone(), vec![path.clone()])).collect();
        let found = look_up(Memory(base, log), &names)?;
        Ok(paths.iter().map(|path| found[path].clone()).collect())
    }

    #[test]
    fn the_path_decides_among_many_of_one_name() {
        for number in [0, 1, 17, 49] {
            let path = format!("/opt/p{number}/tool");
            let name = Fact::Known(format!("package-{number}").as_str().into());
            assert_eq!(ask(BASE, b"", &[&path]).unwrap(), [name], "{path}");
        }
        let others = ["/opt/p50/tool", "/opt/p1/too", "/tool", "tool", "/", ""];
        assert_eq!(ask(BASE, b"", &others).unwrap(), vec![Fact::Absent; others.len()]);
        assert_eq!(
            ask(BASE, b"", &["/opt/shared/twice"]).unwrap(),
            [Fact::Known("package-3, package-4".into())],
            "two share it"
        );
    }

    #[test]
    fn what_is_in_the_log_is_newer_and_a_torn_log_counts_to_its_last_whole_change() {
        let renamed = |log: &[u8]| ask(BASE, log, &["/opt/p7/tool"]).unwrap()[0].clone();
        assert_eq!(renamed(b""), Fact::Known("package-7".into()));
        assert_eq!(renamed(LOG), Fact::Known("renamed-7".into()));
        assert_eq!(renamed(&LOG[..LOG.len() - 1]), Fact::Known("package-7".into()));
        let mut torn = LOG.to_vec();
        *torn.last_mut().unwrap() ^= 1;
        assert_eq!(renamed(&torn), Fact::Known("package-7".into()));
    }

    #[test]
    fn what_is_no_data_base_is_refused() {
        assert!(ask(b"", b"", &["/x"]).is_err());
        assert!(ask(&BASE[..4096], b"", &["/opt/p1/tool"]).is_err());
        let mut looped = BASE.to_vec();
        looped[512..].chunks_exact_mut(512).for_each(|page| page.copy_from_slice(&BASE[512..1024]));
        assert!(ask(&looped, b"", &["/opt/p1/tool"]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(at in 0..BASE.len(), bytes in any::<[u8; 4]>()) {
            let mut base = BASE.to_vec();
            let end = BASE.len().min(at + 4);
            base[at..end].copy_from_slice(&bytes[..end - at]);
            let _ = ask(&base, LOG, &["/opt/p1/tool", "/opt/shared/twice"]);
            let _ = ask(&bytes, &bytes, &["/x"]);
        }
    }
}
