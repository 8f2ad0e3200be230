//! Containers, units and interfaces.

use std::ffi::OsString;
use std::fs::{self};
use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;

use sockwarden::model::{Endpoint, Fact, InterfaceKind, Socket, Text};

use super::{Running, facts, open_folder, scan, sleep_program, wait_for_exe};
use crate::awkward::sys;
use crate::lab::{self, Netns, Outcome, Program, Stop, ensure, maker};

/// A control group of our own, removed when dropped.
struct ControlGroup(Vec<PathBuf>);

impl ControlGroup {
    /// `path` below a folder of our own, in the unified hierarchy.
    fn new(path: &str) -> Outcome<Self> {
        let table = fs::read_to_string("/proc/self/mounts")?;
        let mount = table.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (point, kind) = (words.next()?, words.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(point))
        });
        let mut at = mount.ok_or_else(|| Stop::Skip("no unified control groups here".into()))?;
        let mut made = Self(Vec::new());
        at.push(format!("sockwarden-test-{}", std::process::id()));
        for part in std::iter::once("").chain(path.split('/')) {
            if !part.is_empty() {
                at.push(part);
            }
            if !at.exists() {
                fs::create_dir(&at)?;
                made.0.push(at.clone());
            }
        }
        Ok(made)
    }

    fn take_in(&self, pid: u32) -> Outcome {
        let last = self.0.last().ok_or("no control group")?;
        Ok(fs::write(last.join("cgroup.procs"), pid.to_string())?)
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let _ = fs::remove_dir(path);
        }
    }
}

pub(super) fn container_of_a_control_group() -> Outcome {
    let id = "5ca1ab1e".repeat(8);
    let dir = open_folder()?;
    let state = dir.path().join("containers").join(&id);
    fs::create_dir_all(&state)?;
    fs::write(state.join("config.v2.json"), r#"{"Name":"/web","Config":{"Image":"nginx:1"}}"#)?;
    fs::write(state.join("hostname"), "web\n")?;
    let group = ControlGroup::new(&format!("docker/{id}"))?;
    let sleep = sleep_program()?;
    // As Docker does it: `hostname` of the container is mounted from the folder with its state.
    let hostname = state.join("hostname");
    let target = dir.path().join("etc-hostname");
    fs::write(&target, "")?;
    let args = [hostname.as_os_str(), target.as_os_str(), "0".as_ref(), sleep.as_os_str(), "1000".as_ref()];
    let mut inside = Program::start(maker("enrich-mounted").args(args))?;
    inside.until_ready()?;
    wait_for_exe(inside.pid(), &sleep)?;
    group.take_in(inside.pid())?;
    let container = facts(inside.pid())?.0.container;
    drop(inside);
    let container = container.known().ok_or("no container")?;
    ensure(container.runtime == "docker" && container.id == id.as_str().into(), || format!("{container:?}"))?;
    ensure(container.name == Some("web".into()) && container.image == Some("nginx:1".into()), || {
        format!("{container:?}")
    })?;
    // The same without state files: the id is told, name and image are a gap.
    let other = "0ddba11".repeat(10)[..64].to_owned();
    let group = ControlGroup::new(&format!("libpod-{other}.scope"))?;
    let plain = Running::start(Command::new(&sleep).arg("1000"))?;
    group.take_in(plain.pid())?;
    let (process, snapshot) = facts(plain.pid())?;
    drop(plain);
    let container = process.container.known().ok_or("no container")?;
    ensure(container.runtime == "podman" && container.name.is_none(), || format!("{container:?}"))?;
    ensure(process.unit == Fact::Known(format!("libpod-{other}.scope").into()), || {
        format!("{:?}", process.unit)
    })?;
    ensure(snapshot.gaps.iter().any(|gap| gap.id == "container-state" && gap.count == 1), || {
        format!("gaps {:?}", snapshot.gaps)
    })
}

/// Argument: a root with unit files. The first process of a pid namespace, called systemd, that
/// listens at port 2222 and at `/run/x.sock` of that root.
pub(super) fn manager(args: &[OsString]) -> io::Result<()> {
    let [folder] = args else { return Err(io::ErrorKind::InvalidInput.into()) };
    let folder = folder.clone();
    lab::unshare(libc::CLONE_NEWPID)?;
    let pid = sys::fork(move || {
        std::os::unix::fs::chroot(&folder)?;
        std::env::set_current_dir("/")?;
        let tcp = std::net::TcpListener::bind("[::]:2222")?;
        let other = std::net::TcpListener::bind("[::]:2223")?;
        let unix = UnixListener::bind("/run/x.sock")?;
        sys::set_name(c"systemd");
        sys::keep([tcp.into(), other.into(), std::os::fd::OwnedFd::from(unix)]);
        sys::sleep_forever()
    })?;
    lab::wait("the manager", || {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "systemd\n").then_some(())
    })
    .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
    println!("{pid}");
    lab::hold()
}

pub(super) fn service_behind_a_socket_unit() -> Outcome {
    let netns = Netns::new()?;
    let dir = open_folder()?;
    let write = |path: &str, text: &str| -> io::Result<()> {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap_or(dir.path()))?;
        fs::write(path, text)
    };
    write("run/empty", "")?;
    write("usr/lib/systemd/system/ssh.socket", "[Socket]\nListenStream=22\nAccept=no\n")?;
    write("etc/systemd/system/ssh.socket.d/port.conf", "[Socket]\nListenStream=\nListenStream=2222\n")?;
    write("usr/lib/systemd/system/x.socket", "[Socket]\nListenStream=/run/x.sock\nAccept=yes\n")?;
    write("usr/lib/systemd/system/dgram.socket", "[Socket]\nListenDatagram=2223\n")?;
    let mut command = maker("enrich-manager");
    netns.enter(&mut command)?;
    let mut program = Program::start(command.arg(dir.path()))?;
    let said = program.until_ready()?;
    let pid: u32 = said.first().and_then(|line| line.parse().ok()).ok_or("no pid")?;
    let snapshot = scan()?;
    let at = snapshot.processes.iter().position(|each| each.pid == pid).ok_or("the manager is not listed")?;
    let held = |socket: &&Socket| {
        snapshot.holders[socket.holders.range()].iter().any(|holder| holder.process.0 as usize == at)
    };
    let mut found: Vec<(String, Vec<Text>, Vec<Text>)> = snapshot
        .sockets
        .iter()
        .filter(held)
        .map(|socket| {
            let made = socket.activation.as_deref().cloned().unwrap_or_default();
            (format!("{:?}", socket.local), made.units, made.services)
        })
        .collect();
    found.sort();
    let names = |name: &str| vec![Text::from(name)];
    let port = |port: u16| format!("{:?}", Endpoint::Inet(std::net::Ipv6Addr::UNSPECIFIED.into(), port));
    let wanted = [
        (port(2222), names("ssh.socket"), names("ssh.service")),
        (port(2223), Vec::new(), Vec::new()),
        (format!("{:?}", Endpoint::UnixPath("/run/x.sock".into())), names("x.socket"), names("x@.service")),
    ];
    ensure(found == wanted, || format!("{found:#?}"))
}

pub(super) fn interfaces_of_a_namespace() -> Outcome {
    let netns = Netns::new()?;
    netns.ip("link add br0 type bridge")?;
    netns.ip("link add veth0 type veth peer name veth1")?;
    netns.ip("link set veth0 master br0")?;
    netns.ip("link set veth1 promisc on")?;
    netns.ip("link set veth1 up")?;
    netns.ip("link set veth0 up")?;
    netns.ip("link set br0 up")?;
    netns.ip("addr add 10.9.0.1/24 dev br0")?;
    netns.ip("addr add 10.9.0.2/24 dev br0 label br0:x")?;
    netns.ip("-6 addr add fd09::1/64 dev br0 nodad")?;
    netns.ip("route add default via 10.9.0.254")?;
    netns.sysctl("net/ipv4/conf/br0/route_localnet", "1")?;
    netns.sysctl("net/ipv4/ip_local_port_range", "40000 50000")?;
    let group = netns.run(|| -> io::Result<std::net::UdpSocket> {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.join_multicast_v4(&[239, 1, 2, 3].into(), &[10, 9, 0, 1].into())?;
        Ok(socket)
    })??;
    let snapshot = scan()?;
    drop(group);
    let namespace = snapshot.namespaces.iter().find(|each| each.inode == netns.inode());
    let namespace = namespace.ok_or("the namespace is not listed")?;
    let interfaces = namespace.interfaces.known().ok_or("no interfaces")?;
    let find = |name: &str| interfaces.iter().find(|each| each.name == name.into()).ok_or(name.to_owned());
    let (bridge, port, peer) = (find("br0")?, find("veth0")?, find("veth1")?);
    ensure(interfaces.len() == 4, || format!("{interfaces:#?}"))?;
    ensure(
        bridge.kind == InterfaceKind::Bridge && bridge.default_v4 && !bridge.default_v6 && bridge.up,
        || format!("{bridge:?}"),
    )?;
    for address in ["10.9.0.1/24", "10.9.0.2/24", "fd09::1/64"] {
        let address = address.parse()?;
        ensure(bridge.addresses.contains(&address), || format!("{bridge:?} lacks {address}"))?;
    }
    ensure(bridge.groups.contains(&[239, 1, 2, 3].into()), || format!("groups {:?}", bridge.groups))?;
    ensure(port.kind == InterfaceKind::Veth && port.master == Some(bridge.index), || format!("{port:?}"))?;
    ensure(peer.promiscuous && find("lo")?.kind == InterfaceKind::Loopback, || format!("{peer:?}"))?;
    let sysctls = &namespace.sysctls;
    ensure(sysctls.ephemeral == Some((40000, 50000)) && sysctls.route_localnet == Some(true), || {
        format!("{sysctls:?}")
    })
}
