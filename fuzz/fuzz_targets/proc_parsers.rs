//! The text tables below /proc that tell of sockets and their holders.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sockwarden::collect::linux::proc_net::{
    File, decode, mounted_namespaces, ring_sockets, sockets_in_use, stat, waiting_descriptors,
};
use sockwarden::collect::table::Table;
use sockwarden::model::NamespaceId;

fuzz_target!(|bytes: &[u8]| {
    for file in File::ALL {
        let mut table = Table::default();
        decode(file, NamespaceId(0), bytes, &mut table);
        assert!(table.sockets.len() <= bytes.iter().filter(|byte| **byte == b'\n').count());
    }
    if let Some(found) = stat(bytes) {
        assert!(found.name.as_bytes().len() < bytes.len());
    }
    for (_, path) in mounted_namespaces(bytes) {
        assert!(path.len() <= bytes.len());
    }
    let _ = (ring_sockets(bytes).count(), waiting_descriptors(bytes), sockets_in_use(bytes, b"MPTCP"));
});
