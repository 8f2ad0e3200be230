//! As much of SQLite's file format as looking a row up takes
//! (<https://www.sqlite.org/fileformat2.html>, section numbers below).
//!
//! SQLite itself would not do: it finds its files by name, following links, even one such as
//! `/proc/self/fd/5`, and so would leave the root in which the file was found (tried: it read the
//! other file of that name); told that a file is immutable, it overlooks the log beside it.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io;

/// All that one data base may make us read.
const BUDGET: usize = 512 << 20;
/// No log is longer (SQLite starts it anew after some 4 MB).
const LOG_LIMIT: u64 = 128 << 20;
/// Headers of rpm are far below.
const ROW_LIMIT: usize = 64 << 20;
/// A tree of 2^31 pages is not deeper.
const DEPTH: usize = 40;
const ROWS: usize = 100_000;

#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error("the data base is damaged: {0}")]
    Damaged(&'static str),
}

/// The files of a data base.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Part {
    Main,
    /// The write-ahead log, with what has not been carried over yet.
    Log,
}

pub trait Files {
    /// So many bytes from there on, fewer only at the end of the file; none where it is missing.
    ///
    /// # Errors
    /// What reading gives.
    fn at(&self, part: Part, offset: u64, len: usize) -> io::Result<Vec<u8>>;
}

#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    Null,
    Integer(i64),
    Real,
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl Value {
    fn rank(&self) -> (u8, &[u8]) {
        match self {
            Self::Null => (0, &[]),
            Self::Integer(_) | Self::Real => (1, &[]),
            Self::Text(text) => (2, text),
            Self::Blob(blob) => (3, blob),
        }
    }

    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Null | Self::Real | Self::Text(_) | Self::Blob(_) => None,
        }
    }

    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Text(bytes) | Self::Blob(bytes) => Some(bytes),
            Self::Null | Self::Integer(_) | Self::Real => None,
        }
    }
}

pub struct Database<F> {
    files: F,
    page: usize,
    /// A page without the bytes that are reserved at its end.
    usable: usize,
    /// Pages that are newer in the log, with their places there.
    logged: BTreeMap<u32, u64>,
    left: Cell<usize>,
}

impl<F: Files> Database<F> {
    /// # Errors
    /// When it cannot be read or is no data base.
    pub fn open(files: F) -> Result<Self, Fault> {
        let head = files.at(Part::Main, 0, 100)?;
        if head.len() < 100 || !head.starts_with(b"SQLite format 3\0") {
            return Err(Fault::Damaged("no header"));
        }
        let page = match be16(&head, 16)? {
            1 => 65_536, // section 1.3.2
            size => usize::from(size),
        };
        let usable = page.saturating_sub(usize::from(head[20]));
        if !page.is_power_of_two() || page < 512 || usable < 480 {
            return Err(Fault::Damaged("size of pages"));
        }
        if be32(&head, 56)? > 1 {
            return Err(Fault::Damaged("text is not UTF-8"));
        }
        let logged = log(&files, page)?;
        Ok(Self { files, page, usable, logged, left: Cell::new(BUDGET) })
    }

    /// Root pages of tables and indices, by kind, table and name (section 2.6).
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn roots(&self) -> Result<BTreeMap<(String, String, String), u32>, Fault> {
        let mut roots = BTreeMap::new();
        let mut pages = vec![(1_u32, 0)];
        while let Some((number, depth)) = pages.pop() {
            let page = self.node(number, depth)?;
            for at in 0..page.count {
                let cell = page.cell(at)?;
                if page.kind == Kind::TableBranch {
                    pages.push((be32(&page.bytes, cell)?, depth + 1));
                    continue;
                }
                let row = record(&self.row(&page, cell)?.1)?;
                let word = |at: usize| {
                    let bytes = row.get(at).and_then(Value::bytes);
                    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
                };
                let root = row.get(3).and_then(Value::integer).and_then(|root| u32::try_from(root).ok());
                if let (Some(kind), Some(name), Some(table), Some(root)) = (word(0), word(1), word(2), root) {
                    roots.insert((kind, table, name), root);
                }
                if roots.len() > ROWS {
                    return Err(Fault::Damaged("too many tables"));
                }
            }
            if page.kind == Kind::TableBranch {
                pages.push((be32(&page.bytes, page.head + 8)?, depth + 1));
            }
        }
        Ok(roots)
    }

    /// The row of a table with this number.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn get(&self, root: u32, number: i64) -> Result<Option<Vec<Value>>, Fault> {
        let mut next = root;
        for depth in 0.. {
            let page = self.node(next, depth)?;
            if page.kind == Kind::TableLeaf {
                for at in 0..page.count {
                    let cell = page.cell(at)?;
                    let (_, after) = varint(&page.bytes, cell)?;
                    if varint(&page.bytes, after)?.0 == number {
                        return record(&self.row(&page, cell)?.1).map(Some);
                    }
                }
                return Ok(None);
            }
            next = be32(&page.bytes, page.head + 8)?;
            for at in 0..page.count {
                let cell = page.cell(at)?;
                if number <= varint(&page.bytes, cell + 4)?.0 {
                    next = be32(&page.bytes, cell)?;
                    break;
                }
            }
        }
        Ok(None)
    }

    /// Numbers of the rows whose first column in this index is that text.
    ///
    /// # Errors
    /// When it cannot be read or is damaged, or there are too many.
    pub fn find(&self, index: u32, text: &[u8]) -> Result<Vec<i64>, Fault> {
        let mut found = Vec::new();
        self.search(index, text, 0, &mut found)?;
        Ok(found)
    }

    fn search(&self, root: u32, text: &[u8], depth: usize, found: &mut Vec<i64>) -> Result<(), Fault> {
        let page = self.node(root, depth)?;
        let branch = match page.kind {
            Kind::IndexBranch => true,
            Kind::IndexLeaf => false,
            Kind::TableBranch | Kind::TableLeaf => return Err(Fault::Damaged("a table in an index")),
        };
        for at in 0..page.count {
            let cell = page.cell(at)?;
            let start = if branch { cell + 4 } else { cell };
            let (size, after) = varint(&page.bytes, start)?;
            let row = record(&self.payload(&page, after, size, true)?)?;
            let order = row.first().map_or((0, &[][..]), Value::rank).cmp(&(2, text));
            if order == Ordering::Less {
                continue;
            }
            if branch {
                self.search(be32(&page.bytes, cell)?, text, depth + 1, found)?;
            }
            if order == Ordering::Greater {
                return Ok(());
            }
            found.extend(row.last().and_then(Value::integer));
            if found.len() > ROWS {
                return Err(Fault::Damaged("too many rows of one name"));
            }
        }
        if branch { self.search(be32(&page.bytes, page.head + 8)?, text, depth + 1, found) } else { Ok(()) }
    }

    /// Number and payload of a row in a leaf of a table.
    fn row(&self, page: &Node, cell: usize) -> Result<(i64, Vec<u8>), Fault> {
        let (size, after) = varint(&page.bytes, cell)?;
        let (number, after) = varint(&page.bytes, after)?;
        Ok((number, self.payload(page, after, size, false)?))
    }

    /// What of a payload lies in the cell and what on pages of its own: section 1.6.
    fn payload(&self, page: &Node, start: usize, size: i64, index: bool) -> Result<Vec<u8>, Fault> {
        let size = usize::try_from(size).ok().filter(|size| *size <= ROW_LIMIT);
        let size = size.ok_or(Fault::Damaged("size of a row"))?;
        let most = if index { (self.usable - 12) * 64 / 255 - 23 } else { self.usable - 35 };
        let local = if size <= most {
            size
        } else {
            let least = (self.usable - 12) * 32 / 255 - 23;
            let fitting = least + (size - least) % (self.usable - 4);
            if fitting <= most { fitting } else { least }
        };
        let mut bytes = part(&page.bytes, start, local)?.to_vec();
        if local == size {
            return Ok(bytes);
        }
        let mut next = be32(&page.bytes, start + local)?;
        while bytes.len() < size {
            let page = self.page(next)?;
            next = be32(&page, 0)?;
            let take = (size - bytes.len()).min(self.usable - 4);
            bytes.extend_from_slice(part(&page, 4, take)?);
        }
        Ok(bytes)
    }

    fn node(&self, number: u32, depth: usize) -> Result<Node, Fault> {
        if depth > DEPTH {
            return Err(Fault::Damaged("depth of a tree"));
        }
        let bytes = self.page(number)?;
        let head = if number == 1 { 100 } else { 0 };
        let kind = match bytes.get(head) {
            Some(2) => Kind::IndexBranch,
            Some(5) => Kind::TableBranch,
            Some(10) => Kind::IndexLeaf,
            Some(13) => Kind::TableLeaf,
            Some(_) | None => return Err(Fault::Damaged("kind of a page")),
        };
        let count = usize::from(be16(&bytes, head + 3)?);
        Ok(Node { bytes, head, kind, count })
    }

    fn page(&self, number: u32) -> Result<Vec<u8>, Fault> {
        let left = self.left.get().checked_sub(self.page).ok_or(Fault::Damaged("no end of pages"))?;
        self.left.set(left);
        let place = match (self.logged.get(&number), number.checked_sub(1)) {
            (_, None) => return Err(Fault::Damaged("number of a page")),
            (Some(at), _) => (Part::Log, *at),
            (None, Some(before)) => (Part::Main, u64::from(before) * self.page as u64),
        };
        let bytes = self.files.at(place.0, place.1, self.page)?;
        if bytes.len() == self.page { Ok(bytes) } else { Err(Fault::Damaged("a page is missing")) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    IndexBranch,
    TableBranch,
    IndexLeaf,
    TableLeaf,
}

/// A page of a tree (section 1.6).
struct Node {
    bytes: Vec<u8>,
    head: usize,
    kind: Kind,
    count: usize,
}

impl Node {
    fn cell(&self, at: usize) -> Result<usize, Fault> {
        let branch = matches!(self.kind, Kind::IndexBranch | Kind::TableBranch);
        be16(&self.bytes, self.head + if branch { 12 } else { 8 } + 2 * at).map(usize::from)
    }
}

/// The newest committed place of each page in the log (section 4).
fn log(files: &impl Files, page: usize) -> Result<BTreeMap<u32, u64>, Fault> {
    let mut committed = BTreeMap::new();
    let head = files.at(Part::Log, 0, 32)?;
    if head.len() < 32 {
        return Ok(committed);
    }
    let big = match be32(&head, 0)? {
        0x377f_0682 => false,
        0x377f_0683 => true,
        _ => return Ok(committed),
    };
    let mut sum = checksum((0, 0), &head[..24], big);
    if (be32(&head, 24)?, be32(&head, 28)?) != sum || be32(&head, 8)? as usize != page {
        return Ok(committed); // SQLite takes it for empty too
    }
    let mut pending = BTreeMap::new();
    let frame = 24 + page;
    let mut at = 32_u64;
    loop {
        if at > LOG_LIMIT {
            return Err(Fault::Damaged("length of the log"));
        }
        let bytes = files.at(Part::Log, at, frame)?;
        // The salt of the header marks the frames of this round.
        if bytes.len() < frame || bytes[8..16] != head[16..24] {
            return Ok(committed);
        }
        sum = checksum(checksum(sum, &bytes[..8], big), &bytes[24..], big);
        if (be32(&bytes, 16)?, be32(&bytes, 20)?) != sum {
            return Ok(committed);
        }
        pending.insert(be32(&bytes, 0)?, at + 24);
        if be32(&bytes, 4)? != 0 {
            committed.append(&mut pending);
        }
        at += frame as u64;
    }
}

/// Section 4.2.
fn checksum(start: (u32, u32), bytes: &[u8], big: bool) -> (u32, u32) {
    let word = |four: &[u8]| {
        let four = [four[0], four[1], four[2], four[3]];
        if big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
    };
    bytes.chunks_exact(8).fold(start, |(mut a, mut b), eight| {
        a = a.wrapping_add(word(&eight[..4])).wrapping_add(b);
        b = b.wrapping_add(word(&eight[4..])).wrapping_add(a);
        (a, b)
    })
}

/// The columns of a row (section 2.1).
fn record(bytes: &[u8]) -> Result<Vec<Value>, Fault> {
    let (size, mut at) = varint(bytes, 0)?;
    let end = usize::try_from(size).ok().filter(|end| *end <= bytes.len());
    let end = end.ok_or(Fault::Damaged("head of a row"))?;
    let mut body = end;
    let mut values = Vec::new();
    while at < end {
        let (kind, after) = varint(bytes, at)?;
        at = after;
        let kind = usize::try_from(kind).map_err(|_| Fault::Damaged("kind of a value"))?;
        let size = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return Err(Fault::Damaged("kind of a value")),
            _ => (kind - 12) / 2,
        };
        let raw = part(bytes, body, size)?;
        body += size;
        values.push(match kind {
            0 => Value::Null,
            1..=6 => Value::Integer(integer(raw)),
            7 => Value::Real,
            8 | 9 => Value::Integer(i64::from(kind == 9)),
            _ if kind % 2 == 0 => Value::Blob(raw.to_vec()),
            _ => Value::Text(raw.to_vec()),
        });
    }
    Ok(values)
}

/// Big-endian with sign, 1 to 8 bytes.
fn integer(bytes: &[u8]) -> i64 {
    let sign = bytes.first().is_some_and(|first| first & 0x80 != 0);
    bytes.iter().fold(if sign { -1 } else { 0 }, |number, byte| number << 8 | i64::from(*byte))
}

/// A number of 1 to 9 bytes, and the place behind it.
fn varint(bytes: &[u8], at: usize) -> Result<(i64, usize), Fault> {
    let mut number = 0_u64;
    for length in 0..9 {
        let byte = *at.checked_add(length).and_then(|at| bytes.get(at)).ok_or(Fault::Damaged("a number"))?;
        if length == 8 {
            return Ok(((number << 8 | u64::from(byte)).cast_signed(), at + 9));
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Ok((number.cast_signed(), at + length + 1));
        }
    }
    Err(Fault::Damaged("a number"))
}

fn part(bytes: &[u8], at: usize, size: usize) -> Result<&[u8], Fault> {
    at.checked_add(size).and_then(|end| bytes.get(at..end)).ok_or(Fault::Damaged("a row leaves its page"))
}

fn be16(bytes: &[u8], at: usize) -> Result<u16, Fault> {
    part(bytes, at, 2).map(|two| u16::from_be_bytes([two[0], two[1]]))
}

fn be32(bytes: &[u8], at: usize) -> Result<u32, Fault> {
    part(bytes, at, 4).map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(varint(&[0x7f], 0).unwrap(), (127, 1));
        assert_eq!(varint(&[0x81, 0x00], 0).unwrap(), (128, 2));
        assert_eq!(varint(&[0xff; 9], 0).unwrap(), (-1, 9));
        assert!(varint(&[0x80], 0).is_err());
        assert_eq!((integer(&[0xff]), integer(&[0x00, 0x80]), integer(&[])), (-1, 128, 0));
    }

    #[test]
    fn rows() {
        let row = record(&[5, 0, 1, 9, 17, 0xfe, b'h', b'i']).unwrap();
        assert_eq!(row, [Value::Null, Value::Integer(-2), Value::Integer(1), Value::Text(b"hi".to_vec())]);
        assert!(record(&[3, 1]).is_err() && record(&[2, 17, b'h']).is_err());
    }
}
