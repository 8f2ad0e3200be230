//! Programs in the kernel that tell who begins to listen and who binds, in their own context.
//!
//! Each is optional: what the kernel refuses is said, and looks do without it.

#![forbid(unsafe_code)]

#[cfg(all(target_os = "linux", not(feature = "bpf")))]
mod absent;
pub mod hooks;
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

/// A hook that is not in use.
#[cfg(target_os = "linux")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Refused {
    pub(crate) hook: hooks::Hook,
    pub(crate) why: Refusal,
}

/// Loads what the kernel takes of them.
///
/// # Errors
/// Why the kernel, or this build, takes none.
#[cfg(target_os = "linux")]
pub(crate) fn load(source: &Source, without: hooks::Without) -> Result<Programs, Refusal> {
    if cfg!(feature = "bpf") { Programs::load(source, without) } else { Err(Refusal::NotBuilt) }
}
