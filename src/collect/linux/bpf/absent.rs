//! A build without the feature `bpf`.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::BorrowedFd;

use super::hooks::{Hook, Without};
use super::{Refusal, Refused};
use crate::source::Source;

/// There are none.
#[derive(Debug)]
pub(crate) enum Programs {}

impl Programs {
    pub(crate) fn load(_source: &Source, _without: Without) -> Result<Self, Refusal> {
        Err(Refusal::NotLoaded)
    }

    pub(crate) fn used(&self) -> &[Hook] {
        match *self {}
    }

    pub(crate) fn refused(&self) -> &[Refused] {
        match *self {}
    }

    pub(crate) fn drain(&mut self, _take: &mut dyn FnMut(&[u8], bool)) -> u64 {
        match *self {}
    }

    pub(crate) fn has_told(&self) -> bool {
        match *self {}
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        match *self {}
    }
}

/// There is none.
#[derive(Debug)]
pub(crate) enum FileTables {}

impl FileTables {
    pub(crate) fn load() -> Result<Self, Refusal> {
        Err(Refusal::NotBuilt)
    }

    pub(crate) fn read(&self, _take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        match *self {}
    }
}
