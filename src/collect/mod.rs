//! Which sockets are open, and who holds them.
