//! Which sockets are open, and which processes hold them.

#![forbid(unsafe_code)]

pub mod events;
mod gaps;
mod join;
pub mod linux;
mod peers;
#[cfg(any(target_os = "windows", all(not(target_os = "linux"), feature = "apple-sdk")))]
mod portable;
mod roles;
pub mod table;
#[cfg(not(target_os = "linux"))]
mod unseen;
#[cfg(not(any(target_os = "linux", target_os = "windows", feature = "apple-sdk")))]
mod unsupported;

#[cfg(any(target_os = "windows", all(not(target_os = "linux"), feature = "apple-sdk")))]
use portable as imp;
#[cfg(not(any(target_os = "linux", target_os = "windows", feature = "apple-sdk")))]
use unsupported as imp;

use crate::model::{Snapshot, Wants};
use crate::source::Source;

/// Lists every socket with its holders, in a fixed order. Facts about holders and places are not
/// part of it, nor is any judgement. What could not be seen is in `Snapshot::gaps`.
pub fn sockets(source: &Source, wants: &Wants) -> Snapshot {
    #[cfg(not(target_os = "linux"))]
    if source.is_live() {
        return imp::sockets(source, wants);
    }
    // A recording of a Linux machine reads the same everywhere.
    linux::sockets(source, wants)
}

/// Nanoseconds since the epoch.
fn taken_at(source: &Source) -> i64 {
    let answer = source.answer("taken-at", || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Ok(now.map_or(0, |since| since.as_nanos()).to_string().into_bytes())
    });
    String::from_utf8_lossy(&answer.unwrap_or_default()).parse().unwrap_or(0)
}
