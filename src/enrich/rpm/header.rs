//! A package's header as rpm keeps it: an index of tags, and the data that they point into
//! (rpm's `docs/manual/format_header.md`). The blob of the data base lacks the magic of a file.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

/// As rpm itself (`hdrchkTags`, `hdrchkData` in lib/header_internal.h).
const TAGS: usize = 0xffff;
const DATA: usize = 0x0fff_ffff;

const NAME: u32 = 1000;
const FILESTATES: u32 = 1029;
const DIRINDEXES: u32 = 1116;
const BASENAMES: u32 = 1117;
const DIRNAMES: u32 = 1118;

const CHAR: u32 = 1;
const INT32: u32 = 4;
const STRING: u32 = 6;
const STRING_ARRAY: u32 = 8;

/// `RPMFILE_STATE_NORMAL`: the file stands where the package put it.
const NORMAL: u8 = 0;

#[derive(Clone, Copy, Debug)]
struct Entry {
    kind: u32,
    offset: usize,
    count: usize,
}

#[derive(Clone, Debug)]
pub struct Header<'b> {
    entries: BTreeMap<u32, Entry>,
    data: &'b [u8],
}

impl<'b> Header<'b> {
    /// `None` for bytes that are no header.
    pub fn parse(bytes: &'b [u8]) -> Option<Self> {
        let (tags, size) = (number(bytes, 0)?, number(bytes, 4)?);
        if tags > TAGS || size > DATA {
            return None;
        }
        let index = bytes.get(8..8 + 16 * tags)?;
        let data = bytes.get(8 + 16 * tags..)?.get(..size)?;
        let mut entries = BTreeMap::new();
        for entry in index.chunks_exact(16) {
            let word = |at| number(entry, at);
            let (offset, count) = (word(8)?, word(12)?);
            if offset <= size && count <= size {
                let (tag, kind) = (u32::try_from(word(0)?).ok()?, u32::try_from(word(4)?).ok()?);
                entries.insert(tag, Entry { kind, offset, count });
            }
        }
        Some(Self { entries, data })
    }

    pub fn name(&self) -> Option<&'b [u8]> {
        let (entry, data) = self.entry(NAME, STRING)?;
        (entry.count == 1).then(|| text(data)).flatten()
    }

    /// The path of a file of the package; `None` where it has none of that number, or where what
    /// stands there is not the package's (replaced by another one's, left out at the installation).
    pub fn installed(&self, file: usize) -> Option<Vec<u8>> {
        if let Some((entry, data)) = self.entry(FILESTATES, CHAR)
            && file < entry.count
            && *data.get(file)? != NORMAL
        {
            return None;
        }
        let base = self.of_array(BASENAMES, file)?;
        let (entry, data) = self.entry(DIRINDEXES, INT32)?;
        let folder = (file < entry.count).then(|| number(data, 4 * file)).flatten()?;
        Some([self.of_array(DIRNAMES, folder)?, base].concat())
    }

    fn of_array(&self, tag: u32, at: usize) -> Option<&'b [u8]> {
        let (entry, data) = self.entry(tag, STRING_ARRAY)?;
        if at >= entry.count {
            return None;
        }
        let mut rest = data;
        for _ in 0..at {
            rest = rest.get(text(rest)?.len() + 1..)?;
        }
        text(rest)
    }

    fn entry(&self, tag: u32, kind: u32) -> Option<(Entry, &'b [u8])> {
        let entry = self.entries.get(&tag).filter(|entry| entry.kind == kind)?;
        Some((*entry, self.data.get(entry.offset..)?))
    }
}

/// Up to the NUL.
fn text(bytes: &[u8]) -> Option<&[u8]> {
    bytes.iter().position(|byte| *byte == 0).map(|end| &bytes[..end])
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    usize::try_from(u32::from_be_bytes([four[0], four[1], four[2], four[3]])).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    /// The header of a package with `/opt/sample/bin/sleeper` and `/opt/sample/lib/sleeper`, as rpm
    /// 4.18 has put it into its data base.
    const SAMPLE: &[u8] = include_bytes!("../../../fuzz/corpus/rpm_header/sample");

    #[test]
    fn a_header_of_rpm_itself() {
        let header = Header::parse(SAMPLE).unwrap();
        assert_eq!(header.name(), Some(&b"sockwarden-sample"[..]));
        let files: Vec<_> = (0..6).map(|file| header.installed(file)).collect();
        let path = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(files[2], path("/opt/sample/bin/sleeper"));
        assert_eq!(files[4], path("/opt/sample/lib/sleeper"));
        assert_eq!(files[5], None);
    }

    #[test]
    fn a_file_that_another_package_replaced_is_not_the_packages() {
        let mut bytes = SAMPLE.to_vec();
        let header = Header::parse(SAMPLE).unwrap();
        let states = header.entries[&FILESTATES].offset + SAMPLE.len() - header.data.len();
        bytes[states + 2] = 1; // RPMFILE_STATE_REPLACED
        let header = Header::parse(&bytes).unwrap();
        assert_eq!((header.installed(2), header.installed(4).is_some()), (None, true));
    }

    #[test]
    fn every_cut_is_refused_or_harmless() {
        for end in 0..SAMPLE.len() {
            assert!(Header::parse(&SAMPLE[..end]).is_none(), "{end}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>(), at in 0..SAMPLE.len(), byte in any::<u8>()) {
            let mut near = SAMPLE.to_vec();
            near[at] = byte;
            for header in [Header::parse(&bytes), Header::parse(&near)].into_iter().flatten() {
                let _ = (header.name(), header.installed(0), header.installed(4), header.installed(usize::MAX));
            }
        }
    }
}
