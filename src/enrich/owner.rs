//! Names of the users that own sockets.

use std::collections::BTreeMap;

use crate::model::{Fact, Snapshot, Text};

use super::process::Look;
use super::world::Worlds;

/// Interns the names of the uids that own sockets: by the first holder that has a user data base,
/// else by ours for sockets of our own network namespace.
pub(super) fn fill(snapshot: &mut Snapshot, looks: &[Look], worlds: &mut Worlds<'_>) {
    let mut known: BTreeMap<(Option<usize>, u32), Option<u32>> = BTreeMap::new();
    let mut index: BTreeMap<Text, u32> = BTreeMap::new();
    for at in 0..snapshot.sockets.len() {
        let socket = &snapshot.sockets[at];
        let Some(uid) = socket.uid else { continue };
        let holder = snapshot.holders[socket.holders.range()].first().map(|each| each.process.0 as usize);
        let world = match holder {
            Some(holder) => match looks.get(holder).and_then(|look| look.world) {
                Some(world) => Some(world),
                None => continue,
            },
            None if snapshot.namespace(socket.netns).own => None,
            None => continue,
        };
        let ids = holder.and_then(|holder| looks[holder].ids.clone());
        let users = &mut snapshot.users;
        let name = *known.entry((world, uid)).or_insert_with(|| {
            let Fact::Known(name) =
                worlds.people(world).ok()?.name_of(uid, ids.as_deref().unwrap_or_default())
            else {
                return None;
            };
            Some(*index.entry(name.clone()).or_insert_with(|| {
                users.push(name);
                u32::try_from(users.len() - 1).unwrap_or(u32::MAX)
            }))
        });
        snapshot.sockets[at].user = name;
    }
}
