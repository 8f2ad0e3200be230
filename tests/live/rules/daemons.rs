//! Daemons of Debian's packages, started as their units start them.

use super::case::{Case, Fix, LAN, Ready};
use crate::lab::Need::{File, Root, Tool};

pub(super) const ALL: &[Case] = &[
    Case {
        name: "samba",
        rule: "smb-reachable",
        needs: &[Root, Tool("smbd")],
        severity: "medium",
        prepare: SAMBA,
        start: "smbd --foreground --no-process-group",
        ready: Ready::Tcp(445),
        fix: Fix::Service("smbd"),
        ..LAN
    },
    Case {
        name: "samba_on_its_old_port",
        rule: "netbios-ssn-reachable",
        needs: &[Root, Tool("smbd")],
        severity: "medium",
        prepare: SAMBA,
        start: "smbd --foreground --no-process-group",
        ready: Ready::Tcp(139),
        fix: Fix::Service("smbd"),
        fixed: &[Ready::Tcp(445)],
        ..LAN
    },
    Case {
        name: "netbios_names",
        rule: "netbios-ns-reachable",
        needs: &[Root, Tool("nmbd")],
        severity: "medium",
        prepare: SAMBA,
        start: "nmbd --foreground --no-process-group",
        ready: Ready::Udp(137),
        fix: Fix::Stopped("--now nmbd"),
        ..LAN
    },
    Case {
        name: "cups_shares_printers",
        rule: "cups-reachable",
        needs: &[Root, Tool("cupsd"), Tool("cupsctl")],
        severity: "medium",
        prepare: "sed -i 's/^Listen localhost:631/Port 631/' /etc/cups/cupsd.conf",
        start: "cupsd -f",
        ready: Ready::Tcp(631),
        fix: Fix::Commands,
        ..LAN
    },
    Case {
        name: "squid",
        rule: "squid-reachable",
        needs: &[Root, Tool("squid")],
        severity: "medium",
        prepare: "install -d -o proxy -g proxy /run/squid",
        start: "squid --foreground -sYC",
        ready: Ready::Tcp(3128),
        fix: Fix::Service("squid"),
        ..LAN
    },
    Case {
        name: "microsocks",
        rule: "socks-proxy-reachable",
        needs: &[Root, Tool("microsocks")],
        severity: "medium",
        start: "microsocks -p 1080",
        ready: Ready::Tcp(1080),
        fix: Fix::Option { said: "microsocks: -i 127.0.0.1", start: "microsocks -i 127.0.0.1 -p 1080" },
        ..LAN
    },
    Case {
        name: "tinyproxy",
        rule: "tinyproxy-reachable",
        needs: &[Root, Tool("tinyproxy")],
        severity: "medium",
        prepare: "install -d -o tinyproxy -g tinyproxy /run/tinyproxy",
        start: "tinyproxy -d",
        ready: Ready::Tcp(8888),
        fix: Fix::Service("tinyproxy"),
        ..LAN
    },
    Case {
        name: "privoxy",
        rule: "privoxy-reachable",
        needs: &[Root, Tool("privoxy")],
        severity: "medium",
        prepare: "sed -i 's/^listen-address  127.0.0.1:8118/listen-address  0.0.0.0:8118/' /etc/privoxy/config",
        start: "privoxy --no-daemon --user privoxy /etc/privoxy/config",
        ready: Ready::Tcp(8118),
        fix: Fix::Service("privoxy"),
        ..LAN
    },
    Case {
        name: "xrdp",
        rule: "rdp-reachable",
        needs: &[Root, Tool("xrdp")],
        severity: "medium",
        prepare: "install -d -o xrdp -g xrdp /run/xrdp",
        start: "xrdp --nodaemon",
        ready: Ready::Tcp(3389),
        fix: Fix::Service("xrdp"),
        ..LAN
    },
    Case {
        name: "xrdp_session_manager",
        rule: "xrdp-sesman-reachable",
        needs: &[Root, Tool("xrdp-sesman")],
        severity: "medium",
        prepare: "install -d -o xrdp -g xrdp /run/xrdp
            sed -i 's/^ListenAddress=.*/ListenAddress=0.0.0.0/' /etc/xrdp/sesman.ini",
        start: "xrdp-sesman --nodaemon",
        ready: Ready::Tcp(3350),
        fix: Fix::Service("xrdp-sesman"),
        ..LAN
    },
    Case {
        name: "distcc",
        rule: "distcc-reachable",
        needs: &[Root, Tool("distccd")],
        severity: "high",
        prepare: "sed -i 's/^LISTENER=.*/LISTENER=\"\"/' /etc/default/distcc",
        start: ". /etc/default/distcc
            exec distccd --no-detach --log-stderr --user distccd --allow \"$ALLOWEDNETS\" ${LISTENER:+--listen \"$LISTENER\"}",
        ready: Ready::Tcp(3632),
        fix: Fix::Service("distcc"),
        ..LAN
    },
    Case {
        name: "beanstalkd",
        rule: "beanstalkd-reachable",
        needs: &[Root, Tool("beanstalkd")],
        severity: "high",
        prepare: "sed -i 's/^BEANSTALKD_LISTEN_ADDR=.*/BEANSTALKD_LISTEN_ADDR=0.0.0.0/' /etc/default/beanstalkd",
        start: ". /etc/default/beanstalkd
            exec beanstalkd -l $BEANSTALKD_LISTEN_ADDR -p $BEANSTALKD_LISTEN_PORT",
        ready: Ready::Tcp(11300),
        fix: Fix::Service("beanstalkd"),
        ..LAN
    },
    Case {
        name: "gearman",
        rule: "gearman-reachable",
        needs: &[Root, Tool("gearmand")],
        severity: "high",
        prepare: "sed -i 's/--listen=localhost/--listen=0.0.0.0/' /etc/default/gearman-job-server",
        start: "set -e; . /etc/default/gearman-job-server
            exec gearmand $(printf %s \"$PARAMS\" | sed 's/--daemon//; s/--log-file=[^ ]*/--log-file=stderr/')",
        ready: Ready::Tcp(4730),
        fix: Fix::Service("gearman-job-server"),
        ..LAN
    },
    Case {
        name: "icecast",
        rule: "icecast-reachable",
        needs: &[Root, Tool("icecast2")],
        severity: "low",
        prepare: "install -d -o icecast2 -g icecast /var/log/icecast2",
        start: "setpriv --reuid=icecast2 --regid=icecast --clear-groups icecast2 -c /etc/icecast2/icecast.xml",
        ready: Ready::Tcp(8000),
        fix: Fix::Service("icecast2"),
        ..LAN
    },
    Case {
        name: "gpsd_for_all",
        rule: "gpsd-reachable",
        needs: &[Root, Tool("gpsd")],
        severity: "low",
        start: "gpsd -N -G udp://127.0.0.1:2946",
        ready: Ready::Tcp(2947),
        fix: Fix::Option { said: "take -G out of GPSD_OPTIONS", start: "gpsd -N udp://127.0.0.1:2946" },
        ..LAN
    },
    Case {
        name: "minidlna",
        rule: "minidlna-reachable",
        needs: &[Root, Tool("minidlnad")],
        severity: "low",
        prepare: "install -d -o minidlna -g minidlna /run/minidlna /var/cache/minidlna /var/log/minidlna",
        start: "setpriv --reuid=minidlna --regid=minidlna --clear-groups \
            minidlnad -f /etc/minidlna.conf -P /run/minidlna/minidlna.pid -S",
        ready: Ready::Tcp(8200),
        fix: Fix::Stopped("--now minidlna"),
        ..LAN
    },
    Case {
        name: "disks_over_the_network",
        rule: "nbd-reachable",
        needs: &[Root, Tool("nbd-server")],
        severity: "high",
        prepare: "truncate -s 1M /srv/disk; chmod 666 /srv/disk; mkdir -p /run/nbd-server
            printf '[disk]\\nexportname = /srv/disk\\n' > /etc/nbd-server/conf.d/disk.conf",
        start: "nbd-server -d -C /etc/nbd-server/config",
        ready: Ready::Tcp(10809),
        fix: Fix::Service("nbd-server"),
        ..LAN
    },
    Case {
        name: "ldap",
        rule: "ldap-reachable",
        needs: &[Root, Tool("slapd")],
        severity: "medium",
        prepare: "install -d -o openldap -g openldap /run/slapd",
        start: ". /etc/default/slapd
            exec slapd -h \"$SLAPD_SERVICES\" -u openldap -g openldap -F /etc/ldap/slapd.d -d 0",
        ready: Ready::Tcp(389),
        fix: Fix::Service("slapd"),
        ..LAN
    },
    Case {
        name: "dovecot",
        rule: "imap-reachable",
        needs: &[Root, Tool("dovecot"), File("/usr/lib/dovecot/imap-login")],
        severity: "low",
        start: "dovecot -F",
        ready: Ready::Tcp(143),
        fix: Fix::Service("dovecot"),
        ..LAN
    },
    Case {
        name: "darkstat",
        rule: "darkstat-reachable",
        needs: &[Root, Tool("darkstat")],
        severity: "low",
        start: ". /etc/darkstat/init.cfg; exec darkstat --no-daemon $INTERFACE $BINDIP",
        ready: Ready::Tcp(667),
        fix: Fix::Service("darkstat"),
        ..LAN
    },
    Case {
        name: "nrpe",
        rule: "nrpe-reachable",
        needs: &[Root, Tool("nrpe")],
        severity: "medium",
        start: "nrpe -c /etc/nagios/nrpe.cfg -f",
        ready: Ready::Tcp(5666),
        fix: Fix::Service("nagios-nrpe-server"),
        ..LAN
    },
    Case {
        name: "iperf3",
        rule: "iperf-reachable",
        needs: &[Root, Tool("iperf3")],
        severity: "low",
        start: "iperf3 --server --interval 0",
        ready: Ready::Tcp(5201),
        fix: Fix::Stopped("--now iperf3"),
        ..LAN
    },
    Case {
        name: "munin_node",
        rule: "munin-node-reachable",
        needs: &[Root, Tool("munin-node")],
        severity: "low",
        prepare: "install -d -o munin -g munin /run/munin /var/log/munin",
        start: "munin-node --foreground",
        ready: Ready::Tcp(4949),
        fix: Fix::Service("munin-node"),
        ..LAN
    },
    Case {
        name: "node_exporter",
        rule: "node-exporter-reachable",
        needs: &[Root, Tool("prometheus-node-exporter")],
        severity: "low",
        start: ". /etc/default/prometheus-node-exporter; exec prometheus-node-exporter $ARGS",
        ready: Ready::Tcp(9100),
        fix: Fix::Service("prometheus-node-exporter"),
        ..LAN
    },
    Case {
        name: "gkrellmd",
        rule: "gkrellmd-reachable",
        needs: &[Root, Tool("gkrellmd")],
        severity: "low",
        prepare: "sed -i '/^detach/d' /etc/gkrellmd.conf",
        start: "gkrellmd",
        ready: Ready::Tcp(19150),
        fix: Fix::Service("gkrellmd"),
        ..LAN
    },
    Case {
        name: "oidentd",
        rule: "ident-reachable",
        needs: &[Root, Tool("oidentd")],
        severity: "low",
        start: "oidentd -i -mf -l 10 -u oident -g oident",
        ready: Ready::Tcp(113),
        fix: Fix::Stopped("--now oidentd.socket oidentd.service"),
        ..LAN
    },
    Case {
        name: "ngircd",
        rule: "irc-server-reachable",
        needs: &[Root, Tool("ngircd")],
        severity: "low",
        prepare: "install -d -o irc -g irc /run/ngircd",
        start: "ngircd --nodaemon",
        ready: Ready::Tcp(6667),
        fix: Fix::Service("ngircd"),
        ..LAN
    },
    Case {
        name: "pgbouncer",
        rule: "pgbouncer-reachable",
        needs: &[Root, Tool("pgbouncer"), Tool("pg_ctlcluster")],
        severity: "medium",
        prepare: "sed -i 's/^listen_addr = .*/listen_addr = */' /etc/pgbouncer/pgbouncer.ini
            install -d -o postgres -g postgres /run/postgresql /var/log/postgresql",
        start: "setpriv --reuid=postgres --regid=postgres --clear-groups pgbouncer /etc/pgbouncer/pgbouncer.ini",
        ready: Ready::Tcp(6432),
        fix: Fix::Service("pgbouncer"),
        ..LAN
    },
    Case {
        name: "zabbix_agent",
        rule: "zabbix-agent-reachable",
        needs: &[Root, Tool("zabbix_agentd")],
        severity: "low",
        prepare: "install -d -o zabbix -g zabbix /run/zabbix /var/log/zabbix /var/log/zabbix-agent",
        start: "zabbix_agentd --foreground",
        ready: Ready::Tcp(10050),
        fix: Fix::Service("zabbix-agent"),
        ..LAN
    },
    Case {
        name: "varnish_management",
        rule: "varnish-admin-reachable",
        needs: &[Root, Tool("varnishd")],
        severity: "medium",
        start: "varnishd -F -b none -a 127.0.0.1:6081 -T 0.0.0.0:6082 -S /etc/varnish/secret",
        ready: Ready::Tcp(6082),
        fix: Fix::Option {
            said: "-T 127.0.0.1:6082 -S /etc/varnish/secret",
            start: "varnishd -F -b none -a 127.0.0.1:6081 -T 127.0.0.1:6082 -S /etc/varnish/secret",
        },
        ..LAN
    },
    Case {
        name: "name_server_control",
        rule: "bind-rndc-reachable",
        needs: &[Root, Tool("named"), File("/etc/bind/rndc.key")],
        severity: "medium",
        prepare: "printf 'include \"/etc/bind/rndc.key\";\\n\
            controls { inet * port 953 allow { any; } keys { \"rndc-key\"; }; };\\n' >> /etc/bind/named.conf.local
            install -d -o bind -g bind /run/named",
        start: "named -f -u bind",
        ready: Ready::Tcp(953),
        fix: Fix::Service("named"),
        ..LAN
    },
    Case {
        name: "resolver_control",
        rule: "unbound-control-reachable",
        needs: &[Root, Tool("unbound")],
        severity: "high",
        prepare: "printf 'remote-control:\\n  control-enable: yes\\n  control-interface: 0.0.0.0\\n  control-use-cert: no\\n' \
            > /etc/unbound/unbound.conf.d/remote-control.conf; rm /etc/unbound/unbound.conf.d/root-*",
        start: "unbound -d -p",
        ready: Ready::Tcp(8953),
        fix: Fix::Service("unbound"),
        fixed: &[Ready::File("/run/unbound.ctl")],
        ..LAN
    },
    Case {
        name: "aria2",
        rule: "aria2-rpc-reachable",
        needs: &[Root, Tool("aria2c")],
        severity: "high",
        start: "aria2c --enable-rpc --rpc-listen-all",
        ready: Ready::Tcp(6800),
        fix: Fix::Again(""),
        ..LAN
    },
    Case {
        name: "git_daemon",
        rule: "git-daemon-reachable",
        needs: &[Root, Tool("git")],
        severity: "low",
        start: "git daemon --base-path=/srv --export-all --reuseaddr",
        ready: Ready::Tcp(9418),
        fix: Fix::Option {
            said: "--listen=127.0.0.1",
            start: "git daemon --base-path=/srv --reuseaddr --listen=127.0.0.1",
        },
        ..LAN
    },
    Case {
        name: "transmission_page",
        rule: "transmission-reachable",
        needs: &[Root, Tool("transmission-daemon")],
        severity: "medium",
        prepare: "sed -i 's/\"rpc-bind-address\": .*/\"rpc-bind-address\": \"0.0.0.0\",/' \
            /etc/transmission-daemon/settings.json",
        start: "transmission-daemon -f -g /etc/transmission-daemon --no-portmap --no-lpd",
        ready: Ready::Tcp(9091),
        fix: Fix::Service("transmission-daemon"),
        ..LAN
    },
    Case {
        name: "dnsmasq_leases",
        rule: "dhcp-server-reachable",
        needs: &[Root, Tool("dnsmasq")],
        severity: "low",
        start: "dnsmasq -k --port=0 --conf-file=/dev/null --dhcp-range=10.77.0.50,10.77.0.60 --leasefile-ro",
        ready: Ready::Udp(67),
        fix: Fix::Option {
            said: "interface= and bind-interfaces",
            start: "ip link add br0 type bridge; ip addr add 10.78.0.1/24 dev br0; ip link set br0 up
                exec dnsmasq -k --port=0 --conf-file=/dev/null --dhcp-range=10.78.0.50,10.78.0.60 --leasefile-ro \
                --interface=br0 --bind-interfaces",
        },
        ..LAN
    },
    Case {
        name: "echo_in_inetd",
        rule: "inetd-small-services-reachable",
        needs: &[Root, Tool("inetutils-inetd"), Tool("update-inetd")],
        severity: "low",
        prepare: SMALL_SERVICES,
        start: "inetutils-inetd -d",
        ready: Ready::Udp(7),
        fix: Fix::Service("inetutils-inetd"),
        fixed: &[Ready::Tcp(37)],
        ..LAN
    },
    Case {
        name: "time_in_inetd",
        rule: "time-protocol-reachable",
        needs: &[Root, Tool("inetutils-inetd"), Tool("update-inetd")],
        severity: "low",
        prepare: SMALL_SERVICES,
        start: "inetutils-inetd -d",
        ready: Ready::Tcp(37),
        fix: Fix::Service("inetutils-inetd"),
        fixed: &[Ready::Udp(7)],
        ..LAN
    },
    Case {
        name: "erlang_port_mapper",
        rule: "epmd-reachable",
        needs: &[Root, Tool("epmd")],
        severity: "low",
        start: "epmd",
        ready: Ready::Tcp(4369),
        fix: Fix::Option {
            said: "ERL_EPMD_ADDRESS=127.0.0.1",
            start: "ERL_EPMD_ADDRESS=127.0.0.1; export ERL_EPMD_ADDRESS; exec epmd",
        },
        ..LAN
    },
    Case {
        name: "mumble",
        rule: "mumble-reachable",
        needs: &[Root, Tool("murmurd")],
        severity: "info",
        prepare: "install -d -o mumble-server -g mumble-server /run/mumble-server /var/log/mumble-server",
        start: "murmurd -fg -ini /etc/mumble-server.ini",
        ready: Ready::Tcp(64738),
        fix: Fix::Service("mumble-server"),
        ..LAN
    },
    Case {
        name: "ssh_server",
        rule: "ssh-server-reachable",
        needs: &[Root, Tool("sshd")],
        severity: "info",
        prepare: "mkdir -p /run/sshd",
        start: "/usr/sbin/sshd -D",
        ready: Ready::Tcp(22),
        fix: Fix::Option { said: "ListenAddress", start: "/usr/sbin/sshd -D -o ListenAddress=127.0.0.1" },
        ..LAN
    },
    Case {
        name: "snmp_sub_agents",
        rule: "agentx-reachable",
        needs: &[Root, Tool("snmpd")],
        severity: "high",
        prepare: "printf 'master agentx\nagentXSocket tcp:0.0.0.0:705\n' >> /etc/snmp/snmpd.conf; mkdir -p /var/agentx",
        start: "snmpd -LOw -u Debian-snmp -g Debian-snmp -I -smux,mteTrigger,mteTriggerConf -f",
        ready: Ready::Tcp(705),
        fix: Fix::Service("snmpd"),
        fixed: &[Ready::Udp(161)],
        ..LAN
    },
    Case {
        name: "netstat_in_inetd",
        rule: "netstat-inetd-reachable",
        needs: &[Root, Tool("inetutils-inetd"), Tool("update-inetd")],
        severity: "low",
        prepare: "printf 'netstat\tstream\ttcp\tnowait\troot\t/bin/ss\tss -a\n\
            time\tstream\ttcp\tnowait\troot\tinternal\n' >> /etc/inetd.conf",
        start: "inetutils-inetd -d",
        ready: Ready::Tcp(15),
        fix: Fix::Service("inetutils-inetd"),
        fixed: &[Ready::Tcp(37)],
        ..LAN
    },
];

const SAMBA: &str = "mkdir -p /run/samba/nmbd /var/log/samba /var/cache/samba";

const SMALL_SERVICES: &str = "printf 'echo\\tdgram\\tudp\\twait\\troot\\tinternal\\n\
    time\\tstream\\ttcp\\tnowait\\troot\\tinternal\\n' >> /etc/inetd.conf";
