//! Which sockets are open, and who holds them.

pub mod peers;
pub mod roles;
