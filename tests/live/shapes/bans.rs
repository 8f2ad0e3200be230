//! Programs that ban addresses: fail2ban by nftables and by ipset, sshguard.

use super::scene::{Scene, Shape};
use crate::lab::{Need, Outcome};

const FAIL2BAN: &[Need] = &[
    Need::Root,
    Need::Tool("ip"),
    Need::Tool("nft"),
    Need::Tool("iptables"),
    Need::Tool("ipset"),
    Need::Tool("fail2ban-server"),
];
const SSHGUARD: &[Need] =
    &[Need::Root, Need::Tool("ip"), Need::Tool("nft"), Need::File("/usr/libexec/sshguard/sshg-fw-nft-sets")];

pub(super) fn shapes() -> Vec<Shape> {
    let shape =
        |name, needs, settled, how, make| Shape { name, how, needs, slow: false, doubt: &[], settled, make };
    vec![
        shape(
            "fail2ban-nftables",
            FAIL2BAN,
            true,
            "Debian 12's fail2ban 1.0.2, banaction nftables-multiport and nftables-allports; two addresses banned by its client.",
            |scene| fail2ban(scene, "nftables-multiport", "nftables-allports"),
        ),
        shape(
            "fail2ban-ipset",
            FAIL2BAN,
            true,
            "Debian 12's fail2ban 1.0.2, banaction iptables-ipset-proto6 and iptables-multiport; two addresses banned by its client.",
            |scene| fail2ban(scene, "iptables-ipset-proto6", "iptables-multiport"),
        ),
        shape(
            "sshguard",
            SSHGUARD,
            true,
            "Debian 12's sshguard 2.4.2, its nftables backend told to block an address and two networks.",
            sshguard,
        ),
    ]
}

fn fail2ban(scene: &mut Scene, first: &str, second: &str) -> Outcome {
    std::fs::create_dir_all("/run/fail2ban")?;
    scene.run_all("rm -rf /etc/fail2ban/jail.d\ntouch /mnt/auth.log")?;
    std::fs::write(
        "/etc/fail2ban/jail.local",
        format!(
            "[DEFAULT]\nbackend = polling\nbanaction = {first}\nbanaction_allports = {first}\n\
             [sshd]\nenabled = true\nlogpath = /mnt/auth.log\n\
             [nginx-http-auth]\nenabled = true\nlogpath = /mnt/auth.log\nport = http,https,8080\nbanaction = {second}\n"
        ),
    )?;
    scene.start(
        "fail2ban-server -f -x -s /run/fail2ban/f.sock -p /run/fail2ban/f.pid --logtarget /mnt/fail2ban.log",
    )?;
    let client = "fail2ban-client -s /run/fail2ban/f.sock";
    scene.until(&format!("{client} ping"))?;
    for (jail, address) in [
        ("sshd", "203.0.113.9"),
        ("sshd", "2a00::8"),
        ("nginx-http-auth", "8.8.8.8"),
        ("nginx-http-auth", "192.168.7.9"),
        ("nginx-http-auth", "2001:db8:1::9"),
    ] {
        scene.run(&format!("{client} set {jail} banip {address}"))?;
        scene.until(&format!("grep -q {jail}].Ban.{address} /mnt/fail2ban.log"))?;
    }
    // A ban is logged before its action has ended; the next command waits for it.
    scene.run(&format!("{client} set sshd banip 198.51.100.1"))?;
    scene.until("grep -q sshd].Ban.198.51.100.1 /mnt/fail2ban.log")?;
    std::thread::sleep(std::time::Duration::from_millis(700));
    Ok(())
}

fn sshguard(scene: &mut Scene) -> Outcome {
    // What sshg-blocker tells its backend: address, family, prefix length (sshguard(8)). Its tables go
    // when its input ends.
    std::fs::write(
        "/mnt/blocker",
        "(echo block 203.0.113.9 4 32; echo block 8.8.8.0 4 24; echo block 2a00:: 6 64; echo block 192.168.7.9 4 32\n\
         echo release 192.168.7.9 4 32; echo block 198.51.100.1 4 32; sleep 1000) | /usr/libexec/sshguard/sshg-fw-nft-sets\n",
    )?;
    scene.start("sh /mnt/blocker")?;
    scene.until("nft get element ip sshguard attackers { 198.51.100.1 }")
}
