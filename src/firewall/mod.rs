//! Who can reach a socket, and what text would close it.

#![forbid(unsafe_code)]

mod ask;
mod classes;
mod expose;
mod netlink;
mod place;
mod ranges;
pub mod suggest;
#[cfg(test)]
mod tests;
mod ways;

pub use ask::ask;
pub use expose::expose;
