//! More behaviours: what hides, what calls out, and what runs beside its unit.

use super::case::{Case, Fix, LAN, Ready, Side};
use super::signs::UNIFIED_GROUPS;
use crate::lab::Need::{File, Root, Tool};

/// A computer with a public address; the one at the other end of the cable has .254.
const PUBLIC: Case = Case { address: "93.184.215.14", ..LAN };

pub(super) const ALL: &[Case] = &[
    Case {
        name: "listener_in_flight",
        rule: "listener-without-owner",
        needs: &[Root, Tool("python3")],
        severity: "high",
        start: "python3 -c \"import socket, time
a, b = socket.socketpair()
s = socket.create_server(('0.0.0.0', 4460))
socket.send_fds(a, [b'x'], [s.fileno()])
s.close()
time.sleep(600)\"",
        ready: Ready::Tcp(4460),
        fix: Fix::Option {
            said: "doctor --cross-check",
            start: "python3 -c \"import socket, time
a, b = socket.socketpair()
s = socket.create_server(('0.0.0.0', 4460))
socket.send_fds(a, [b'x'], [s.fileno()])
s.close()
s = socket.recv_fds(b, 1, 1)
time.sleep(600)\"",
        },
        ..LAN
    },
    // In the place of systemd, which is not here, the program itself keeps to what the drop-in says.
    Case {
        name: "socket_of_a_rare_family",
        rule: "unusual-socket-family",
        needs: &[Root, Tool("python3"), UNIFIED_GROUPS],
        severity: "low",
        start: "mkdir -p $GROUPS_HERE/system.slice/served.service
            echo $$ > $GROUPS_HERE/system.slice/served.service/cgroup.procs
            only=$(sed -n 's/^RestrictAddressFamilies=//p' /etc/systemd/system/served.service.d/*.conf)
            exec python3 -c 'import socket, sys, time
if \"AF_VSOCK\" in (sys.argv[1] or \"AF_VSOCK\"):
    s = socket.socket(socket.AF_VSOCK)
    s.bind((socket.VMADDR_CID_ANY, 4460))
    s.listen()
time.sleep(600)' \"$only\"",
        fix: Fix::Service("served.service"),
        ..LAN
    },
    // Debian has none of the tunnels: a stand-in under the name of one.
    Case {
        name: "tunnel",
        rule: "tunnel-publishes-service",
        needs: &[Root, Tool("socat"), Tool("nc.openbsd")],
        severity: "medium",
        prepare: "cp /usr/bin/socat /opt/ngrok",
        before: &[(Side::There, "nc.openbsd -l -k -p 443", Ready::Tcp(443))],
        start: "/opt/ngrok TCP:10.77.0.254:443 PIPE",
        ..LAN
    },
    Case {
        name: "script_calls_a_handlers_port",
        rule: "callback-port-connection",
        needs: &[Root, Tool("python3"), Tool("nc.openbsd")],
        severity: "medium",
        before: &[(Side::There, "nc.openbsd -l -k -p 4444", Ready::Tcp(4444))],
        start: "python3 -c \"import socket
socket.create_connection(('93.184.215.254', 4444)).recv(1)\"",
        ..PUBLIC
    },
    Case {
        name: "ftp_across_the_internet",
        rule: "clear-text-connection",
        needs: &[Root, Tool("nc.openbsd")],
        severity: "medium",
        before: &[
            (Side::There, "nc.openbsd -l -k -p 21", Ready::Tcp(21)),
            (Side::There, "nc.openbsd -l -k -p 22", Ready::Tcp(22)),
        ],
        start: "nc.openbsd 93.184.215.254 21",
        fix: Fix::Option { said: "sftp for ftp", start: "nc.openbsd 93.184.215.254 22" },
        ..PUBLIC
    },
    // What IPAddressDeny= does for a unit, a packet filter does here for the user.
    Case {
        name: "database_calls_out",
        rule: "database-user-connects-out",
        needs: &[Root, Tool("nc.openbsd"), Tool("setpriv"), Tool("nft"), Tool("pg_ctlcluster"), UNIFIED_GROUPS],
        severity: "medium",
        before: &[(Side::There, "nc.openbsd -l -k -p 443", Ready::Tcp(443))],
        start: "mkdir -p $GROUPS_HERE/system.slice/postgresql.service
            echo $$ > $GROUPS_HERE/system.slice/postgresql.service/cgroup.procs
            exec setpriv --reuid=postgres --regid=postgres --clear-groups nc.openbsd 93.184.215.254 443",
        fix: Fix::Option {
            said: "IPAddressDeny=any",
            start: "nft add table inet try
                nft add chain inet try output '{ type filter hook output priority 0; }'
                nft add rule inet try output meta skuid postgres ip daddr != 127.0.0.0/8 reject
                exec setpriv --reuid=postgres --regid=postgres --clear-groups nc.openbsd 93.184.215.254 443",
        },
        ..PUBLIC
    },
    Case {
        name: "disguised_as_a_kernel_thread",
        rule: "kernel-thread-impostor",
        needs: &[Root, Tool("bash"), Tool("nc.openbsd")],
        severity: "critical",
        start: "bash -c 'exec -a \"[kworker/0:1]\" nc.openbsd -l -p 4453'",
        ready: Ready::Tcp(4453),
        ..LAN
    },
    Case {
        name: "name_of_a_database_taken",
        rule: "known-socket-name-taken",
        needs: &[Root, Tool("socat")],
        severity: "high",
        start: "socat UNIX-LISTEN:/tmp/.s.PGSQL.5432,fork PIPE",
        ready: Ready::File("/tmp/.s.PGSQL.5432"),
        ..LAN
    },
    Case {
        name: "program_in_a_hidden_folder",
        rule: "listener-from-hidden-folder",
        needs: &[Root, Tool("nc.openbsd")],
        severity: "medium",
        prepare: "mkdir /root/.x; cp /usr/bin/nc.openbsd /root/.x/d",
        start: "/root/.x/d -l -p 4451",
        ready: Ready::Tcp(4451),
        ..LAN
    },
    // The other end does not forward, so nobody answers.
    Case {
        name: "search_for_open_ports",
        rule: "many-unanswered-connections",
        needs: &[Root, Tool("python3")],
        severity: "medium",
        start: "python3 -c \"import socket, time
made = [socket.socket() for _ in range(60)]
for i, s in enumerate(made):
    s.setblocking(False)
    s.connect_ex(('198.18.0.%d' % (i + 1), 22))
time.sleep(600)\"",
        ..LAN
    },
    Case {
        name: "credentials_of_the_cloud_asked",
        rule: "metadata-service-asked",
        needs: &[Root, Tool("python3"), Tool("nc.openbsd"), Tool("nft"), Tool("setpriv")],
        severity: "medium",
        address: "169.254.169.1",
        before: &[(Side::There, "nc.openbsd -l -k -p 80", Ready::Tcp(80))],
        start: "setpriv --reuid=4242 --regid=4242 --clear-groups python3 -c \"import urllib.request
urllib.request.urlopen('http://169.254.169.254/latest/meta-data/')\"",
        fix: Fix::Refused,
        fixed: &[Ready::Asked],
        ..LAN
    },
    Case {
        name: "miner",
        rule: "miner-connects",
        needs: &[Root, Tool("socat"), Tool("nc.openbsd")],
        severity: "high",
        prepare: "cp /usr/bin/socat /opt/xmrig",
        before: &[(Side::There, "nc.openbsd -l -k -p 3333", Ready::Tcp(3333))],
        start: "/opt/xmrig TCP:10.77.0.254:3333 PIPE",
        ..LAN
    },
    Case {
        name: "router_asked_to_open_ports",
        rule: "port-mapping-asked",
        needs: &[Root, Tool("transmission-daemon")],
        severity: "low",
        start: "transmission-daemon -f -g /tmp/torrents --portmap --no-lpd",
        ready: Ready::Tcp(51413),
        fix: Fix::Option {
            said: "port-forwarding-enabled",
            start: "sed -i 's/\"port-forwarding-enabled\": true/\"port-forwarding-enabled\": false/' \
                /tmp/torrents/settings.json; exec transmission-daemon -f -g /tmp/torrents --no-lpd",
        },
        ..LAN
    },
    Case {
        name: "second_ssh_server",
        rule: "sshd-outside-its-unit",
        needs: &[Root, Tool("sshd"), UNIFIED_GROUPS],
        severity: "high",
        prepare: "mkdir -p /run/sshd",
        start: "mkdir -p $GROUPS_HERE/user.slice/session-3.scope
            echo $$ > $GROUPS_HERE/user.slice/session-3.scope/cgroup.procs
            exec /usr/sbin/sshd -D -p 2022",
        ready: Ready::Tcp(2022),
        ..LAN
    },
    Case {
        name: "shell_opens_a_connection",
        rule: "system-tool-on-network",
        needs: &[Root, Tool("bash"), Tool("nc.openbsd")],
        severity: "high",
        before: &[(Side::There, "nc.openbsd -l -k -p 8443", Ready::Tcp(8443))],
        start: "bash -c 'exec 3<>/dev/tcp/10.77.0.254/8443; read -r -u 3 _'",
        ..LAN
    },
    Case {
        name: "no_package_knows_the_program",
        rule: "unpackaged-root-listener",
        needs: &[Root, Tool("nc.openbsd")],
        severity: "low",
        prepare: "cp /usr/bin/nc.openbsd /var/lib/xd",
        start: "/var/lib/xd -l -p 4452",
        ready: Ready::Tcp(4452),
        ..LAN
    },
    Case {
        name: "web_shell",
        rule: "web-server-child-connects-out",
        needs: &[Root, Tool("apache2"), Tool("a2enmod"), Tool("bash"), Tool("nc.openbsd")],
        severity: "high",
        prepare: "a2enmod -q cgid >/dev/null; mkdir -p /usr/lib/cgi-bin /run/apache2 /var/log/apache2
            mount -t tmpfs none /usr/lib/cgi-bin
            printf '#!/bin/bash\\nexec 3<>/dev/tcp/93.184.215.254/8443; read -r _ <&3\\n' > /usr/lib/cgi-bin/x
            chmod 755 /usr/lib/cgi-bin/x",
        before: &[(Side::There, "nc.openbsd -l -k -p 8443", Ready::Tcp(8443))],
        start: "apache2ctl -DFOREGROUND",
        ready: Ready::Tcp(80),
        after: &[(
            Side::There,
            "exec bash -c 'exec 3<>/dev/tcp/93.184.215.14/80; printf \"GET /cgi-bin/x HTTP/1.0\\r\\n\\r\\n\" >&3; \
             read -r _ <&3'",
            Ready::Asked,
        )],
        ..PUBLIC
    },
    Case {
        name: "socket_of_root_in_tmp",
        rule: "root-socket-in-tmp",
        needs: &[Root, Tool("socat")],
        severity: "low",
        start: "socat UNIX-LISTEN:/tmp/agent.sock,mode=600,fork PIPE",
        ready: Ready::File("/tmp/agent.sock"),
        fix: Fix::Option {
            said: "Move the socket below /run",
            start: "socat UNIX-LISTEN:/run/agent.sock,mode=600,fork PIPE",
        },
        fixed: &[Ready::File("/run/agent.sock")],
        ..LAN
    },
    Case {
        name: "program_with_borrowed_rights",
        rule: "setuid-program-listens",
        needs: &[Root, Tool("socat"), Tool("setpriv"), Tool("useradd")],
        severity: "high",
        prepare: "cp /usr/bin/socat /opt/toolbox; chmod 4755 /opt/toolbox",
        start: "setpriv --reuid=4242 --regid=4242 --clear-groups /opt/toolbox TCP4-LISTEN:9000,reuseaddr,fork PIPE",
        ready: Ready::Tcp(9000),
        fix: Fix::Refused,
        fixed: &[Ready::Tcp(9000)],
        ..LAN
    },
    Case {
        name: "agent_of_a_visitor",
        rule: "ssh-agent-forwarded",
        needs: &[Root, Tool("sshd"), Tool("ssh"), Tool("ssh-agent"), Tool("ssh-keygen")],
        severity: "low",
        prepare: "mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/try
            printf 'AuthorizedKeysFile /etc/ssh/try.pub\\nPermitRootLogin yes\\n' \
            > /etc/ssh/sshd_config.d/60-try.conf",
        start: "/usr/sbin/sshd -D",
        ready: Ready::Tcp(22),
        after: &[(
            Side::Here,
            "ssh-agent ssh -A -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -i /etc/ssh/try \
             root@127.0.0.1 'touch /tmp/in; sleep 600'",
            Ready::File("/tmp/in"),
        )],
        fix: Fix::Service("ssh"),
        ..LAN
    },
    Case {
        name: "message_bus_over_tcp",
        rule: "message-bus-over-tcp",
        needs: &[Root, Tool("dbus-daemon")],
        severity: "critical",
        prepare: "mkdir -p /etc/dbus-1/session.d
            printf '<busconfig><listen>tcp:host=10.77.0.1,port=12434</listen></busconfig>\\n' \
            > /etc/dbus-1/session.d/try.conf",
        start: "dbus-daemon --session --nofork",
        ready: Ready::Tcp(12434),
        fix: Fix::Option {
            said: "/etc/dbus-1 /usr/share/dbus-1",
            start: "rm $(grep -rl '<listen>tcp' /etc/dbus-1); exec dbus-daemon --session --nofork",
        },
        fixed: &[Ready::Asked],
        ..LAN
    },
    // Only the control group tells that a program is of a container: no engine is needed.
    Case {
        name: "container_with_the_network_of_the_host",
        rule: "container-on-host-network",
        needs: &[Root, Tool("socat"), UNIFIED_GROUPS],
        severity: "low",
        start: "of=$GROUPS_HERE/system.slice/docker-$(printf %064d 7).scope; mkdir -p $of; echo $$ > $of/cgroup.procs
            exec socat TCP4-LISTEN:8080,reuseaddr,fork PIPE",
        ready: Ready::Tcp(8080),
        fix: Fix::Option {
            said: "-p 127.0.0.1:8080:8080",
            start: "of=$GROUPS_HERE/system.slice/docker-$(printf %064d 7).scope; echo $$ > $of/cgroup.procs
                exec socat TCP4-LISTEN:8080,reuseaddr,fork,bind=127.0.0.1 PIPE",
        },
        ..LAN
    },
    Case {
        name: "notebook",
        rule: "notebook-reachable",
        needs: &[Root, Tool("jupyter-notebook")],
        severity: "high",
        start: "jupyter-notebook --allow-root --no-browser --ip=0.0.0.0 --port=8888",
        ready: Ready::Tcp(8888),
        fix: Fix::Option {
            said: "--ip=127.0.0.1 --port=8888",
            start: "jupyter-notebook --allow-root --no-browser --ip=127.0.0.1 --port=8888",
        },
        ..LAN
    },
    Case {
        name: "browser_with_a_debugging_port",
        rule: "browser-remote-control",
        needs: &[Root, File("/usr/lib/chromium/chromium-headless-shell")],
        severity: "low",
        start: "/usr/lib/chromium/chromium-headless-shell --no-sandbox --remote-debugging-port=9222 about:blank",
        ready: Ready::Tcp(9222),
        fix: Fix::Option {
            said: "--remote-debugging-pipe",
            start: "mkfifo /tmp/quiet; exec 3<>/tmp/quiet 4>/dev/null
                exec /usr/lib/chromium/chromium-headless-shell --no-sandbox --remote-debugging-pipe about:blank",
        },
        fixed: &[Ready::Asked],
        ..LAN
    },
];
