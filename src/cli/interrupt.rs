//! Ctrl-C leaves nothing behind: what must be taken away again is registered here.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

type Cleanup = Box<dyn FnOnce() + Send>;

static CLEANUPS: Mutex<Vec<(u64, Cleanup)>> = Mutex::new(Vec::new());

/// Something to take away when the program is interrupted; forgotten when this is dropped.
#[must_use]
pub(crate) struct Pending(u64);

impl Pending {
    pub(crate) fn new(cleanup: impl FnOnce() + Send + 'static) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        lock().push((id, Box::new(cleanup)));
        Self(id)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        lock().retain(|(id, _)| *id != self.0);
    }
}

fn lock() -> std::sync::MutexGuard<'static, Vec<(u64, Cleanup)>> {
    CLEANUPS.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Takes away everything that is registered, the youngest first.
#[cfg(unix)]
fn clean() {
    let pending = std::mem::take(&mut *lock());
    pending.into_iter().rev().for_each(|(_, cleanup)| cleanup());
}

/// Waits for SIGINT, SIGTERM and SIGHUP in a thread of its own; on one of them cleans and exits
/// with 128 + its number, as shells report it. A signal that our starter ignores (nohup) stays
/// ignored. Woken through a pipe: a socket would be one more in every list that we print.
#[cfg(unix)]
pub(crate) fn watch() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use std::io::Read as _;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    let received = Arc::new(AtomicUsize::new(0));
    let Ok((mut reader, writer)) = std::io::pipe() else { return };
    let number = Arc::clone(&received);
    let waiting = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if reader.read_exact(&mut [0]).is_ok() {
            clean();
            std::process::exit(128 + i32::try_from(number.load(Ordering::SeqCst)).unwrap_or_default());
        }
    });
    // Without the thread a signal ends us as it always would, leaving what there is.
    for signal in [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|&each| waiting.is_ok() && !ignored(each)) {
        let value = usize::try_from(signal).unwrap_or_default();
        // The number is stored before the pipe wakes anybody: actions run in this order.
        let stored = signal_hook::flag::register_usize(signal, Arc::clone(&received), value);
        let end = stored.and_then(|_| writer.try_clone());
        // Neither fails for signals that may be caught.
        let _ = end.and_then(|end| signal_hook::low_level::pipe::register(signal, end));
    }
}

/// Whether a signal is ignored, from the bit set in /proc/self/status (proc_pid_status(5)).
#[cfg(unix)]
fn ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default();
    u64::from_str_radix(set.trim(), 16).is_ok_and(|bits| bits >> (signal - 1) & 1 == 1)
}

#[cfg(not(unix))]
pub(crate) fn watch() {}
