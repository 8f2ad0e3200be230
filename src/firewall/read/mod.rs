//! The kernel's own form of its rules, taken apart. Pure.

pub(super) mod expression;
mod extension;
pub(super) mod tables;

pub(crate) use tables::{decode, set_requests};
