//! What is open on this machine, who holds it, who can reach it, is that wise, and what closes it.
//!
//! The modules in the order in which a socket passes through them; `ARCHITECTURE.md` holds the
//! picture and the table of who may import whom.

pub mod alert; // notifications on the desktop, from the lines of the watch
pub mod cli; // the command line; nobody imports it
pub mod collect; // which sockets are open, and which processes hold them
pub mod demo; // harmless examples in a private namespace
pub mod doctor; // what this user on this machine can and cannot see, each ability tried
pub mod enrich; // facts about the holders and the place
pub mod finding; // a rule that fired: identity, grouping, suppressions
pub mod firewall; // who can reach a socket, and what text would close it
#[cfg(feature = "history")]
pub mod history; // what was seen when, on disk
pub mod model; // the nouns: sockets, processes, namespaces, exposure, snapshot
mod netlink; // how netlink answers are laid out
pub mod output; // every form in which an answer is written
pub mod rules; // what counts as risky
pub mod scan; // the program on one screen
pub mod source; // the only door to the host: live, or a recorded folder
pub mod watch; // what changes, as it happens
