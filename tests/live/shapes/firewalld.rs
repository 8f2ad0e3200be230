//! Debian's firewalld on a message bus of its own, by both of its backends.

use std::process::Command;
use std::time::Duration;

use sockwarden::firewall::suggest::remedies;
use sockwarden::model::sample::Sample;
use sockwarden::model::{FrontEnd, Reach};

use super::scene::{Scene, Shape, own_folders};
use crate::lab::{Need, Outcome, Stop, ensure, output};
use crate::reach::Kind;

pub(super) const NEEDS: &[Need] =
    &[Need::Root, Need::Tool("ip"), Need::Tool("nft"), Need::Tool("firewalld"), Need::Tool("dbus-daemon")];

macro_rules! profile {
    ($name:literal, $backend:literal, $slow:literal, $settled:literal, $commands:literal) => {
        Shape {
            name: $name,
            how: concat!(
                "Debian 12's firewalld 1.3.3, FirewallBackend=",
                $backend,
                ":\n```",
                $commands,
                "```"
            ),
            needs: NEEDS,
            slow: $slow,
            doubt: &[],
            settled: $settled,
            make: |scene| run(scene, $backend, $commands),
        }
    };
}

pub(super) fn shapes() -> Vec<Shape> {
    vec![
        profile!("firewalld-public", "nftables", false, true, "
            firewall-cmd --zone=public --change-interface=wan0
            firewall-cmd --zone=public --add-service=http
            firewall-cmd --zone=public --add-port=51820/udp
            firewall-cmd --zone=internal --change-interface=lan0
            firewall-cmd --zone=internal --add-service=dns
            "),
        profile!("firewalld-rich", "nftables", true, true, "
            firewall-cmd --zone=drop --change-interface=wan0
            firewall-cmd --zone=drop --add-rich-rule=rule_family=ipv4_source_address=8.8.0.0/16_service_name=https_accept
            firewall-cmd --zone=drop --add-rich-rule=rule_family=ipv6_source_address=2a00::/16_port_port=8080_protocol=tcp_log_prefix=web_accept
            firewall-cmd --zone=drop --add-rich-rule=rule_priority=-5_family=ipv4_source_address=203.0.113.9_reject
            firewall-cmd --zone=drop --add-port=53/udp
            firewall-cmd --zone=trusted --add-source=192.168.7.0/24
            firewall-cmd --zone=home --add-source=fd07::/64
            firewall-cmd --zone=home --add-masquerade
            firewall-cmd --set-log-denied=all
            "),
        profile!("firewalld-forward-port", "nftables", true, true, "
            firewall-cmd --zone=external --change-interface=wan0
            firewall-cmd --zone=external --add-forward-port=port=8888:proto=tcp:toport=80
            firewall-cmd --zone=external --add-forward-port=port=5300:proto=udp:toport=53
            firewall-cmd --zone=internal --change-interface=lan0
            firewall-cmd --zone=internal --add-port=8000-9000/tcp
            firewall-cmd --zone=internal --set-target=ACCEPT --permanent
            "),
        profile!("firewalld-iptables", "iptables", true, true, "
            firewall-cmd --zone=public --change-interface=wan0
            firewall-cmd --zone=public --add-service=http
            firewall-cmd --zone=public --add-rich-rule=rule_family=ipv4_source_address=8.8.8.8_port_port=8080_protocol=tcp_accept
            firewall-cmd --zone=internal --change-interface=lan0
            firewall-cmd --zone=internal --add-port=10250/tcp
            "),
    ]
}

/// The service itself, with the configuration of its package.
fn begin(scene: &Scene, backend: &str) -> Outcome {
    scene.run(&format!(
        "sed -i s/^FirewallBackend=.*/FirewallBackend={backend}/ /etc/firewalld/firewalld.conf"
    ))?;
    std::fs::create_dir_all("/run/dbus")?;
    scene.start("dbus-daemon --system --nofork --nopidfile")?;
    scene.until("test -S /run/dbus/system_bus_socket")?;
    scene.start("firewalld --nofork --nopid")?;
    scene.until("firewall-cmd --state")
}

/// Underscores stand for the blanks of a rich rule.
fn run(scene: &mut Scene, backend: &str, commands: &str) -> Outcome {
    begin(scene, backend)?;
    for line in commands.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<String> = line
            .split(' ')
            .map(|word| match word.split_once("--add-rich-rule=") {
                Some((_, rule)) => format!("--add-rich-rule={}", rule.replace('_', " ")),
                None => word.to_owned(),
            })
            .collect();
        scene.run_words(&words)?;
    }
    if backend == "nftables" {
        scene.ask_port(1, 8888, &[])?;
        scene.ask_port(8, 5300, &[])?;
    }
    Ok(())
}

/// What is offered where firewalld rules closes the door, and its undo opens it again.
pub(super) fn closes() -> Outcome<String> {
    own_folders()?;
    let scene = Scene::new(&[(Kind::Tcp, "[::]:8080"), (Kind::Tcp, "203.0.113.5:3306")])?;
    begin(&scene, "nftables")?;
    let shell = |line: &str| output(Command::new("sh").args(["-ec", line])).map(|_| ());
    shell(
        "firewall-cmd --permanent --zone=public --add-port=8080/tcp --add-port=3306/tcp; firewall-cmd --reload",
    )?;
    let snapshot = scene.look()?.0;
    let keepers = &snapshot.namespaces[0].front_ends;
    ensure(keepers.contains(&FrontEnd::Firewalld), || format!("firewalld is not among {keepers:?}"))?;
    let mut sample = Sample::new();
    sample.snapshot.namespaces[0].front_ends = keepers.clone();
    sample.listener("[::]:8080", Reach::Internet, &[]).v6only = Some(false);
    sample.listener("203.0.113.5:3306", Reach::Internet, &[]);
    let mut found = remedies(&sample.snapshot, &sample.everything());
    found.retain(|remedy| remedy.kind == "firewall");
    let [remedy] = &found[..] else { return Err(Stop::Fail(format!("not one remedy: {found:?}"))) };
    let doors = [
        ("8.8.8.8", "203.0.113.5", 8080),
        ("2a00::8", "2001:db8:1::5", 8080),
        ("8.8.8.8", "203.0.113.5", 3306),
    ];
    for (lines, open) in [(&[][..], true), (&remedy.commands, false), (&remedy.undo, true)] {
        lines.iter().try_for_each(|line| shell(line))?;
        for (from, to, port) in doors {
            let got_in = scene.town.wan.connect(from, (to, port), Duration::from_millis(1500))?.is_ok();
            ensure(got_in == open, || format!("{from} at {to} port {port} after {lines:?}: {got_in}"))?;
        }
    }
    Ok(format!("{} commands close {} doors", remedy.commands.len(), doors.len()))
}
