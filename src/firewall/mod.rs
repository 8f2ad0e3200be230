//! Who can reach a socket, and what text would close it.
