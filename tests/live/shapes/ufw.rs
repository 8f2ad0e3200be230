//! Debian's ufw, run for real in several of its usual profiles.

use super::scene::{Scene, Shape};
use crate::lab::{Need, Outcome};
use crate::reach::Kind;

const NEEDS: &[Need] =
    &[Need::Root, Need::Tool("ip"), Need::Tool("nft"), Need::Tool("ufw"), Need::Tool("iptables")];

/// Answers of DHCP are let in from port 67 alone, which nobody here sends from.
pub(super) const DHCP: (Kind, u16, &str) = (Kind::Udp, 68, "udp sport 67 udp dport 68");

macro_rules! profile {
    ($name:literal, $settled:literal, $doubt:expr, $commands:literal) => {
        Shape {
            name: $name,
            how: concat!("Debian 12's ufw 0.36.2 over iptables-nft 1.8.9:\n```", $commands, "```"),
            needs: NEEDS,
            slow: false,
            doubt: $doubt,
            settled: $settled,
            make: |scene| run(scene, $commands),
        }
    };
}

pub(super) fn shapes() -> Vec<Shape> {
    vec![
        profile!(
            "ufw-default",
            true,
            &[DHCP],
            "
            ufw default deny incoming
            ufw allow ssh
            ufw --force enable
            "
        ),
        profile!(
            "ufw-server",
            true,
            &[(Kind::Tcp, 22, "recent"), DHCP],
            "
            ufw default deny incoming
            ufw limit 22/tcp
            ufw allow 80,443/tcp
            ufw allow from 192.168.7.0/24 to any port 445 proto tcp
            ufw allow from 8.8.0.0/16
            ufw deny from 203.0.113.9 to any port 443
            ufw allow in on lan0 to any port 53
            ufw deny in on wan0 to any port 5353 proto udp
            ufw allow 10000:11000/tcp
            ufw logging medium
            ufw --force enable
            "
        ),
        profile!(
            "ufw-reject",
            true,
            &[DHCP],
            "
            ufw default reject incoming
            ufw default deny outgoing
            ufw allow out to any port 53
            ufw allow OpenSSH
            ufw allow from fd07::/64 to any port 8080 proto tcp
            ufw insert 1 deny from 8.8.8.8
            ufw prepend allow from 2a00::/16 to any port 22 proto tcp
            ufw logging full
            ufw --force enable
            "
        ),
        profile!(
            "ufw-v4-only",
            true,
            &[DHCP],
            "
            sed -i s/^IPV6=.*/IPV6=no/ /etc/default/ufw
            ufw default deny incoming
            ufw allow 22/tcp
            ufw allow 53
            ufw logging off
            ufw --force enable
            "
        ),
        profile!(
            "ufw-open",
            true,
            &[],
            "
            ufw default allow incoming
            ufw deny 3306
            ufw deny in on wan0 to 203.0.113.5 port 8080 proto tcp
            ufw route allow in on lan0 out on wan0
            ufw route deny in on wan0 out on lan0 to any port 80 proto tcp
            ufw default deny routed
            ufw logging high
            ufw --force enable
            "
        ),
    ]
}

fn run(scene: &mut Scene, commands: &str) -> Outcome {
    scene.run_all(commands)
}
