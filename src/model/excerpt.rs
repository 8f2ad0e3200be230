//! A few sockets out of a snapshot, with all that is said of them, as a small snapshot of their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Evidence, Namespace, NamespaceId, ProcessId, Snapshot, SocketIndex, Span};

impl Snapshot {
    /// These sockets, in this order, with their holders, namespaces and the rules that their paths
    /// quote; the second value of the pair tells the new index of each. What stands at the other end
    /// of a connection comes along, without order. Settings, routes and rulesets of namespaces are
    /// left out: an excerpt is for telling, not for judging.
    pub fn excerpt(&self, sockets: &[SocketIndex]) -> (Self, BTreeMap<SocketIndex, SocketIndex>) {
        let mut numbers = BTreeMap::new();
        let mut order = Vec::new();
        for at in sockets {
            take(*at, &mut numbers, &mut order);
        }
        for at in sockets {
            if let Some(peer) = self.sockets[at.0 as usize].peer {
                take(peer, &mut numbers, &mut order);
            }
            for socket in self.observe(*at).targets().iter().filter_map(|target| target.socket) {
                take(socket, &mut numbers, &mut order);
            }
        }
        let mut part = Self {
            taken_at: self.taken_at,
            host: self.host.clone(),
            upstream: self.upstream,
            ..Self::default()
        };
        let (mut namespaces, mut processes) = (BTreeMap::new(), BTreeMap::new());
        let (mut users, mut evidence) = (BTreeMap::new(), BTreeMap::new());
        for at in &order {
            let mut socket = self.sockets[at.0 as usize].clone();
            socket.netns = self.adopt_namespace(socket.netns, &mut part, &mut namespaces);
            let start = number(part.holders.len());
            for holder in &self.holders[socket.holders.range()] {
                let mut holder = *holder;
                holder.process = *processes.entry(holder.process).or_insert_with(|| {
                    part.processes.push(self.process(holder.process).clone());
                    ProcessId(number(part.processes.len() - 1))
                });
                part.holders.push(holder);
            }
            socket.holders = Span { start, len: number(part.holders.len()) - start };
            socket.peer = socket.peer.and_then(|peer| numbers.get(&peer).copied());
            for target in socket.published.iter_mut().flat_map(|published| &mut published.targets) {
                target.socket = target.socket.and_then(|other| numbers.get(&other).copied());
                target.netns =
                    target.netns.map(|netns| self.adopt_namespace(netns, &mut part, &mut namespaces));
            }
            socket.user = socket.user.and_then(|user| {
                let name = self.users.get(user as usize)?;
                Some(*users.entry(user).or_insert_with(|| {
                    part.users.push(name.clone());
                    number(part.users.len() - 1)
                }))
            });
            for path in socket.exposure.iter_mut().flat_map(|exposure| &mut exposure.paths) {
                let netns = self.adopt_namespace(path.entry.netns, &mut part, &mut namespaces);
                Arc::make_mut(&mut path.entry).netns = netns;
                for because in &mut path.because {
                    let quoted: Option<&Evidence> = self.evidence.get(*because as usize);
                    *because = *evidence.entry(*because).or_insert_with(|| {
                        part.evidence.extend(quoted.cloned());
                        number(part.evidence.len().saturating_sub(1))
                    });
                }
            }
            part.sockets.push(socket);
        }
        (part, numbers)
    }

    fn adopt_namespace(
        &self,
        id: NamespaceId,
        part: &mut Self,
        known: &mut BTreeMap<NamespaceId, NamespaceId>,
    ) -> NamespaceId {
        *known.entry(id).or_insert_with(|| {
            let whole = self.namespace(id);
            part.namespaces.push(Namespace {
                inode: whole.inode,
                cookie: whole.cookie,
                name: whole.name.clone(),
                own: whole.own,
                interfaces: whole.interfaces.clone(),
                sysctls: whole.sysctls.clone(),
                ..Namespace::default()
            });
            NamespaceId(number(part.namespaces.len() - 1))
        })
    }
}

fn take(at: SocketIndex, numbers: &mut BTreeMap<SocketIndex, SocketIndex>, order: &mut Vec<SocketIndex>) {
    numbers.entry(at).or_insert_with(|| {
        order.push(at);
        SocketIndex(number(order.len() - 1))
    });
}

fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use crate::model::sample::{Sample, endpoint};
    use crate::model::{Protocol, Reach, SocketIndex, State};

    #[test]
    fn an_excerpt_tells_the_same_of_its_sockets() {
        let mut sample = Sample::new();
        sample.process(10, "/usr/sbin/nginx");
        sample.process(20, "/usr/bin/redis-server");
        sample.listener("0.0.0.0:80", Reach::Internet, &[10]);
        sample.listener("127.0.0.1:6379", Reach::Host, &[20, 10]);
        let call = sample.socket(Protocol::Tcp, State::Established, "127.0.0.1:40000", &[10]);
        (call.remote, call.peer) = (endpoint("127.0.0.1:6379"), Some(SocketIndex(1)));
        let whole = &sample.snapshot;
        let (part, numbers) = whole.excerpt(&[SocketIndex(2)]);
        assert_eq!(part.sockets.len(), 2, "the other end comes along");
        assert_eq!(numbers[&SocketIndex(2)], SocketIndex(0));
        let (was, is) = (whole.observe(SocketIndex(2)), part.observe(SocketIndex(0)));
        assert_eq!(is.socket.peer, Some(SocketIndex(1)));
        assert_eq!((was.user(), was.namespace().inode), (is.user(), is.namespace().inode));
        let names = |each: crate::model::Observation<'_>| -> Vec<_> {
            each.owners().map(|owner| owner.process.name.to_string()).collect()
        };
        assert_eq!(
            names(part.observe(SocketIndex(1))),
            ["redis-server", "nginx"].map(str::to_owned).to_vec()
        );
        assert_eq!(names(is), names(was));
        assert!(part.processes.len() == 2 && part.namespaces.len() == 1);
    }
}
