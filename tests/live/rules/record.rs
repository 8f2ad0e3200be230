//! Keeps a good host as a snapshot for the suite: what was read, without what tells which machine it
//! was, and without what tests beside this one had open in its namespace while they looked into it.

use std::path::Path;

use sockwarden::model::sample::Sample;
use sockwarden::model::{Ancestor, Fact, Process, ProcessId, Snapshot, SocketIndex, Span};
use sockwarden::output::read_snapshot;

use super::hosts::Host;
use crate::lab::Outcome;

pub(super) fn write(folder: &Path, host: &Host, snapshot: &[u8]) -> Outcome {
    let mut kept = read_snapshot(snapshot)?;
    keep_own(&mut kept);
    kept.gaps.clear();
    let sample = Sample::new().snapshot;
    (kept.host, kept.taken_at) = (sample.host, sample.taken_at);
    let inputs = serde_json::to_string(&kept)?;
    std::fs::create_dir_all(folder)?;
    let whole = format!("{{\"schema\": \"sockwarden/v1\", \"kind\": \"snapshot\", \"inputs\": {inputs}}}\n");
    std::fs::write(folder.join("snapshot.json"), whole)?;
    std::fs::write(folder.join("README.md"), format!("# {}\n{}\n", host.name, host.what))?;
    Ok(())
}

/// Keeps what this test has started. What started the test is pid 1 in the recording.
fn keep_own(snapshot: &mut Snapshot) {
    let own = std::process::id();
    let above = |process: &Process| process.parents.known()?.iter().position(|each| each.pid == own);
    let mut places = vec![None; snapshot.processes.len()];
    let mut processes = Vec::new();
    for (place, mut process) in places.iter_mut().zip(std::mem::take(&mut snapshot.processes)) {
        let Some(above) = above(&process) else { continue };
        if let Fact::Known(parents) = &mut process.parents {
            parents.truncate(above);
            parents.push(Ancestor { pid: 1, name: "systemd".into() });
        }
        *place = Some(ProcessId(processes.len() as u32));
        processes.push(process);
    }
    snapshot.processes = processes;
    let mut holders = Vec::new();
    let mut moved = vec![None; snapshot.sockets.len()];
    let mut sockets = Vec::new();
    for (moved, mut socket) in moved.iter_mut().zip(std::mem::take(&mut snapshot.sockets)) {
        let start = holders.len();
        for holder in &snapshot.holders[socket.holders.range()] {
            holders.extend(places[holder.process.0 as usize].map(|process| {
                let mut holder = *holder;
                holder.process = process;
                holder
            }));
        }
        let len = holders.len() - start;
        if socket.holders.len == 0 || len > 0 {
            socket.holders = Span { start: start as u32, len: len as u32 };
            *moved = Some(SocketIndex(sockets.len() as u32));
            sockets.push(socket);
        }
    }
    for socket in &mut sockets {
        socket.peer = socket.peer.and_then(|peer| moved[peer.0 as usize]);
    }
    (snapshot.sockets, snapshot.holders) = (sockets, holders);
}
