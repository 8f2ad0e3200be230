//! Facts about the holders and the place.

#![forbid(unsafe_code)]

pub mod cgroup;
pub mod record;
pub mod unit_file;
pub mod user;
