//! The thread that writes: takes what comes, commits it in one go a moment later.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::file::is_damage;
use super::note::Record;
use super::store::Store;
use super::{Bounds, Error};

/// How long something may wait for its neighbours before all are committed.
const GATHER: Duration = Duration::from_millis(200);
/// So many are committed without waiting any longer.
const ENOUGH: usize = 4096;
/// So many may wait while the disk is slow; what comes then is lost, and counted.
const QUEUE: usize = 1 << 16;
/// How often what is too old is looked for.
const TIDY: Duration = Duration::from_secs(3600);
/// How long we wait for the last words to be written.
const LAST: Duration = Duration::from_secs(2);

enum Message {
    Keep(Record),
    /// Everything before this is on disk, and the file closed, when the answer comes.
    Close(SyncSender<()>),
}

/// The way to the thread.
#[derive(Debug)]
pub struct Keeper {
    sender: SyncSender<Message>,
    lost: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Opens the history at `path` and starts to write; `say` is told what a person should know.
    ///
    /// # Errors
    /// When there can be no history at this place. One that is damaged or not ours is none: it is
    /// set aside.
    pub fn open(path: &Path, bounds: Bounds, say: fn(&str)) -> Result<Self, Error> {
        let (store, words) = Store::open(path, bounds)?;
        if let Some(words) = words {
            say(&words);
        }
        let (sender, receiver) = sync_channel(QUEUE);
        let lost = Arc::default();
        let writer = Writer { store: Some(store), lost: Arc::clone(&lost), unkept: 0, said: false, say };
        let thread = std::thread::Builder::new().name("history".to_owned());
        let thread = thread.spawn(move || writer.run(&receiver));
        let thread = thread.map_err(|source| Error::Io { path: path.to_owned(), source })?;
        Ok(Self { sender, lost, thread })
    }

    /// Hands it over; never waits.
    pub fn keep(&self, record: Record) {
        match self.sender.try_send(Message::Keep(record)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// What brings to disk all that was handed over and closes the file, from whichever thread, within
    /// two seconds: for a process that is about to end.
    pub fn closer(&self) -> impl FnOnce() + Send + 'static {
        let sender = self.sender.clone();
        move || {
            let (done, written) = sync_channel(1);
            if sender.try_send(Message::Close(done)).is_ok() {
                let _ = written.recv_timeout(LAST);
            }
        }
    }

    /// Writes what is left and closes the file.
    pub fn end(self) {
        drop(self.sender);
        // A panic of the thread has been reported by its own hook.
        let _ = self.thread.join();
    }
}

struct Writer {
    /// `None` once it is closed, or its place has become unfit.
    store: Option<Store>,
    lost: Arc<AtomicU64>,
    /// Records that could not be written since the last success.
    unkept: u64,
    said: bool,
    say: fn(&str),
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Message>) {
        let mut tidy = Instant::now() + TIDY;
        while let Ok(first) = receiver.recv() {
            let until = Instant::now() + GATHER;
            let (mut records, mut waiting) = (Vec::new(), Vec::new());
            let mut next = Some(first);
            while let Some(message) = next.take() {
                match message {
                    Message::Keep(record) => records.push(record),
                    Message::Close(done) => waiting.push(done),
                }
                if records.len() >= ENOUGH || !waiting.is_empty() {
                    break;
                }
                next = receiver.recv_timeout(until.saturating_duration_since(Instant::now())).ok();
            }
            self.write(&records);
            if !waiting.is_empty() {
                self.store = None;
            }
            for done in waiting {
                // Whoever waited may have given up.
                let _ = done.try_send(());
            }
            if Instant::now() >= tidy {
                tidy = Instant::now() + TIDY;
                if let Some(Err(error)) = self.store.as_mut().map(Store::prune) {
                    self.complain(&error.to_string());
                }
            }
        }
    }

    fn write(&mut self, records: &[Record]) {
        self.unkept += self.lost.swap(0, Ordering::Relaxed);
        let Some(store) = &mut self.store else {
            self.unkept += records.len() as u64;
            return;
        };
        let mut kept = store.keep(records, self.unkept);
        if kept.as_ref().is_err_and(is_damage) {
            match self.store.take().map(Store::renew) {
                Some(Ok((mut store, words))) => {
                    (self.say)(&words.unwrap_or_default());
                    kept = store.keep(records, self.unkept);
                    self.store = Some(store);
                }
                Some(Err(error)) => self.complain(&error.to_string()),
                None => {}
            }
        }
        match kept {
            Ok(()) => {
                if self.said {
                    (self.say)(&format!("the history is kept again; {} records are missing", self.unkept));
                }
                (self.unkept, self.said) = (0, false);
            }
            Err(error) => {
                self.unkept += records.len() as u64;
                self.complain(&error.to_string());
            }
        }
    }

    /// Once, until it works again.
    fn complain(&mut self, why: &str) {
        if !self.said {
            self.said = true;
            (self.say)(&format!("the history cannot be written: {why}"));
        }
    }
}

/// Nanoseconds since the epoch.
pub(super) fn epoch() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}
