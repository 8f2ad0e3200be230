//! The rules of nftables in the form in which nfnetlink tells them.

mod expression;
mod loads;
mod sets;
mod tables;

pub(crate) use sets::set_requests;
pub(crate) use tables::{decode, each_extension};
