//! Machines as a good administrator keeps them: nothing that is said of them is above low. With
//! `SOCKWARDEN_RECORD=tests/hosts SOCKWARDEN_TIER=long` each is kept as a snapshot that the suite
//! judges again without any right.
//!
//! Programs are started as their units do it, in control groups of the units' names.

use super::case::{Helper, Ready, Side};
use crate::lab::Need::{self, File, Root, Tool};

pub(super) struct Host {
    pub(super) name: &'static str,
    /// For people who read the recording.
    pub(super) what: &'static str,
    pub(super) needs: &'static [Need],
    pub(super) prepare: &'static str,
    pub(super) programs: &'static [Helper],
}

pub(super) const ALL: &[Host] = &[
    Host {
        name: "good-server",
        what: "A server of Debian's packages as shipped: login, web pages, databases and caches for the web \
            pages, a name server, a broker, the state of the machine for itself.",
        needs: &[
            Root,
            Tool("sshd"),
            Tool("apache2ctl"),
            Tool("mariadbd"),
            Tool("pg_ctlcluster"),
            Tool("redis-server"),
            Tool("memcached"),
            Tool("mosquitto"),
            Tool("unbound"),
            Tool("snmpd"),
            Tool("dbus-daemon"),
        ],
        prepare: "mkdir -p /run/sshd /run/apache2 /var/log/apache2
            install -d -o messagebus /run/dbus
            install -d -o mysql -g mysql /run/mysqld
            install -d -o mosquitto -g mosquitto /run/mosquitto /var/log/mosquitto
            install -d -o redis -g redis /run/redis
            install -d -o postgres -g postgres /run/postgresql
            install -d /run/unbound; rm -f /etc/unbound/unbound.conf.d/root-*",
        programs: &[
            (Side::Here, "unit ssh.service /usr/sbin/sshd -D", Ready::Tcp(22)),
            (Side::Here, "unit apache2.service apache2ctl -DFOREGROUND", Ready::Tcp(80)),
            (Side::Here, "unit mariadb.service mariadbd --user=mysql", Ready::Tcp(3306)),
            (
                Side::Here,
                "set -- $(pg_lsclusters -h)
                exec unit postgresql@$1-$2.service pg_ctlcluster $1 $2 start --foreground",
                Ready::Tcp(5432),
            ),
            (
                Side::Here,
                "unit redis-server.service setpriv --reuid=redis --regid=redis --clear-groups \
                 redis-server /etc/redis/redis.conf --supervised no --daemonize no",
                Ready::Tcp(6379),
            ),
            (
                Side::Here,
                "unit memcached.service /usr/share/memcached/scripts/systemd-memcached-wrapper /etc/memcached.conf",
                Ready::Tcp(11211),
            ),
            (Side::Here, "unit mosquitto.service mosquitto -c /etc/mosquitto/mosquitto.conf", Ready::Tcp(1883)),
            (Side::Here, "unit unbound.service unbound -d -p", Ready::Udp(53)),
            (
                Side::Here,
                "unit snmpd.service snmpd -LOw -u Debian-snmp -g Debian-snmp -I -smux,mteTrigger,mteTriggerConf -f",
                Ready::Udp(161),
            ),
            (
                Side::Here,
                "unit dbus.service dbus-daemon --system --nofork --nopidfile",
                Ready::File("/run/dbus/system_bus_socket"),
            ),
        ],
    },
    Host {
        name: "good-desktop",
        what: "A desk: message buses, mDNS, printing, a display, an agent with keys, a lease from the router, and \
            a browser with pages open.",
        needs: &[
            Root,
            Tool("dbus-daemon"),
            Tool("avahi-daemon"),
            Tool("cupsd"),
            Tool("Xvfb"),
            Tool("ssh-agent"),
            Tool("busybox"),
            Tool("nc.openbsd"),
            File("/usr/lib/chromium/chromium-headless-shell"),
        ],
        prepare: "install -d -o messagebus /run/dbus; useradd --no-create-home --uid 4242 alice
            install -d -o alice /run/user/4242 /srv/alice; mkfifo -m 666 /tmp/quiet",
        programs: &[
            (
                Side::Here,
                "unit dbus.service dbus-daemon --system --nofork --nopidfile",
                Ready::File("/run/dbus/system_bus_socket"),
            ),
            (Side::Here, "unit avahi-daemon.service avahi-daemon", Ready::Udp(5353)),
            (Side::Here, "unit cups.service cupsd -l", Ready::Tcp(631)),
            (Side::Here, "Xvfb :0 -nolisten tcp", Ready::File("/tmp/.X11-unix/X0")),
            (Side::Here, "unit ifup@eth0.service busybox udhcpc -f -i eth0 -s /bin/true", Ready::Asked),
            (
                Side::Here,
                "setpriv --reuid=alice --regid=alice --clear-groups \
                 dbus-daemon --session --nofork --nopidfile --address=unix:path=/run/user/4242/bus",
                Ready::File("/run/user/4242/bus"),
            ),
            (
                Side::Here,
                "setpriv --reuid=alice --regid=alice --clear-groups ssh-agent -D -a /run/user/4242/agent",
                Ready::File("/run/user/4242/agent"),
            ),
            (Side::There, "nc.openbsd -l -k -p 443", Ready::Tcp(443)),
            (
                Side::Here,
                "cd /srv/alice; HOME=/srv/alice exec setpriv --reuid=alice --regid=alice --clear-groups \
                 /usr/lib/chromium/chromium-headless-shell --no-sandbox --remote-debugging-pipe \
                 --user-data-dir=/srv/alice/profile https://10.77.0.254/ 3<>/tmp/quiet 4>/dev/null",
                Ready::File("/srv/alice/profile"),
            ),
        ],
    },
    Host {
        name: "good-containers",
        what: "A host of containers: the engine on its UNIX socket, and a port that is published to the host alone.",
        needs: &[Root, Tool("sshd"), Tool("dockerd"), Tool("containerd"), Tool("docker-proxy")],
        prepare: "mkdir -p /run/sshd; groupadd -f docker",
        programs: &[
            (Side::Here, "unit ssh.service /usr/sbin/sshd -D", Ready::Tcp(22)),
            (
                Side::Here,
                "unit docker.service dockerd -H unix:///run/docker.sock --data-root /var/lib/docker \
                 --exec-root /run/docker --pidfile /run/docker.pid --bridge=none --iptables=false \
                 --storage-driver=vfs",
                Ready::File("/run/docker.sock"),
            ),
            (
                Side::Here,
                "unit docker.service docker-proxy -proto tcp -host-ip 127.0.0.1 -host-port 8080 \
                 -container-ip 172.17.0.2 -container-port 80 3>/dev/null",
                Ready::Tcp(8080),
            ),
        ],
    },
    Host {
        name: "good-developer",
        what: "A developer's machine: databases, dev servers, a notebook, language servers and a tunnel, all on \
            loopback. The dev server and the language servers are stand-ins in a few lines of Node.js.",
        needs: &[
            Root,
            Tool("sshd"),
            Tool("ssh"),
            Tool("ssh-keygen"),
            Tool("node"),
            Tool("python3"),
            Tool("jupyter-notebook"),
            Tool("redis-server"),
            Tool("pg_ctlcluster"),
        ],
        prepare: "mkdir -p /run/sshd /srv/dev/node_modules/.bin /srv/dev/typescript-language-server/lib
            useradd --no-create-home --uid 4242 dev
            ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/try
            printf 'AuthorizedKeysFile /etc/ssh/try.pub\\n' > /etc/ssh/sshd_config.d/60-try.conf
            echo 'require(\"http\").createServer().listen(5173, \"127.0.0.1\")' > /srv/dev/node_modules/.bin/vite
            echo 'require(\"net\").createServer().listen(43117, \"127.0.0.1\")' \
            > /srv/dev/typescript-language-server/lib/cli.mjs.js
            chown -R dev: /srv/dev; install -d -o postgres -g postgres /run/postgresql",
        programs: &[
            (Side::Here, "unit ssh.service /usr/sbin/sshd -D", Ready::Tcp(22)),
            (
                Side::Here,
                "unit redis-server.service redis-server /etc/redis/redis.conf --supervised no --daemonize no",
                Ready::Tcp(6379),
            ),
            (
                Side::Here,
                "set -- $(pg_lsclusters -h)
                exec unit postgresql@$1-$2.service pg_ctlcluster $1 $2 start --foreground",
                Ready::Tcp(5432),
            ),
            (
                Side::Here,
                "cd /srv/dev; exec setpriv --reuid=dev --regid=dev --clear-groups node node_modules/.bin/vite",
                Ready::Tcp(5173),
            ),
            (
                Side::Here,
                "setpriv --reuid=dev --regid=dev --clear-groups \
                 node /srv/dev/typescript-language-server/lib/cli.mjs.js",
                Ready::Tcp(43117),
            ),
            (
                Side::Here,
                "setpriv --reuid=dev --regid=dev --clear-groups \
                 python3 -m http.server --bind 127.0.0.1 --directory /srv/dev 8000",
                Ready::Tcp(8000),
            ),
            (
                Side::Here,
                "cd /srv/dev; HOME=/srv/dev exec setpriv --reuid=dev --regid=dev --clear-groups jupyter-notebook --no-browser --port=8888",
                Ready::Tcp(8888),
            ),
            (
                Side::Here,
                "ssh -N -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -i /etc/ssh/try \
                 -L 127.0.0.1:15432:127.0.0.1:5432 root@127.0.0.1",
                Ready::Tcp(15432),
            ),
        ],
    },
];
