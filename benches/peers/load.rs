//! Many processes with many sockets, as a busy host has them.
//!
//! Of the S sockets of a process: 10 % TCP listeners (at least one) on its own address
//! 127.(1+p/256).(p%256).1, which avoids running out of ports; 5 % TCP listeners on ::1; 25 %
//! connections to its first listener, both ends its own; 12 % UDP and 3 % UDP over IPv6; the rest
//! UNIX, half listeners with abstract names and half pairs. Percentages round down.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{self as unix, UnixListener, UnixStream};

use crate::measure::check;

/// How many of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) name: &'static str,
    pub(crate) processes: u16,
    pub(crate) sockets: u16,
    /// Descriptors beside the sockets, in each process.
    pub(crate) files: u16,
    pub(crate) rounds: usize,
}

const SIZES: [Size; 4] = [
    Size { name: "small", processes: 30, sockets: 7, files: 10, rounds: 7 },
    Size { name: "medium", processes: 500, sockets: 20, files: 10, rounds: 5 },
    Size { name: "large", processes: 2000, sockets: 50, files: 10, rounds: 5 },
    Size { name: "xlarge", processes: 2000, sockets: 100, files: 10, rounds: 3 },
];

impl Size {
    pub(crate) fn named(name: &str) -> io::Result<Self> {
        SIZES
            .into_iter()
            .find(|size| size.name == name)
            .ok_or_else(|| io::Error::other(format!("no size {name}: small, medium, large or xlarge")))
    }
}

/// Opens everything, says `ready`, and keeps it until standard input closes.
pub(crate) fn hold(size: &Size) -> io::Result<()> {
    let mut first = 0;
    while first < size.processes {
        let last = size.processes.min(first + 64);
        let (mut ready, says) = io::pipe()?;
        for process in first..last {
            // SAFETY: this program has one thread, so the child may go on as the parent would.
            if check(unsafe { libc::fork() })? == 0 {
                // SAFETY: takes numbers only.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                drop(ready);
                one(size, process, says);
            }
        }
        drop(says);
        let mut bytes = Vec::new();
        let expected = usize::from(last - first);
        (&mut ready).take(expected as u64).read_to_end(&mut bytes)?;
        if bytes.len() < expected {
            return Err(io::Error::other("a process could not open its sockets"));
        }
        first = last;
    }
    println!("ready");
    io::copy(&mut io::stdin(), &mut io::sink()).map(|_| ())
}

/// The life of one process of the load.
fn one(size: &Size, process: u16, mut says: io::PipeWriter) -> ! {
    match open(size, process) {
        Ok(kept) => {
            let _ = says.write_all(b"x");
            drop(says);
            loop {
                std::thread::park();
                std::hint::black_box(&kept);
            }
        }
        Err(error) => {
            eprintln!("process {process}: {error}");
            std::process::exit(1)
        }
    }
}

fn open(size: &Size, process: u16) -> io::Result<Vec<OwnedFd>> {
    let [high, low] = process.to_be_bytes();
    let own = Ipv4Addr::new(127, 1 + high, low, 1);
    let share = |percent: u16| size.sockets * percent / 100;
    let mut kept: Vec<OwnedFd> = Vec::new();

    let tcp = share(10).max(1);
    for n in 0..tcp {
        kept.push(TcpListener::bind((own, 10_000 + n))?.into());
    }
    for n in 0..share(5) {
        kept.push(TcpListener::bind((Ipv6Addr::LOCALHOST, 20_000 + process * share(5) + n))?.into());
    }
    let server = TcpListener::from(kept[0].try_clone()?);
    let target = SocketAddr::from((own, 10_000));
    for _ in 0..share(25) {
        kept.push(TcpStream::connect(target)?.into());
        kept.push(server.accept()?.0.into());
    }
    drop(server);
    for n in 0..share(12) {
        kept.push(UdpSocket::bind((own, 10_000 + n))?.into());
    }
    for n in 0..share(3) {
        kept.push(UdpSocket::bind((Ipv6Addr::LOCALHOST, 20_000 + process * share(3) + n))?.into());
    }
    let rest = usize::from(size.sockets).saturating_sub(kept.len());
    let pairs = rest / 4;
    for n in 0..rest - 2 * pairs {
        let name = unix::SocketAddr::from_abstract_name(format!("load-{process}-{n}"))?;
        kept.push(UnixListener::bind_addr(&name)?.into());
    }
    for _ in 0..pairs {
        let (a, b) = UnixStream::pair()?;
        kept.extend([OwnedFd::from(a), b.into()]);
    }
    for _ in 0..size.files {
        kept.push(File::open("/dev/null")?.into());
    }
    Ok(kept)
}
