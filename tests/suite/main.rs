//! Everything that needs no rights: one test binary.

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod architecture;
mod cli;
mod collect;
mod hosts;
mod output;
mod packaging;
mod rules;
mod rulesets;
mod watch;
