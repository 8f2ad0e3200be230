//! The only door to the host: live, or a recorded folder.
//!
//! Whoever wants to know something of the machine asks here, so that a recorded machine can be
//! examined in the same way as the one we run on.

/// Where facts come from.
#[derive(Debug)]
pub enum Source {
    /// This machine, as it is now.
    Live,
}
