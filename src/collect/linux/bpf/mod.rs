//! Programs in the kernel that tell who begins to listen, in the listener's own context.
//!
//! Each is optional: what the kernel refuses is said, and looks do without it.

#![forbid(unsafe_code)]

#[cfg(all(target_os = "linux", not(feature = "bpf")))]
mod absent;
#[cfg(all(target_os = "linux", feature = "bpf"))]
mod loader;
pub mod record;
#[cfg(target_os = "linux")]
mod refusal;

#[cfg(target_os = "linux")]
use crate::source::Source;
#[cfg(all(target_os = "linux", not(feature = "bpf")))]
pub(crate) use absent::Programs;
#[cfg(all(target_os = "linux", feature = "bpf"))]
pub(crate) use loader::Programs;
#[cfg(target_os = "linux")]
pub(crate) use refusal::Refusal;

/// Loads them all.
///
/// # Errors
/// Why the kernel, or this build, does not take them.
#[cfg(target_os = "linux")]
pub(crate) fn load(source: &Source) -> Result<Programs, Refusal> {
    if cfg!(feature = "bpf") { Programs::load(source) } else { Err(Refusal::NotBuilt) }
}
