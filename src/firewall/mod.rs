//! Who can reach a socket, and what text would close it.

#![forbid(unsafe_code)]

mod arrive;
mod ask;
mod evaluate;
mod expose;
pub mod generation;
mod inquiry;
mod journey;
mod netlink;
mod place;
mod policy;
mod publish;
mod quote;
mod read;
mod region;
mod reverse;
mod ruleset;
pub mod suggest;
#[cfg(test)]
mod tests;
mod ways;
mod world;

pub use ask::ask;
pub use expose::expose;
pub use inquiry::inquire;
pub use quote::{quotations, quote};
pub use read::{Counted, count};

pub(crate) use crate::model::{classes, ranges};
