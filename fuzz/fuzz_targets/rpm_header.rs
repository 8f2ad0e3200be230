//! Any bytes as the header of a package: refused, or asked for every file without harm.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sockwarden::enrich::rpm::header::Header;

fuzz_target!(|bytes: &[u8]| {
    let Some(header) = Header::parse(bytes) else { return };
    let _ = header.name();
    for file in (0..64).chain([usize::MAX]) {
        if let Some(path) = header.installed(file) {
            assert!(path.len() <= 2 * bytes.len());
        }
    }
});
