//! Programs of a good machine, set up as Debian ships them.

use super::case::{Helper, Ready, Side};
use crate::lab::Need::{self, Root, Tool};

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
