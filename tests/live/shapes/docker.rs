//! A real Docker engine with published ports, the network plugin of podman, and libvirt's network.

use super::scene::{Scene, Shape};
use crate::lab::{Need, Netns, Outcome};
use crate::reach::Kind;

const NEEDS: &[Need] = &[
    Need::Root,
    Need::Tool("ip"),
    Need::Tool("iptables"),
    Need::Tool("dockerd"),
    Need::Tool("docker"),
    Need::Tool("busybox"),
];
const WITH_UFW: &[Need] = &[
    Need::Root,
    Need::Tool("ip"),
    Need::Tool("ufw"),
    Need::Tool("dockerd"),
    Need::Tool("docker"),
    Need::Tool("busybox"),
];
const NETAVARK: &[Need] =
    &[Need::Root, Need::Tool("ip"), Need::Tool("iptables"), Need::File("/usr/lib/podman/netavark")];
const LIBVIRT: &[Need] = &[
    Need::Root,
    Need::Tool("ip"),
    Need::Tool("iptables"),
    Need::Tool("libvirtd"),
    Need::Tool("virsh"),
    Need::Tool("dnsmasq"),
    Need::File("/etc/libvirt/qemu/networks/default.xml"),
];

pub(super) fn shapes() -> Vec<Shape> {
    let shape =
        |name, slow, needs, how, make| Shape { name, how, needs, slow, doubt: &[], settled: true, make };
    vec![
        shape(
            "docker-published",
            false,
            NEEDS,
            "Docker 20.10.24 of Debian 12: ports published everywhere, at one address and at loopback; IPv6 by docker-proxy.",
            |scene| published(scene, "{\"ip6tables\": false}", ""),
        ),
        shape("docker-ipv6", true, NEEDS, "Docker 20.10.24 with IPv6 of its own and ip6tables.", |scene| {
            let settings = "{\"ipv6\": true, \"fixed-cidr-v6\": \"fd17::/64\", \"ip6tables\": true, \"experimental\": true}";
            published(scene, settings, "")
        }),
        shape(
            "docker-without-proxy",
            true,
            NEEDS,
            "Docker 20.10.24 with userland-proxy off, over iptables-legacy.",
            |scene| {
                scene.run_all(
                    "update-alternatives --set iptables /usr/sbin/iptables-legacy
                     update-alternatives --set ip6tables /usr/sbin/ip6tables-legacy",
                )?;
                published(scene, "{\"userland-proxy\": false}", "")
            },
        ),
        shape(
            "docker-user-drops",
            true,
            NEEDS,
            "Docker 20.10.24 with drops in DOCKER-USER, and a second container in an internal network.",
            |scene| {
                published(
                    scene,
                    "{}",
                    "iptables -I DOCKER-USER -i wan0 ! -s 8.8.8.8 -j DROP
                     iptables -I DOCKER-USER -i lan0 -p tcp -m conntrack --ctorigdstport 8081 --ctdir ORIGINAL -j DROP
                     iptables -A INPUT -p tcp --dport 8081 -j DROP
                     iptables -P INPUT DROP
                     iptables -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
                     iptables -A INPUT -i lo -j ACCEPT",
                )
            },
        ),
        Shape {
            doubt: &[super::ufw::DHCP],
            ..shape(
                "docker-beside-ufw",
                true,
                WITH_UFW,
                "ufw that denies everything incoming and routed but ssh, then Docker 20.10.24 with published ports.",
                |scene| {
                    scene.run_all(
                        "ufw default deny incoming
                     ufw default deny routed
                     ufw allow 22/tcp
                     ufw route deny proto tcp to any port 80
                     ufw --force enable",
                    )?;
                    published(scene, "{}", "")
                },
            )
        },
        shape(
            "netavark",
            false,
            NETAVARK,
            "netavark 1.4.0, podman's network plugin: one published port at every address and one at one address.",
            netavark,
        ),
        shape(
            "libvirt",
            false,
            LIBVIRT,
            "libvirt 9.0.0: its default network without name server, started by virsh.",
            libvirt,
        ),
    ]
}

fn docker(scene: &Scene, words: &str) -> Outcome<String> {
    scene.run(&format!("docker -H unix:///run/docker.sock {words}"))
}

fn published(scene: &mut Scene, settings: &str, afterwards: &str) -> Outcome {
    std::fs::create_dir_all("/etc/docker")?;
    std::fs::write("/etc/docker/daemon.json", settings)?;
    scene.start(
        "dockerd --storage-driver vfs --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent /sockwarden-test \
         --data-root /mnt/docker --exec-root /run/docker -H unix:///run/docker.sock --pidfile /run/docker.pid",
    )?;
    scene.until("docker -H unix:///run/docker.sock version")?;
    scene.run_all(
        "mkdir -p /mnt/image/bin\ncp /bin/busybox /mnt/image/bin/\ntar -C /mnt/image -cf /mnt/image.tar .",
    )?;
    docker(scene, "import /mnt/image.tar box")?;
    docker(
        scene,
        "run -d --name web -p 8081:80 -p 5300:53/udp -p 127.0.0.1:8082:81 -p 192.168.7.1:8083:82 box /bin/busybox sleep 1000",
    )?;
    let pid = docker(scene, "inspect -f {{.State.Pid}} web")?;
    let address = docker(scene, "inspect -f {{.NetworkSettings.IPAddress}} web")?;
    let place = scene.place(format!("/proc/{}/ns/net", pid.trim()))?;
    scene.sender(place, "docker0", address.trim())?;
    let web = scene.listen(place, Kind::Tcp, "[::]:80")?;
    scene.ask_port(web, 8081, &[])?;
    scene.ask_port(web, 80, &[address.trim()])?;
    let names = scene.listen(place, Kind::Udp, "0.0.0.0:53")?;
    scene.ask_port(names, 5300, &[])?;
    for (inner, outer) in [("0.0.0.0:81", 8082), ("0.0.0.0:82", 8083)] {
        let listener = scene.listen(place, Kind::Tcp, inner)?;
        scene.ask_port(listener, outer, &[])?;
    }
    let hidden = scene.listen(place, Kind::Tcp, "0.0.0.0:9000")?;
    scene.ask_port(hidden, 9000, &[address.trim()])?;
    if !settings.contains("\"userland-proxy\": false") {
        for (kind, at, behind, port) in [
            (Kind::Tcp, "0.0.0.0:8081", web, 8081),
            (Kind::Tcp, "[::]:8081", web, 8081),
            (Kind::Tcp, "127.0.0.1:8082", web + 2, 8082),
            (Kind::Tcp, "192.168.7.1:8083", web + 3, 8083),
            (Kind::Udp, "0.0.0.0:5300", names, 5300),
        ] {
            let proxy = scene.proxy(kind, at, behind)?;
            scene.ask_port(proxy, port, &[])?;
        }
    }
    if afterwards.contains("DOCKER-USER") {
        docker(scene, "network create --internal backend")?;
        docker(scene, "run -d --name db --network backend -p 5433:5432 box /bin/busybox sleep 1000")?;
        let pid = docker(scene, "inspect -f {{.State.Pid}} db")?;
        let place = scene.place(format!("/proc/{}/ns/net", pid.trim()))?;
        let database = scene.listen(place, Kind::Tcp, "0.0.0.0:5432")?;
        scene.ask_port(database, 5433, &[])?;
        scene.ask_port(database, 5432, &["172.18.0.2"])?;
    }
    scene.run_all(afterwards)?;
    scene.at_end("docker -H unix:///run/docker.sock rm -f web db");
    scene.at_end("find /sys/fs/cgroup -depth -path */sockwarden-test* -type d -exec rmdir {} ;");
    Ok(())
}

fn netavark(scene: &mut Scene) -> Outcome {
    let pod = Netns::named("pod")?;
    scene.feed(
        &["/usr/lib/podman/netavark", "setup", "/run/netns/pod"],
        r#"{"container_id": "2d0fe608dc86d7ba65dcec724a335b618328f08daa62afd2ee7fa9d41f74e5a9", "container_name": "web",
            "networks": {"podman": {"static_ips": ["10.88.0.2"], "interface_name": "eth0"}},
            "network_info": {"podman": {"name": "podman",
                "id": "53ce4390f2adb1681eb1a90ec8b48c49c015e0a8d336c197637e7f65e365fa9e", "driver": "bridge",
                "network_interface": "podman0", "subnets": [{"subnet": "10.88.0.0/16", "gateway": "10.88.0.1"}],
                "ipv6_enabled": false, "internal": false, "dns_enabled": false,
                "ipam_options": {"driver": "host-local"}}},
            "port_mappings": [
                {"container_port": 80, "host_ip": "", "host_port": 8081, "protocol": "tcp", "range": 1},
                {"container_port": 53, "host_ip": "203.0.113.5", "host_port": 5300, "protocol": "udp", "range": 1}]}"#,
    )?;
    let place = scene.place(pod.path())?;
    scene.keep.push(pod);
    scene.sender(place, "podman0", "10.88.0.2")?;
    let web = scene.listen(place, Kind::Tcp, "[::]:80")?;
    scene.ask_port(web, 8081, &[])?;
    scene.ask_port(web, 80, &["10.88.0.2"])?;
    let names = scene.listen(place, Kind::Udp, "0.0.0.0:53")?;
    scene.ask_port(names, 5300, &[])
}

fn libvirt(scene: &mut Scene) -> Outcome {
    // The users that libvirt-daemon-system would make.
    for (file, line) in [
        ("/etc/passwd", "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin\n"),
        ("/etc/group", "libvirt-qemu:x:64055:\nlibvirt:x:64056:\nkvm:x:64057:\n"),
    ] {
        let text = std::fs::read_to_string(file)?;
        std::fs::write(file, format!("{text}{line}"))?;
    }
    // The host has a name server already.
    scene.run("sed -i s|<forward|<dns_enable=\"no\"/><forward|;s|dns_enable|dns\\x20enable| /etc/libvirt/qemu/networks/default.xml")?;
    scene.start("libvirtd -p /run/libvirtd.pid")?;
    scene.until("virsh -c network:///system net-list")?;
    scene.run("virsh -c network:///system net-start default")?;
    // A guest: a namespace on the bridge.
    let guest = Netns::named("guest")?;
    scene.run_all(
        "ip link add vnet0 type veth peer name eth0 netns guest
         ip link set vnet0 master virbr0
         ip link set vnet0 up
         ip -n guest link set eth0 up
         ip -n guest addr add 192.168.122.7/24 dev eth0
         ip -n guest route add default via 192.168.122.1",
    )?;
    let place = scene.place(guest.path())?;
    scene.keep.push(guest);
    scene.sender(place, "virbr0", "192.168.122.7")?;
    let web = scene.listen(place, Kind::Tcp, "0.0.0.0:80")?;
    scene.town.lan.ip("route replace 192.168.122.0/24 via 192.168.7.1")?;
    scene.ask_port(web, 80, &["192.168.122.7"])?;
    // The bridge learns for some seconds before it forwards.
    scene.until("ping -c 1 -W 1 192.168.122.7")
}
