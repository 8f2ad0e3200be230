//! bpf(2), for the one program that iterates: loading, linking, reading, lending.

#![allow(unsafe_code, reason = "bpf(2) has no safe wrapper")]

use std::ffi::CStr;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use aya_obj::generated::bpf_insn;

/// `enum bpf_cmd`, `enum bpf_prog_type` and `enum bpf_attach_type` of <linux/bpf.h>.
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_ITER_CREATE: libc::c_long = 33;
const BPF_PROG_TYPE_TRACING: u32 = 26;
const BPF_TRACE_ITER: u32 = 28;

/// Hands over the kernel's description of its types (/sys/kernel/btf/vmlinux).
///
/// Mapped where that is possible (since Linux 6.16): to read it takes a call for every 4 KiB of some 6 MB.
///
/// # Errors
/// As open(2) and read(2); `NotFound` for a kernel built without it.
pub(crate) fn with_types<T>(understand: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
    let mut file = std::fs::File::open("/sys/kernel/btf/vmlinux")?;
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    // SAFETY: a new mapping, at a place of the kernel's choice.
    let start = unsafe {
        libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0)
    };
    if start == libc::MAP_FAILED {
        let mut bytes = Vec::with_capacity(length);
        file.read_to_end(&mut bytes)?;
        return Ok(understand(&bytes));
    }
    // SAFETY: it is as long as this, stays until it is unmapped below, and nobody writes to it: these are
    // read-only pages of the kernel.
    let understood = understand(unsafe { std::slice::from_raw_parts(start.cast(), length) });
    // SAFETY: the mapping made above; what was understood cannot refer to it.
    unsafe { libc::munmap(start, length) };
    Ok(understood)
}

/// `union bpf_attr`, written field by field; what is left at zero is a default.
struct Attributes([u8; 144]);

impl Attributes {
    fn new() -> Self {
        Self([0; 144])
    }

    fn word(mut self, at: usize, word: u32) -> Self {
        self.0[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        self
    }

    fn long(mut self, at: usize, long: u64) -> Self {
        self.0[at..at + 8].copy_from_slice(&long.to_ne_bytes());
        self
    }

    /// # Safety
    /// Every address in the attributes is that of memory as long as the command expects.
    unsafe fn call(&self, command: libc::c_long) -> io::Result<OwnedFd> {
        // SAFETY: the attributes outlive the call and are as long as is said.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_ptr(), self.0.len()) };
        let fd = libc::c_int::try_from(result).map_err(io::Error::other)?;
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: these commands return a new descriptor, which is ours.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

fn address<T>(start: *const T) -> u64 {
    start.addr() as u64
}

/// Loads an iterator; `function` is that of the kernel that it is attached to. With `log` the verifier
/// says what it thinks.
///
/// # Errors
/// As bpf(2): `PermissionDenied` without CAP_BPF and CAP_PERFMON, or when the verifier finds fault.
pub(crate) fn load(
    instructions: &[bpf_insn],
    license: &CStr,
    function: u32,
    log: Option<&mut [u8]>,
) -> io::Result<OwnedFd> {
    let count = u32::try_from(instructions.len()).map_err(io::Error::other)?;
    let mut attributes = Attributes::new()
        .word(0, BPF_PROG_TYPE_TRACING)
        .word(4, count)
        .long(8, address(instructions.as_ptr()))
        .long(16, address(license.as_ptr()))
        .word(68, BPF_TRACE_ITER)
        .word(108, function);
    attributes.0[48..54].copy_from_slice(b"owners");
    if let Some(log) = log {
        let size = u32::try_from(log.len()).map_err(io::Error::other)?;
        attributes = attributes.word(24, 1).word(28, size).long(32, address(log.as_mut_ptr()));
    }
    // SAFETY: instructions, license and log outlive the call, each as long as is said.
    unsafe { attributes.call(BPF_PROG_LOAD) }
}

/// Attaches a loaded iterator.
///
/// # Errors
/// As bpf(2).
pub(crate) fn link(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let attributes = Attributes::new().word(0, number(program)).word(8, BPF_TRACE_ITER);
    // SAFETY: there is no address among these.
    unsafe { attributes.call(BPF_LINK_CREATE) }
}

/// Begins one pass: what is returned can be read to its end, once.
///
/// # Errors
/// As bpf(2).
pub(crate) fn iterate(link: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: there is no address among these.
    unsafe { Attributes::new().word(0, number(link)).call(BPF_ITER_CREATE) }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}
