//! What `iter.bpf.c` writes, understood: who has which file, task by task.

#![forbid(unsafe_code)]

use crate::collect::linux::wire::{u32_at, u64_at};
use crate::model::Text;

const TASK: u32 = 1;
const SOCKET: u32 = 2;
const RING: u32 = 3;
const NAMESPACE: u32 = 4;
const NUMBER: u32 = 0x00ff_ffff;

/// `sizeof(struct holder)` and `sizeof(struct reference)`; the latter is the unit of all.
const HOLDER: usize = 48;
const REFERENCE: usize = 16;
const COMM: usize = 16;
/// USER_HZ: what start times are counted in below /proc.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

/// A task whose file table follows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    pub pid: u32,
    /// The thread, where its table is not that of the process; else as `pid`.
    pub tid: u32,
    /// Of the process: its parent (0: outside of our pid namespace), start, name.
    pub parent: u32,
    pub start_ticks: u64,
    pub name: Text,
}

/// What a descriptor leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Socket,
    /// An io_uring.
    Ring,
    /// A namespace of some kind.
    Namespace,
}

/// One descriptor of the holder told before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reference {
    pub kind: Kind,
    pub inode: u64,
    pub fd: i32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    Holder(Holder),
    Reference(Reference),
}

/// Bytes that no program of ours writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Foreign;

/// Reads records in whatever pieces they come.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Records {
    /// The beginning of a record whose end is still to come.
    begun: Vec<u8>,
    /// Whose table is being told: the kernel's own number of the task.
    task: Option<u32>,
}

impl Records {
    /// Hands over every record that is complete by now.
    ///
    /// # Errors
    /// Where the bytes are not ours; what was handed over before is not to be trusted then.
    pub fn feed(&mut self, bytes: &[u8], take: &mut dyn FnMut(Record)) -> Result<(), Foreign> {
        if self.begun.is_empty() {
            let used = self.read(bytes, take)?;
            self.begun.extend(&bytes[used..]);
        } else {
            let mut all = std::mem::take(&mut self.begun);
            all.extend(bytes);
            let used = self.read(&all, take)?;
            self.begun.extend(&all[used..]);
        }
        Ok(())
    }

    /// Whether it ends here.
    pub fn is_complete(&self) -> bool {
        self.begun.is_empty()
    }

    /// How many bytes were understood.
    fn read(&mut self, bytes: &[u8], take: &mut dyn FnMut(Record)) -> Result<usize, Foreign> {
        let mut at = 0;
        while let Some(unit) = bytes.get(at..at + REFERENCE) {
            let of = u32_at(unit, 12).ok_or(Foreign)?;
            let task = of & NUMBER;
            let kind = match of >> 24 {
                TASK => {
                    let Some(whole) = bytes.get(at..at + HOLDER) else { break };
                    take(Record::Holder(holder(whole, of).ok_or(Foreign)?));
                    self.task = Some(task);
                    at += HOLDER;
                    continue;
                }
                SOCKET => Kind::Socket,
                RING => Kind::Ring,
                NAMESPACE => Kind::Namespace,
                _ => return Err(Foreign),
            };
            if self.task != Some(task) {
                return Err(Foreign);
            }
            let fd = u32_at(unit, 8).and_then(|fd| i32::try_from(fd).ok()).ok_or(Foreign)?;
            take(Record::Reference(Reference { kind, inode: u64_at(unit, 0).ok_or(Foreign)?, fd }));
            at += REFERENCE;
        }
        Ok(at)
    }
}

fn holder(bytes: &[u8], of: u32) -> Option<Holder> {
    if u32_at(bytes, HOLDER - 4)? != of {
        return None;
    }
    let name = bytes.get(REFERENCE..REFERENCE + COMM)?;
    Some(Holder {
        pid: u32_at(bytes, 8)?,
        tid: u32_at(bytes, REFERENCE + COMM + 4)?,
        parent: u32_at(bytes, REFERENCE + COMM)?,
        start_ticks: u64_at(bytes, 0)? / NANOSECONDS_PER_TICK,
        name: name.split(|byte| *byte == 0).next().unwrap_or_default().into(),
    })
}

#[cfg(test)]
pub(in crate::collect::linux) mod tests {
    use super::*;

    pub(in crate::collect::linux) fn task(pid: u32, tid: u32, name: &[u8]) -> Vec<u8> {
        let mut bytes = 12_345_678_901_u64.to_ne_bytes().to_vec();
        bytes.extend(pid.to_ne_bytes());
        bytes.extend((TASK << 24 | tid).to_ne_bytes());
        bytes.extend(name);
        bytes.resize(REFERENCE + COMM, 0);
        bytes.extend(1_u32.to_ne_bytes());
        bytes.extend(tid.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend((TASK << 24 | tid).to_ne_bytes());
        bytes
    }

    pub(in crate::collect::linux) fn file(kind: Kind, inode: u64, fd: u32, tid: u32) -> Vec<u8> {
        let kind = match kind {
            Kind::Socket => SOCKET,
            Kind::Ring => RING,
            Kind::Namespace => NAMESPACE,
        };
        let mut bytes = inode.to_ne_bytes().to_vec();
        bytes.extend(fd.to_ne_bytes());
        bytes.extend((kind << 24 | tid).to_ne_bytes());
        bytes
    }

    fn told() -> Vec<u8> {
        let parts = [
            task(42, 42, b"a) b\n\x1b[2J"),
            file(Kind::Socket, 5000, 3, 42),
            file(Kind::Ring, 9, 4, 42),
            task(42, 43, b"sixteen_bytes_ok"),
            file(Kind::Socket, u64::from(u32::MAX) + 7, 3, 43),
            file(Kind::Namespace, 4_026_531_840, 1_048_575, 43),
        ];
        parts.concat()
    }

    fn read(pieces: &[&[u8]]) -> Result<(Vec<Record>, bool), Foreign> {
        let (mut records, mut found) = (Records::default(), Vec::new());
        for piece in pieces {
            records.feed(piece, &mut |record| found.push(record))?;
        }
        Ok((found, records.is_complete()))
    }

    #[test]
    fn tasks_and_their_files_are_told_with_names_of_whatever_bytes() {
        let (found, complete) = read(&[&told()]).unwrap();
        assert!(complete && found.len() == 6);
        let Record::Holder(first) = &found[0] else { panic!("{found:?}") };
        assert_eq!((first.pid, first.tid, first.parent, first.start_ticks), (42, 42, 1, 1234));
        assert_eq!(first.name.as_bytes(), b"a) b\n\x1b[2J");
        assert_eq!(found[1], Record::Reference(Reference { kind: Kind::Socket, inode: 5000, fd: 3 }));
        let Record::Holder(thread) = &found[3] else { panic!("{found:?}") };
        assert_eq!((thread.pid, thread.tid, thread.name.as_bytes().len()), (42, 43, 16));
        let far = Reference { kind: Kind::Socket, inode: u64::from(u32::MAX) + 7, fd: 3 };
        assert_eq!(found[4], Record::Reference(far));
    }

    #[test]
    fn it_does_not_matter_where_the_pieces_end() {
        let told = told();
        let whole = read(&[&told]).unwrap();
        for cut in 0..=told.len() {
            assert_eq!(read(&[&told[..cut], &told[cut..]]).unwrap(), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = told.chunks(1).collect();
        assert_eq!(read(&bytes).unwrap(), whole);
        assert!(!read(&[&told[..told.len() - 1]]).unwrap().1, "the end is missing");
    }

    #[test]
    fn what_nobody_told_the_holder_of_is_foreign() {
        assert_eq!(read(&[&file(Kind::Socket, 5, 3, 42)]), Err(Foreign));
        let other = [task(42, 42, b"x"), file(Kind::Socket, 5, 3, 41)].concat();
        assert_eq!(read(&[&other]), Err(Foreign));
        let mut torn = task(42, 42, b"x");
        torn[HOLDER - 4] ^= 1;
        assert_eq!(read(&[&torn]), Err(Foreign));
        assert_eq!(read(&[&[0xff; 16]]), Err(Foreign), "an unknown kind");
        let beyond = [task(1, 1, b"x"), file(Kind::Socket, 5, u32::MAX, 1)].concat();
        assert_eq!(read(&[&beyond]), Err(Foreign), "no descriptor has this number");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400), cut in 0_usize..400) {
            let cut = cut.min(bytes.len());
            let whole = read(&[&bytes]);
            let pieces = read(&[&bytes[..cut], &bytes[cut..]]);
            proptest::prop_assert_eq!(whole, pieces);
        }
    }
}
