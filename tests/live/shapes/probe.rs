//! Connects and datagrams from chosen addresses, each carrying its own number: what a listener read
//! got in, whatever translated it on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use crate::lab::{Outcome, check};
use crate::reach::{Kind, begin, bind, completed, flag, new_socket, to_device};

/// Where probes start: a network namespace, the interface by which they come in to the host, the
/// source address, and the device that the sender is bound to.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) place: usize,
    pub(super) entry: String,
    pub(super) source: SocketAddr,
    pub(super) device: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) listener: usize,
    pub(super) origin: Origin,
    pub(super) to: SocketAddr,
}

/// A socket that waits for probes.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) kind: Kind,
    pub(super) holds: Holds,
    /// In another namespace than the host's, or before one.
    pub(super) translated: bool,
}

#[derive(Debug)]
pub(super) enum Holds {
    /// Our own, with its inode.
    Own(OwnedFd, u64),
    /// A proxy's at this address of the host, which hands what it gets to the listener of this number.
    Proxy(SocketAddr, usize),
}

impl Listener {
    fn fd(&self) -> Option<&OwnedFd> {
        match &self.holds {
            Holds::Own(fd, _) => Some(fd),
            Holds::Proxy(..) => None,
        }
    }
}

/// Whether a probe for `wanted` that was read by `reader` got in where it should: by itself or, for a
/// proxy's socket, by way of that proxy, which calls from a port of its own.
fn counts(listeners: &[Listener], wanted: usize, reader: usize, same_port: bool) -> bool {
    let proxied =
        listeners.iter().any(|each| matches!(each.holds, Holds::Proxy(_, behind) if behind == reader));
    match listeners[wanted].holds {
        Holds::Own(..) => wanted == reader && (same_port || !proxied),
        Holds::Proxy(_, behind) => behind == reader && !same_port,
    }
}

/// What a probe says: its number, and the port it was sent from.
fn payload(number: usize, port: u16) -> Option<[u8; 6]> {
    let number = u32::try_from(number).ok()?.to_be_bytes();
    let port = port.to_be_bytes();
    Some([number[0], number[1], number[2], number[3], port[0], port[1]])
}

fn understood(payload: [u8; 6]) -> (usize, u16) {
    let [a, b, c, d, high, low] = payload;
    (u32::from_be_bytes([a, b, c, d]) as usize, u16::from_be_bytes([high, low]))
}

/// How long is waited for what does not come.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    connect: Duration,
    arrive: Duration,
}

impl Patience {
    pub(super) const SHORT: Self =
        Self { connect: Duration::from_millis(250), arrive: Duration::from_millis(60) };
    /// For what should have come: the machine may be busy.
    pub(super) const LONG: Self =
        Self { connect: Duration::from_millis(900), arrive: Duration::from_millis(500) };
}

/// Sends the probes of these numbers; the numbers of those that got in.
pub(super) fn ask(
    places: &[File],
    listeners: &[Listener],
    probes: &[Probe],
    which: &[usize],
    patience: Patience,
) -> Outcome<BTreeSet<usize>> {
    let mut got_in = BTreeSet::new();
    for (number, place) in places.iter().enumerate() {
        let mine = |stream: bool| -> Vec<usize> {
            let fits = |index: &&usize| {
                let probe = &probes[**index];
                probe.origin.place == number && (listeners[probe.listener].kind == Kind::Tcp) == stream
            };
            which.iter().filter(fits).copied().collect()
        };
        for part in mine(true).chunks(250) {
            let open = within(place, || connects(probes, part, patience.connect))?;
            accept_all(listeners, probes, open, patience.arrive, &mut got_in);
        }
        // Few enough at a time for the receive buffers.
        for part in mine(false).chunks(300) {
            within(place, || datagrams(listeners, probes, part))?;
            std::thread::sleep(patience.arrive.min(Duration::from_millis(100)));
            for (reader, listener) in listeners.iter().enumerate().filter(|(_, each)| each.kind != Kind::Tcp)
            {
                for (number, same_port) in listener.fd().map(received).unwrap_or_default() {
                    let Some(probe) = probes.get(number) else { continue };
                    if counts(listeners, probe.listener, reader, same_port) {
                        got_in.insert(number);
                    }
                }
            }
        }
    }
    Ok(got_in)
}

/// Runs `work` in a thread that has entered a network namespace.
pub(super) fn within<T: Send>(place: &File, work: impl FnOnce() -> T + Send) -> Outcome<T> {
    let done = std::thread::scope(|scope| {
        let entered = scope.spawn(|| {
            // SAFETY: a system call without pointers; the thread ends with the closure.
            check(unsafe { libc::setns(place.as_raw_fd(), libc::CLONE_NEWNET) })?;
            Ok::<T, io::Error>(work())
        });
        entered.join()
    });
    Ok(done.map_err(|_| "the thread in the namespace panicked")??)
}

fn connects(probes: &[Probe], which: &[usize], patience: Duration) -> Vec<(usize, TcpStream)> {
    let begin = |number: &usize| {
        let probe = &probes[*number];
        Some((*number, begin(probe.to, probe.origin.source, probe.origin.device).ok()?))
    };
    let open = completed(which.iter().filter_map(begin).collect(), patience);
    open.into_iter().map(|(number, fd)| (number, TcpStream::from(fd))).collect()
}

/// Each connection says its number; a listener that reads it has let it in.
fn accept_all(
    listeners: &[Listener],
    probes: &[Probe],
    open: Vec<(usize, TcpStream)>,
    patience: Duration,
    got_in: &mut BTreeSet<usize>,
) {
    let mut missing: BTreeSet<usize> = BTreeSet::new();
    for (number, stream) in &open {
        let mut stream: &TcpStream = stream;
        let port = stream.local_addr().map_or(0, |local| local.port());
        if payload(*number, port).is_some_and(|told| stream.write_all(&told).is_ok()) {
            missing.insert(*number);
        }
    }
    let mut reading: Vec<(usize, TcpStream, u16)> = Vec::new();
    let end = Instant::now() + patience;
    while !missing.is_empty() && Instant::now() < end {
        for (index, listener) in listeners.iter().enumerate().filter(|(_, each)| each.kind == Kind::Tcp) {
            let Some(Ok(fd)) = listener.fd().map(OwnedFd::try_clone) else { continue };
            let waiting = TcpListener::from(fd);
            while let Ok((stream, peer)) = waiting.accept() {
                let _ = stream.set_nonblocking(true);
                reading.push((index, stream, peer.port()));
            }
        }
        reading.retain_mut(|(reader, stream, port)| {
            let mut buffer = [0; 6];
            match stream.read_exact(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => return false,
                Ok(()) => {}
            }
            let (number, sent_from) = understood(buffer);
            let asked = missing.remove(&number);
            if asked && counts(listeners, probes[number].listener, *reader, sent_from == *port) {
                got_in.insert(number);
            }
            false
        });
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Sends each probe as a datagram; what cannot be sent does not arrive. A flow has a port of its own,
/// which no translation has to change for another's sake.
fn datagrams(listeners: &[Listener], probes: &[Probe], which: &[usize]) {
    type Key = (Kind, SocketAddr, Option<&'static str>, SocketAddr);
    let mut senders: BTreeMap<Key, Option<UdpSocket>> = BTreeMap::new();
    for number in which {
        let probe = &probes[*number];
        let kind = listeners[probe.listener].kind;
        let Origin { source, device, .. } = probe.origin;
        let sender = senders.entry((kind, source, device, probe.to)).or_insert_with(|| {
            let fd = new_socket(source, kind).ok()?;
            flag(&fd, libc::SOL_SOCKET, libc::SO_BROADCAST, true).ok()?;
            if let Some(device) = device {
                to_device(&fd, device).ok()?;
            }
            bind(&fd, source).ok()?;
            Some(UdpSocket::from(fd))
        });
        let Some(socket) = sender else { continue };
        let port = socket.local_addr().map_or(0, |local| local.port());
        if let Some(told) = payload(*number, port) {
            let _ = socket.send_to(&told, probe.to);
        }
    }
}

/// The numbers that a datagram socket has got, and whether each came from the port it was sent from.
fn received(fd: &OwnedFd) -> Vec<(usize, bool)> {
    let mut found = Vec::new();
    let Ok(socket) = fd.try_clone().map(UdpSocket::from) else { return found };
    let mut buffer = [0_u8; 256];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        if let Some(told) = buffer[..length].last_chunk::<6>() {
            let (number, sent_from) = understood(*told);
            found.push((number, sent_from == from.port()));
        }
    }
    found
}
