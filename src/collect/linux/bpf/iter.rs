//! The program of `iter.bpf.c`: the file tables of all processes in one pass.
//!
//! Not by the loader of the other programs, which reads all types of the kernel: that takes six times
//! as long as everything here, and more than the walk through the tables of a small computer.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use aya::{Btf, Endianness};
use aya_obj::Object;

use super::{Refusal, types};
use crate::source::bpf;

static OBJECT: &[u8] = aya::include_bytes_aligned!("iter.bpf.o");

/// What it is attached to in the kernel (kernel/bpf/task_iter.c), since Linux 5.8.
const FUNCTION: &str = "bpf_iter_task_file";
/// Larger than what the kernel gathers before it hands over (8 pages).
const BLOCK: usize = 64 << 10;
/// After a million descriptors without one of ours the kernel asks whether to go on.
const PATIENCE: u32 = 10_000;

/// A loaded program; it goes when this is dropped.
#[derive(Debug)]
pub(crate) struct FileTables {
    link: OwnedFd,
}

impl FileTables {
    /// # Errors
    /// Why the kernel does not take it.
    pub(crate) fn load() -> Result<Self, Refusal> {
        let excerpt = bpf::with_types(|all| types::excerpt(all, FUNCTION))
            .map_err(|error| Refusal::Types(error.to_string()))?
            .ok_or_else(|| Refusal::Types("it has no iterator of files".to_owned()))?;
        let odd = |error: &dyn std::error::Error| Refusal::Types(super::words(error));
        let btf = Btf::parse(&excerpt.types, Endianness::default()).map_err(|error| odd(&error))?;
        let mut object = Object::parse(OBJECT).map_err(|error| odd(&error))?;
        object.relocate_btf(&btf).map_err(|error| odd(&error))?;
        let function = object.programs.get("owners").and_then(|it| object.functions.get(&it.function_key()));
        let function = function.ok_or_else(|| Refusal::Types("the object has no such program".to_owned()))?;
        let load = |log: Option<&mut [u8]>| {
            bpf::load(&function.instructions, &object.license, excerpt.function, log)
        };
        let program = load(None).map_err(|error| refused(error, &|log| drop(load(Some(log)))))?;
        let link = bpf::link(program.as_fd()).map_err(|error| refused(error, &|_| ()))?;
        Ok(Self { link })
    }

    /// Hands over all that there is now, piece by piece.
    ///
    /// # Errors
    /// As bpf(2) and read(2), and those of `take`; then nothing of it is to be used.
    pub(crate) fn read(&self, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let pass = bpf::iterate(self.link.as_fd())?;
        let mut block = vec![0; BLOCK];
        let mut patience = PATIENCE;
        loop {
            match rustix::io::read(&pass, &mut block[..]) {
                Ok(0) => return Ok(()),
                Ok(length) => take(&block[..length])?,
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) if patience > 0 => patience -= 1,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The kernel's own words; `ask_again` asks it with room for what its verifier thinks.
fn refused(error: io::Error, ask_again: &dyn Fn(&mut [u8])) -> Refusal {
    const EPERM: i32 = 1;
    if error.raw_os_error() == Some(EPERM) {
        return Refusal::Denied(error.to_string());
    }
    let mut log = vec![0; 64 << 10];
    ask_again(&mut log);
    let text = log.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    // The last line counts what was looked at.
    match text.lines().rev().find(|line| !line.is_empty() && !line.starts_with("processed ")) {
        Some(line) => Refusal::Kernel(format!("{error}: {line}")),
        None => Refusal::Kernel(error.to_string()),
    }
}
