//! What programs in the kernel write: names in it are other programs' choice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sockwarden::collect::linux::bpf::record::{What, decode};

fuzz_target!(|bytes: &[u8]| {
    let Some(event) = decode(bytes, 1_700_000_000_000_000_000) else { return };
    assert!(event.what != What::Ends || event.owner.is_none());
    let Some(owner) = event.owner else { return };
    assert!(owner.name.as_bytes().len() <= 16);
    let shown = format!("{}", owner.name);
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
    // Nothing is made out of nothing.
    let told = |length: usize| assert!(length <= bytes.len());
    owner.exe.known().map(|exe| told(exe.as_bytes().len()));
    owner.cmdline.known().map(|all| told(all.iter().map(|each| each.as_bytes().len()).sum()));
});
