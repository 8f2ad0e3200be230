//! Harmless examples of every pattern: real programs with real sockets, in a network namespace
//! that no other program is in.
//!
//! A second process of ours enters the namespace before it has any thread (unshare(2) of a user
//! namespace demands that), starts the programs there, and goes on as the ordinary command. Every
//! program is our own executable under another name; all of them die with whoever started them.

mod tell;

pub use tell::{Story, stories};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as imp;

#[cfg(not(target_os = "linux"))]
mod unsupported;
#[cfg(not(target_os = "linux"))]
use unsupported as imp;

pub use imp::{Door, Stage, enter, folder, on_stage, possible, spawn};

/// Why there can be no demo here, in a sentence.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Refusal {
    why: String,
    help: Option<&'static str>,
}

impl Refusal {
    /// What lifts it.
    pub fn help(&self) -> Option<&'static str> {
        self.help
    }
}
