//! The memory of this process.

#![allow(unsafe_code, reason = "malloc_trim(3) has no safe wrapper")]

/// Hands memory that is free back to the system: glibc keeps it otherwise, for whoever wants as much
/// again.
pub(crate) fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer, and locks each arena while it works on it.
    unsafe {
        libc::malloc_trim(0);
    }
}
