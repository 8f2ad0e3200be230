//! Servers: what each is set up badly by, and the fix that its rule names.

use super::case::{Case, Fix, LAN, Ready, Side};
use crate::lab::Need::{self, Root, Tool};

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
];
