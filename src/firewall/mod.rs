//! Who can reach a socket, and what text would close it.

#![forbid(unsafe_code)]

mod classes;
mod expose;
mod place;
mod ranges;
#[cfg(test)]
mod tests;
mod ways;

pub use expose::expose;
