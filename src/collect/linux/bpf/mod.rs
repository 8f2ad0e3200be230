//! Programs in the kernel: some that tell who begins to listen and who binds, in their own context, and
//! one that tells the file tables of all processes.
//!
//! Each is optional: what the kernel refuses is said, and looks do without it.

#![forbid(unsafe_code)]

#[cfg(all(target_os = "linux", not(feature = "bpf")))]
mod absent;
#[cfg(all(target_os = "linux", feature = "bpf"))]
mod ear;
pub mod holder;
pub mod hooks;
#[cfg(all(target_os = "linux", feature = "bpf"))]
mod iter;
#[cfg(all(target_os = "linux", feature = "bpf"))]
mod loader;
pub mod record;
#[cfg(target_os = "linux")]
mod refusal;
pub mod types;

#[cfg(target_os = "linux")]
use crate::source::Source;
#[cfg(all(target_os = "linux", not(feature = "bpf")))]
pub(crate) use absent::{FileTables, Programs};
#[cfg(all(target_os = "linux", feature = "bpf"))]
pub(crate) use iter::FileTables;
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

/// The program that tells file tables: loaded when it is first wanted, and kept for as long as we run.
///
/// # Errors
/// Why the kernel, or this build, does not take it; it is not asked twice.
#[cfg(target_os = "linux")]
pub(crate) fn file_tables() -> Result<&'static FileTables, &'static Refusal> {
    static TABLES: std::sync::OnceLock<Result<FileTables, Refusal>> = std::sync::OnceLock::new();
    TABLES.get_or_init(FileTables::load).as_ref()
}

/// What an error says, and those behind it.
#[cfg(all(target_os = "linux", feature = "bpf"))]
fn words(error: &dyn std::error::Error) -> String {
    let mut words = Vec::new();
    let mut each = Some(error);
    while let Some(error) = each {
        words.push(error.to_string().lines().next().unwrap_or_default().to_owned());
        each = error.source();
    }
    words.dedup();
    words.join(": ")
}
