//! Who can reach a socket, and what text would close it.

#![forbid(unsafe_code)]

mod ask;
mod classes;
mod evaluate;
mod expose;
mod netlink;
mod place;
mod ranges;
mod read;
mod region;
mod ruleset;
pub mod suggest;
#[cfg(test)]
mod tests;
mod ways;

pub use ask::ask;
pub use expose::expose;
