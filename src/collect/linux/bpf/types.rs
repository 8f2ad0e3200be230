//! The running kernel's description of its types (BTF, Documentation/bpf/btf.rst), as far as
//! `iter.bpf.c` needs it.
//!
//! The description is some 6 MB long, and a loader that reads it whole spends more than a walk through
//! the file tables of a small computer costs. What one program reads of it is an excerpt of a dozen
//! structures, in the same format: what relocates programs takes it for the whole.

#![forbid(unsafe_code)]

use crate::collect::linux::wire::{u16_at, u32_at};

/// What `iter.bpf.c` reads, structure by structure.
const FIELDS: [(&str, &[&str]); 10] = [
    ("super_block", &["s_magic"]),
    ("inode", &["i_ino", "i_sb"]),
    ("qstr", &["name"]),
    ("dentry", &["d_name"]),
    ("path", &["dentry"]),
    ("file", &["f_path", "f_inode"]),
    ("seq_file", &["buf", "count"]),
    ("upid", &["nr"]),
    ("pid", &["level", "numbers"]),
    ("task_struct", &["pid", "tgid", "start_boottime", "real_parent", "group_leader", "thread_pid", "comm"]),
];

const MAGIC: u16 = 0xeb9f;
/// `struct btf_header`.
const HEADER: usize = 24;
/// `struct btf_type`, which something of its kind may follow.
const TYPE: usize = 12;
const MEMBER: usize = 12;
/// Types are followed through so many others at most.
const DEEPEST: u32 = 16;
/// So many fields of one structure, and of those without names in it, are looked at.
const BUDGET: u32 = 20_000;
/// A kernel has some 150,000; more than these are not read.
const MOST_TYPES: usize = 4_000_000;

const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// What a program needs to be loaded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Excerpt {
    /// Described as the kernel describes all of its types.
    pub types: Vec<u8>,
    /// The number of the function that the program is attached to.
    pub function: u32,
}

/// The excerpt for a program that is attached to `function`; `None` where the kernel has no such
/// function, or describes something else than it should.
pub fn excerpt(description: &[u8], function: &str) -> Option<Excerpt> {
    let whole = Whole::read(description)?;
    let (structs, function) = whole.survey(function)?;
    let mut made = Made::new();
    for (name, fields) in &FIELDS {
        for at in structs.iter().filter(|(each, _)| each == name).map(|(_, at)| *at) {
            let mut budget = BUDGET;
            let found: Vec<(&str, Member)> = fields
                .iter()
                .filter_map(|field| Some((*field, whole.member(at, field, (0, 0), &mut budget)?)))
                .collect();
            made.add(&whole, name, u32_at(whole.types, at + 8)?, &found);
        }
    }
    Some(Excerpt { types: made.into_bytes(), function })
}

/// The whole description.
struct Whole<'d> {
    types: &'d [u8],
    strings: &'d [u8],
    /// Where each type begins, by number; 0 is `void` and none.
    places: std::cell::RefCell<Vec<u32>>,
}

/// A field of a structure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Member {
    /// Bits from the start of the outermost structure.
    offset: u32,
    /// Its type, by place.
    place: usize,
}

impl<'d> Whole<'d> {
    fn read(bytes: &'d [u8]) -> Option<Self> {
        if u16_at(bytes, 0)? != MAGIC || bytes.get(2) != Some(&1) {
            return None;
        }
        let header = u32_at(bytes, 4)? as usize;
        let part = |at: usize| {
            let start = header.checked_add(u32_at(bytes, at)? as usize)?;
            bytes.get(start..start.checked_add(u32_at(bytes, at + 4)? as usize)?)
        };
        Some(Self { types: part(8)?, strings: part(16)?, places: std::cell::RefCell::default() })
    }

    /// Finds structures of these names, and the function.
    fn survey(&self, function: &str) -> Option<(Vec<(&'static str, usize)>, u32)> {
        let mut places = self.places.borrow_mut();
        // Most types are followed by something.
        places.reserve(self.types.len() / (2 * TYPE));
        places.push(u32::MAX);
        let mut structs = Vec::new();
        let mut found = None;
        let mut at = 0;
        while at < self.types.len() {
            let (name, info) = (u32_at(self.types, at)?, u32_at(self.types, at + 4)?);
            let kind = info >> 24 & 0x1f;
            if kind == STRUCT {
                if let Some((name, _)) = FIELDS.iter().find(|(each, _)| self.says(name, each)) {
                    structs.push((*name, at));
                }
            } else if kind == FUNC && found.is_none() && self.says(name, function) {
                found = u32::try_from(places.len()).ok();
            }
            if places.len() >= MOST_TYPES {
                return None;
            }
            places.push(u32::try_from(at).ok()?);
            at += TYPE + more(kind, info & 0xffff)?;
        }
        Some((structs, found?))
    }

    /// Whether a name is this one.
    fn says(&self, name: u32, expected: &str) -> bool {
        let rest = self.strings.get(name as usize..).unwrap_or_default();
        rest.starts_with(expected.as_bytes()) && rest.get(expected.len()) == Some(&0)
    }

    fn kind(&self, place: usize) -> Option<u32> {
        Some(u32_at(self.types, place + 4)? >> 24 & 0x1f)
    }

    fn place(&self, number: u32) -> Option<usize> {
        let place = *self.places.borrow().get(number as usize)?;
        (place != u32::MAX).then_some(place as usize)
    }

    /// Looks through names for types and what is said of variables besides.
    fn settle(&self, mut number: u32) -> Option<usize> {
        for _ in 0..DEEPEST {
            let place = self.place(number)?;
            match self.kind(place)? {
                TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => number = u32_at(self.types, place + 8)?,
                _ => return Some(place),
            }
        }
        None
    }

    fn name(&self, place: usize) -> Option<&'d [u8]> {
        let rest = self.strings.get(u32_at(self.types, place)? as usize..)?;
        rest.split(|byte| *byte == 0).next()
    }

    /// A field of the structure or union at a place, those without names inside it included. `from`: where
    /// it begins, in bits, and in how many others it is.
    fn member(&self, at: usize, field: &str, from: (u32, u32), budget: &mut u32) -> Option<Member> {
        let (base, depth) = from;
        let info = u32_at(self.types, at + 4)?;
        // With the flag, the upper 8 bits are the width of a bit field.
        let mask = if info >> 31 == 1 { 0x00ff_ffff } else { u32::MAX };
        for member in 0..(info & 0xffff) as usize {
            *budget = budget.checked_sub(1)?;
            let member_at = at + TYPE + member * MEMBER;
            let number = u32_at(self.types, member_at + 4)?;
            let offset = base.checked_add(u32_at(self.types, member_at + 8)? & mask)?;
            let Some(place) = self.settle(number) else { continue };
            let name = self.name(member_at)?;
            if name == field.as_bytes() {
                return Some(Member { offset, place });
            }
            if name.is_empty()
                && depth < DEEPEST
                && matches!(self.kind(place)?, STRUCT | UNION)
                && let Some(found) = self.member(place, field, (offset, depth + 1), budget)
            {
                return Some(found);
            }
        }
        None
    }
}

/// How much follows a `struct btf_type`, in bytes.
fn more(kind: u32, count: u32) -> Option<usize> {
    let count = count as usize;
    Some(match kind {
        INT | VAR | DECL_TAG => 4,
        ARRAY => 12,
        STRUCT | UNION | DATASEC | ENUM64 => count * 12,
        ENUM | FUNC_PROTO => count * 8,
        // Pointers, functions, and names for other types; forward declarations and floats.
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

/// A description of our own making. It begins with integers of 1, 2, 4 and 8 bytes and a pointer.
struct Made {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
    structs: Vec<(&'static str, u32)>,
}

const POINTER: u32 = 5;

impl Made {
    fn new() -> Self {
        let mut made = Self { types: Vec::new(), strings: vec![0], count: 0, structs: Vec::new() };
        for size in [1, 2, 4, 8] {
            made.push(&[0, INT << 24, size, size * 8]);
        }
        made.push(&[0, PTR << 24, 0]);
        made
    }

    fn push(&mut self, words: &[u32]) -> u32 {
        self.types.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        self.count += 1;
        self.count
    }

    fn string(&mut self, text: &str) -> u32 {
        let at = self.strings.len();
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        u32::try_from(at).unwrap_or(0)
    }

    fn add(&mut self, whole: &Whole<'_>, name: &'static str, size: u32, fields: &[(&str, Member)]) {
        let mut members = Vec::with_capacity(fields.len());
        for (field, member) in fields {
            if let Some(number) = self.like(whole, member.place, 0) {
                members.push([self.string(field), number, member.offset]);
            }
        }
        let count = u32::try_from(members.len()).unwrap_or(0);
        let mut words = vec![self.string(name), STRUCT << 24 | count, size];
        words.extend(members.as_flattened());
        let number = self.push(&words);
        self.structs.push((name, number));
    }

    /// A type of the same kind and size.
    fn like(&mut self, whole: &Whole<'_>, place: usize, depth: u32) -> Option<u32> {
        match whole.kind(place)? {
            INT => match u32_at(whole.types, place + 8)? {
                1 => Some(1),
                2 => Some(2),
                4 => Some(3),
                8 => Some(4),
                _ => None,
            },
            PTR => Some(POINTER),
            STRUCT => {
                let name = whole.name(place)?;
                let known = self.structs.iter().find(|(each, _)| each.as_bytes() == name);
                known.map(|(_, number)| *number)
            }
            ARRAY if depth < DEEPEST => {
                let element = whole.settle(u32_at(whole.types, place + TYPE)?)?;
                let element = self.like(whole, element, depth + 1)?;
                let length = u32_at(whole.types, place + TYPE + 8)?;
                Some(self.push(&[0, ARRAY << 24, 0, element, 3, length]))
            }
            _ => None,
        }
    }

    fn into_bytes(self) -> Vec<u8> {
        let length = |part: &[u8]| u32::try_from(part.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEADER + self.types.len() + self.strings.len());
        bytes.extend(MAGIC.to_ne_bytes());
        bytes.extend([1, 0]);
        for word in [HEADER as u32, 0, length(&self.types), length(&self.types), length(&self.strings)] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(self.types);
        bytes.extend(self.strings);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel of few types, as a compiler describes them.
    struct Kernel {
        types: Vec<u32>,
        strings: Vec<u8>,
    }

    impl Kernel {
        fn new() -> Self {
            Self { types: Vec::new(), strings: vec![0] }
        }

        fn name(&mut self, text: &str) -> u32 {
            let at = u32::try_from(self.strings.len()).unwrap();
            self.strings.extend(text.as_bytes());
            self.strings.push(0);
            if text.is_empty() { 0 } else { at }
        }

        fn add(&mut self, name: &str, info: u32, words: &[u32]) {
            let name = self.name(name);
            self.types.extend([name, info]);
            self.types.extend(words);
        }

        fn composite(&mut self, name: &str, kind: u32, size: u32, members: &[(&str, u32, u32)]) {
            let members: Vec<u32> = members
                .iter()
                .flat_map(|(name, number, offset)| [self.name(name), *number, *offset])
                .collect();
            self.add(name, kind << 24 | u32::try_from(members.len() / 3).unwrap(), &[size]);
            self.types.extend(members);
        }

        fn bytes(&self) -> Vec<u8> {
            let mut bytes = MAGIC.to_ne_bytes().to_vec();
            bytes.extend([1, 0]);
            let length = u32::try_from(self.types.len() * 4).unwrap();
            let strings = u32::try_from(self.strings.len()).unwrap();
            for word in [24, 0, length, length, strings].iter().chain(&self.types) {
                bytes.extend(word.to_ne_bytes());
            }
            bytes.extend(&self.strings);
            bytes
        }
    }

    fn small() -> Kernel {
        let mut kernel = Kernel::new();
        kernel.add("unsigned long", INT << 24, &[8, 64]); // 1
        kernel.add("ino_t", TYPEDEF << 24, &[1]); // 2
        kernel.add("", CONST << 24, &[2]); // 3
        kernel.add("", PTR << 24, &[0]); // 4
        kernel.composite("", UNION, 16, &[("other", 1, 0), ("i_sb", 4, 64)]); // 5
        kernel.composite("", STRUCT, 24, &[("", 5, 64)]); // 6
        // As it is with bit fields: the upper 8 bits of an offset are a width.
        kernel.composite(
            "inode",
            STRUCT | 0x80,
            40,
            &[("", 6, 0), ("bits", 1, 3 << 24 | 5), ("i_ino", 3, 192)],
        ); // 7
        kernel.add("", FUNC_PROTO << 24 | 1, &[0, 0, 4]); // 8
        kernel.add("bpf_iter_task_file", FUNC << 24, &[8]); // 9
        kernel.add("char", INT << 24, &[1, 8]); // 10
        kernel.add("", ARRAY << 24, &[0, 10, 1, 16]); // 11
        kernel.composite("task_struct", STRUCT, 64, &[("pid", 99, 0), ("comm", 11, 128)]); // 12
        kernel
    }

    #[test]
    fn fields_are_found_inside_of_what_has_no_name() {
        let found = excerpt(&small().bytes(), "bpf_iter_task_file").unwrap();
        assert_eq!(found.function, 9);
        let whole = Whole::read(&found.types).unwrap();
        // It has no function, and all of its types are gone through before that is noticed.
        assert!(whole.survey("none").is_none());
        let places = whole.places.borrow().clone();
        let places = places.iter().skip(1).map(|at| *at as usize);
        let structs: Vec<usize> = places.filter(|at| whole.kind(*at) == Some(STRUCT)).collect();
        let offset = |at, name| whole.member(at, name, (0, 0), &mut 100).map(|member| member.offset);
        assert_eq!(structs.len(), 2, "inode and task_struct");
        assert_eq!((offset(structs[0], "i_ino"), offset(structs[0], "i_sb")), (Some(192), Some(128)));
        assert_eq!(offset(structs[1], "comm"), Some(128));
        assert_eq!(offset(structs[1], "pid"), None, "its type is not described");
    }

    #[test]
    fn a_kernel_without_the_iterator_has_no_excerpt() {
        assert_eq!(excerpt(&small().bytes(), "bpf_iter_other"), None);
        assert_eq!(excerpt(b"", "bpf_iter_task_file"), None);
        let mut other = small().bytes();
        other[0] ^= 0xff;
        assert_eq!(excerpt(&other, "bpf_iter_task_file"), None, "not in this order of bytes");
    }

    #[test]
    fn a_structure_that_holds_itself_ends_all_the_same() {
        let mut kernel = Kernel::new();
        kernel.add("f", FUNC << 24, &[0]);
        let members: Vec<(&str, u32, u32)> = vec![("", 2, 0); 1000];
        kernel.composite("inode", STRUCT, 8, &members);
        assert!(excerpt(&kernel.bytes(), "f").is_some());
    }

    #[test]
    fn every_cut_is_understood_or_refused() {
        let whole = small().bytes();
        for length in 0..whole.len() {
            let _ = excerpt(&whole[..length], "bpf_iter_task_file");
        }
    }

    /// The running kernel, where it describes itself.
    #[cfg(target_os = "linux")]
    #[test]
    fn everything_that_the_program_reads_is_described_here() {
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else { return };
        let Some(found) = excerpt(&bytes, "bpf_iter_task_file") else { return };
        for (name, fields) in FIELDS {
            for word in fields.iter().chain([&name]) {
                let text = format!("\0{word}\0");
                let there = found.types.windows(text.len()).any(|part| part == text.as_bytes());
                assert!(there, "{name}.{word}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_description_makes_it_panic(places in proptest::collection::vec((0_usize..600, proptest::num::u8::ANY), 0..12)) {
            let mut bytes = small().bytes();
            for (at, byte) in places {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            let _ = excerpt(&bytes, "bpf_iter_task_file");
        }
    }
}
