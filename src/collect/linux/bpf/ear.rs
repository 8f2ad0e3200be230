//! Hears the programs in the kernel at all times, however long a scan or a slow reader keeps the watch:
//! a thread empties their ring into a heap that grows only in a flood.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use aya::maps::{Array, MapData, RingBuf};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::process::setpriority_process;
use rustix::thread::gettid;

/// Where `COUNTS` counts what there was no room for.
const LOST: u32 = 0;
/// How much is kept for a reader that does not come, in bytes: some 100,000 records.
const ROOM: usize = 16 << 20;
/// A heap that grew beyond that is given back once it is read.
const USUAL: usize = 256 << 10;
/// Nice value of the thread (setpriority(2) takes threads on Linux), where we may choose it.
const PRIORITY: i32 = -10;
/// From one look into the ring to the next while records come: `REST` of `events.bpf.c`, whose wake-ups
/// rely on it.
const REST: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// The ring and what was taken out of it.
struct Store {
    ring: RingBuf<MapData>,
    counts: Array<MapData, u64>,
    /// What the kernel has counted as lost so far.
    counted: u64,
    heap: Heap,
}

/// Records one behind the other, each after its length.
#[derive(Default)]
struct Heap {
    bytes: Vec<u8>,
    lost: u64,
}

impl Heap {
    fn put(&mut self, record: &[u8]) {
        match u16::try_from(record.len()) {
            Ok(length) if self.bytes.len() + record.len() < ROOM => {
                self.bytes.extend(length.to_ne_bytes());
                self.bytes.extend(record);
            }
            Ok(_) | Err(_) => self.lost += 1,
        }
    }

    fn each(&self, take: &mut dyn FnMut(&[u8])) {
        let mut rest = &self.bytes[..];
        while let Some((length, behind)) = rest.split_first_chunk() {
            let Some((record, behind)) = behind.split_at_checked(u16::from_ne_bytes(*length).into()) else {
                return;
            };
            take(record);
            rest = behind;
        }
    }
}

impl Store {
    /// Empties the ring; whether there was anything in it.
    fn pump(&mut self) -> bool {
        let mut some = false;
        while let Some(record) = self.ring.next() {
            self.heap.put(&record);
            some = true;
        }
        let counted = self.counts.get(&LOST, 0).unwrap_or(self.counted);
        self.heap.lost += counted.saturating_sub(self.counted);
        some |= counted != self.counted;
        self.counted = counted;
        some
    }
}

/// Ends its thread when dropped.
pub(super) struct Ear {
    store: Arc<Mutex<Store>>,
    /// Readable when something has been heard.
    bell: Arc<OwnedFd>,
    end: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    /// A spent heap, to be filled again.
    spare: Vec<u8>,
}

impl Ear {
    /// # Errors
    /// When there are no descriptors or threads left.
    pub(super) fn open(ring: RingBuf<MapData>, counts: Array<MapData, u64>) -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let (bell, end) = (Arc::new(eventfd(0, flags)?), Arc::new(eventfd(0, flags)?));
        let told = ring.as_fd().try_clone_to_owned()?;
        let counted = counts.get(&LOST, 0).unwrap_or(0);
        let store = Arc::new(Mutex::new(Store { ring, counts, counted, heap: Heap::default() }));
        let mut ear = Self { store, bell, end, thread: None, spare: Vec::new() };
        let (store, bell, end) = (Arc::clone(&ear.store), Arc::clone(&ear.bell), Arc::clone(&ear.end));
        let listen = move || {
            // A ring overflows while others keep the processor; this thread never holds it for long.
            // Without the right to it, what is lost is counted.
            let _ = setpriority_process(Some(gettid()), PRIORITY);
            while comes(&told, &end) && drain(&store, &bell, &end) {}
        };
        ear.thread = Some(Builder::new().name("ear".to_owned()).spawn(listen)?);
        Ok(ear)
    }

    /// Hands over what was heard, the last of it included, each with whether anything was lost
    /// meanwhile, and returns how much.
    pub(super) fn empty(&mut self, take: &mut dyn FnMut(&[u8], bool)) -> u64 {
        // Whoever rings after this has put something into the new heap.
        let _ = rustix::io::read(&*self.bell, &mut [0; 8]);
        let spare = std::mem::take(&mut self.spare);
        let mut store = lock(&self.store);
        store.pump();
        let mut heap = std::mem::replace(&mut store.heap, Heap { bytes: spare, lost: 0 });
        drop(store);
        heap.each(&mut |record| take(record, heap.lost > 0));
        if heap.bytes.capacity() <= USUAL {
            heap.bytes.clear();
            self.spare = heap.bytes;
        }
        heap.lost
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        ring(&self.end);
        if let Some(thread) = self.thread.take() {
            // It ends in any case.
            let _ = thread.join();
        }
    }
}

/// Until nothing comes any more: in a flood it is looked at now and then, and nobody is woken for
/// each. False at the end.
fn drain(store: &Mutex<Store>, bell: &OwnedFd, end: &OwnedFd) -> bool {
    while lock(store).pump() {
        ring(bell);
        if is_over(end) {
            return false;
        }
    }
    true
}

/// Waits for records; false when the end has been called for instead.
fn comes(told: &OwnedFd, end: &OwnedFd) -> bool {
    let mut both = [PollFd::new(told, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
    // A signal ends the wait as well; then there is nothing to be found.
    let _ = poll(&mut both, None);
    both[1].revents().is_empty()
}

/// Rests for a while; whether the end is called for meanwhile.
fn is_over(end: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(end, PollFlags::IN)], Some(&REST)).is_ok_and(|ready| ready > 0)
}

fn ring(bell: &OwnedFd) {
    // It is full only when it has rung already.
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_as_they_went_in() {
        let mut heap = Heap::default();
        let records: [&[u8]; 3] = [b"one", b"", &[7; 5_000]];
        records.iter().for_each(|record| heap.put(record));
        let mut out = Vec::new();
        heap.each(&mut |record| out.push(record.to_vec()));
        assert_eq!(out, records);
    }

    #[test]
    fn a_reader_that_does_not_come_costs_bounded_memory_and_is_told_of_it() {
        let mut heap = Heap::default();
        (0..5_000).for_each(|_| heap.put(&[0; 4_096]));
        assert!(heap.bytes.len() <= ROOM);
        let mut kept = 0_u64;
        heap.each(&mut |_| kept += 1);
        assert_eq!(kept + heap.lost, 5_000);
        heap.put(&vec![0; 1 << 17]);
        assert_eq!(kept + heap.lost, 5_001, "nothing of that size is ever written");
    }

    #[test]
    fn a_heap_that_was_cut_ends_there() {
        let mut heap = Heap::default();
        heap.put(b"whole");
        heap.put(b"cut");
        heap.bytes.pop();
        let mut count = 0;
        heap.each(&mut |_| count += 1);
        assert_eq!(count, 1);
    }
}
