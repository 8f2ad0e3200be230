//! What the kernel's socket tables say, and what rtnetlink says of links.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sockwarden::collect::linux::wire::{Dump, decode};
use sockwarden::collect::linux::{ask, links};
use sockwarden::collect::table::Table;
use sockwarden::model::NamespaceId;
use sockwarden::source::SocketAnswer;

fuzz_target!(|bytes: &[u8]| {
    for dump in Dump::ALL {
        let mut table = Table::default();
        decode(dump, NamespaceId(0), bytes, &mut table);
        // A socket is told by at least a header; nothing is made out of nothing.
        assert!(table.sockets.len() <= bytes.len() / 16);
        for (socket, _) in &table.unix_peers {
            assert!((*socket as usize) < table.sockets.len());
        }
    }
    let _ = links::tunnels(bytes);
    let (name, peer) = bytes.split_at(bytes.len() / 2);
    for domain in [1, 2, 10, 16, 17, 40] {
        let answer = SocketAnswer { domain, name: name.into(), peer: peer.into(), ..SocketAnswer::default() };
        let _ = ask::understand(&answer, NamespaceId(0));
    }
});
