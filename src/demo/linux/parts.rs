//! What each program of the demo does: open its sockets, say "ready", wait to be ended.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use super::{PATIENCE, link, namespace};

/// This computer and "another one", at the two ends of a cable.
pub(super) const HERE: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 2);
pub(super) const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
pub(super) const CABLE: &str = "eth0";

const WEB: u16 = 8080;
const NOTES: u16 = 5432;
const SWARM: u16 = 6881;
const TRACKER: u16 = 6969;
const UPDATER: u16 = 4444;

pub(super) fn play(part: &str, words: &[OsString]) -> io::Result<()> {
    let path = || words.first().ok_or(io::ErrorKind::InvalidInput);
    match part {
        "neighbour" => neighbour(),
        "server" => {
            let listener = TcpListener::bind((HERE, WEB))?;
            let guest = greet(&listener)?;
            ready()?;
            hold((listener, guest))
        }
        "store" => {
            let (inet, unix) =
                (TcpListener::bind((Ipv4Addr::LOCALHOST, NOTES))?, UnixListener::bind(path()?)?);
            ready()?;
            let guest = greet(&inet)?;
            let (mut local, _) = unix.accept()?;
            local.write_all(b"!")?;
            hold((inet, unix, guest, local))
        }
        "editor" => {
            let inet = call(IpAddr::V4(Ipv4Addr::LOCALHOST), NOTES)?;
            let mut unix = UnixStream::connect(path()?)?;
            unix.read_exact(&mut [0])?;
            ready()?;
            hold((inet, unix))
        }
        "peer" => {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, SWARM))?;
            let tracker = call(IpAddr::V4(NEIGHBOUR), TRACKER)?;
            ready()?;
            hold((listener, tracker))
        }
        "updater" => {
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, UPDATER))?;
            ready()?;
            hold(listener)
        }
        "door" => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            ready()?;
            hold(listener)
        }
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Another computer, as far as this one can tell: a namespace of its own with a tracker and a
/// client in it.
fn neighbour() -> io::Result<()> {
    namespace::unshare()?;
    super::end_with_parent(rustix::process::Signal::KILL)?;
    ready()?;
    let mut kernel = link::Kernel::open()?;
    kernel.up(link::LOOPBACK)?;
    kernel.plug(CABLE, NEIGHBOUR)?;
    let tracker = TcpListener::bind((NEIGHBOUR, TRACKER))?;
    let serving = thread::spawn(move || greet(&tracker).map(|guest| hold((tracker, guest))));
    let served = call(IpAddr::V4(HERE), WEB)?;
    let _ = serving.join();
    hold(served)
}

/// Takes one caller and sends a byte, so that both know that the other is there.
fn greet(listener: &TcpListener) -> io::Result<TcpStream> {
    let (mut guest, _) = listener.accept()?;
    guest.write_all(b"!")?;
    Ok(guest)
}

/// Calls until somebody answers.
fn call(address: IpAddr, port: u16) -> io::Result<TcpStream> {
    let started = Instant::now();
    loop {
        match TcpStream::connect_timeout(&SocketAddr::new(address, port), PATIENCE) {
            Err(_) if started.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(10)),
            answer => {
                let mut stream = answer?;
                stream.read_exact(&mut [0])?;
                return Ok(stream);
            }
        }
    }
}

fn ready() -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(b"ready\n")?;
    out.flush()
}

/// Keeps its sockets until the process is ended.
fn hold<T>(sockets: T) -> ! {
    loop {
        thread::sleep(Duration::from_secs(3600));
        let _ = &sockets;
    }
}
