//! Connects and datagrams from chosen addresses, each carrying its own number: what a listener read
//! got in, whatever translated it on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use crate::lab::{Outcome, check};
use crate::reach::{Kind, bind, flag, new_socket, to_device, with_address};

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
    pub(super) fd: OwnedFd,
    pub(super) inode: u64,
    /// Behind a translation: who comes by way of a proxy has another source port, and is not counted.
    pub(super) translated: bool,
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
            for (index, listener) in listeners.iter().enumerate() {
                if listener.kind != Kind::Tcp {
                    let arrived = received(&listener.fd).into_iter();
                    got_in.extend(
                        arrived.filter(|probe| probes.get(*probe).is_some_and(|each| each.listener == index)),
                    );
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
    let begin = |probe: &Probe| -> io::Result<OwnedFd> {
        let fd = new_socket(probe.to, Kind::Tcp)?;
        if let Some(device) = probe.origin.device {
            to_device(&fd, device)?;
        }
        bind(&fd, probe.origin.source)?;
        with_address(probe.to, |raw, length| {
            // SAFETY: a valid address of that length.
            match check(unsafe { libc::connect(fd.as_raw_fd(), raw, length) }) {
                Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
                _ => Ok(fd),
            }
        })
    };
    let mut open: Vec<(usize, OwnedFd)> =
        which.iter().filter_map(|number| Some((*number, begin(&probes[*number]).ok()?))).collect();
    let mut connected = Vec::new();
    let end = Instant::now() + patience;
    while !open.is_empty() && Instant::now() < end {
        let mut polls: Vec<libc::pollfd> = open
            .iter()
            .map(|(_, fd)| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLOUT, revents: 0 })
            .collect();
        // SAFETY: an array of that length that outlives the call.
        unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, 50) };
        let mut still = Vec::new();
        for ((number, fd), poll) in open.into_iter().zip(polls) {
            if poll.revents == 0 {
                still.push((number, fd));
            } else if poll.revents & (libc::POLLERR | libc::POLLHUP) == 0 {
                connected.push((number, TcpStream::from(fd)));
            }
        }
        open = still;
    }
    connected
}

/// Each connection says its number; a listener that reads it has let it in.
fn accept_all(
    listeners: &[Listener],
    probes: &[Probe],
    open: Vec<(usize, TcpStream)>,
    patience: Duration,
    got_in: &mut BTreeSet<usize>,
) {
    let mut missing: BTreeMap<usize, u16> = BTreeMap::new();
    for (number, stream) in &open {
        let mut stream: &TcpStream = stream;
        let told = u32::try_from(*number).map(|number| stream.write_all(&number.to_be_bytes()));
        if let (Ok(Ok(())), Ok(local)) = (told, stream.local_addr()) {
            missing.insert(*number, local.port());
        }
    }
    let mut reading: Vec<(usize, TcpStream, u16)> = Vec::new();
    let end = Instant::now() + patience;
    while !missing.is_empty() && Instant::now() < end {
        for (index, listener) in listeners.iter().enumerate().filter(|(_, each)| each.kind == Kind::Tcp) {
            let Ok(fd) = listener.fd.try_clone() else { continue };
            let waiting = TcpListener::from(fd);
            while let Ok((stream, peer)) = waiting.accept() {
                let _ = stream.set_nonblocking(true);
                reading.push((index, stream, peer.port()));
            }
        }
        reading.retain_mut(|(listener, stream, port)| {
            let mut buffer = [0; 4];
            match stream.read_exact(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => return false,
                Ok(()) => {}
            }
            let number = u32::from_be_bytes(buffer) as usize;
            let sent_from = missing.remove(&number);
            let straight = !listeners[*listener].translated || sent_from == Some(*port);
            if sent_from.is_some() && straight && probes[number].listener == *listener {
                got_in.insert(number);
            }
            false
        });
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Sends the number of each probe as a datagram; what cannot be sent does not arrive.
fn datagrams(listeners: &[Listener], probes: &[Probe], which: &[usize]) {
    type Key = (Kind, SocketAddr, Option<&'static str>);
    let mut senders: BTreeMap<Key, Option<OwnedFd>> = BTreeMap::new();
    for number in which {
        let probe = &probes[*number];
        let kind = listeners[probe.listener].kind;
        let Origin { source, device, .. } = probe.origin;
        let sender = senders.entry((kind, source, device)).or_insert_with(|| {
            let fd = new_socket(source, kind).ok()?;
            flag(&fd, libc::SOL_SOCKET, libc::SO_BROADCAST, true).ok()?;
            if let Some(device) = device {
                to_device(&fd, device).ok()?;
            }
            bind(&fd, source).ok()?;
            Some(fd)
        });
        let (Some(fd), Ok(payload)) = (sender, u32::try_from(*number)) else { continue };
        let payload = payload.to_be_bytes();
        with_address(probe.to, |raw, length| {
            // SAFETY: four bytes and a valid address of that length.
            unsafe { libc::sendto(fd.as_raw_fd(), payload.as_ptr().cast(), 4, 0, raw, length) }
        });
    }
}

fn received(fd: &OwnedFd) -> Vec<usize> {
    let mut found = Vec::new();
    loop {
        let mut buffer = [0_u8; 256];
        // SAFETY: a buffer of that length.
        let length = unsafe { libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        let Ok(length) = usize::try_from(length) else { return found };
        if let Some(number) = buffer[..length].last_chunk::<4>() {
            found.push(u32::from_be_bytes(*number) as usize);
        }
    }
}
