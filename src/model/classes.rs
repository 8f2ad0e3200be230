//! Which addresses belong to whom: the classes behind the words of [`Reach`].

use std::sync::LazyLock;

use super::ranges::{Family, Ranges};
use super::{AddrRange, Reach};

/// The classes of one family's addresses. What is in none of them is global; documentation networks
/// (RFC 5737, RFC 3849) count as global, since whoever uses them routes them.
#[derive(Debug)]
pub(crate) struct Classes {
    /// 127.0.0.0/8, ::1 (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3).
    pub(crate) loopback: Ranges,
    /// 169.254.0.0/16, fe80::/10 (RFC 3927, RFC 4291 section 2.5.6).
    pub(crate) link: Ranges,
    /// RFC 1918, shared address space (RFC 6598), unique local (RFC 4193), site-local (RFC 3879).
    pub(crate) private: Ranges,
    pub(crate) multicast: Ranges,
    /// Multicast groups that no router passes on: 224.0.0.0/24 (RFC 5771 section 4), and scopes 1
    /// and 2 with any flags (RFC 4291 section 2.7).
    pub(crate) link_multicast: Ranges,
    /// Scope 1: they never leave the interface.
    pub(crate) interface_multicast: Ranges,
    /// 255.255.255.255
    pub(crate) broadcast: Ranges,
    /// 0.0.0.0/8 (RFC 1122: "this network"), `::`
    pub(crate) unspecified: Ranges,
    /// What never is the source of a packet from outside: the kernel drops it
    /// (`ip_route_input_slow`, `ip6_rcv_core`).
    pub(crate) martian: Ranges,
}

impl Classes {
    pub(crate) fn of(family: Family) -> &'static Self {
        static V4: LazyLock<Classes> = LazyLock::new(v4);
        static V6: LazyLock<Classes> = LazyLock::new(v6);
        match family {
            Family::V4 => &V4,
            Family::V6 => &V6,
        }
    }

    /// Whether some address of `set` is globally routable unicast.
    pub(crate) fn has_global(&self, set: &Ranges) -> bool {
        let special =
            [&self.loopback, &self.link, &self.private, &self.multicast, &self.broadcast, &self.unspecified];
        !special.into_iter().fold(set.clone(), |left, class| left.minus(class)).is_empty()
    }

    /// The widest class of senders that `sources` can be, for a destination that they reach over a
    /// network which does not end on this computer. `translated`: some router gives the private
    /// destination a public address, one to one.
    pub(crate) fn reach(&self, sources: &Ranges, destinations: &Ranges, translated: bool) -> Reach {
        let near = self.link.union(&self.link_multicast).union(&self.broadcast);
        let routed = destinations.minus(&near);
        if routed.is_empty() {
            return Reach::Link;
        }
        let public = self.has_global(&routed) || (translated && routed.meets(&self.private));
        if self.has_global(sources) && public {
            Reach::Internet
        } else if self.has_global(sources) || sources.meets(&self.private) {
            Reach::Lan
        } else {
            Reach::Link
        }
    }
}

fn nets(family: Family, texts: &[&str]) -> Ranges {
    let nets = texts.iter().filter_map(|text| text.parse::<ipnet::IpNet>().ok());
    family.pick(&nets.map(AddrRange::from).collect::<Vec<_>>())
}

fn v4() -> Classes {
    let set = |texts: &[&str]| nets(Family::V4, texts);
    Classes {
        loopback: set(&["127.0.0.0/8"]),
        link: set(&["169.254.0.0/16"]),
        private: set(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"]),
        multicast: set(&["224.0.0.0/4"]),
        link_multicast: set(&["224.0.0.0/24"]),
        interface_multicast: Ranges::default(),
        broadcast: set(&["255.255.255.255/32"]),
        unspecified: set(&["0.0.0.0/8"]),
        martian: set(&["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32"]),
    }
}

fn v6() -> Classes {
    let set = |texts: &[&str]| nets(Family::V6, texts);
    let scoped = |scopes: &[u8]| {
        let each = |&scope: &u8| (0..16).map(move |flags| format!("ff{flags:x}{scope:x}::/16"));
        let texts: Vec<String> = scopes.iter().flat_map(each).collect();
        set(&texts.iter().map(String::as_str).collect::<Vec<_>>())
    };
    Classes {
        loopback: set(&["::1/128"]),
        link: set(&["fe80::/10"]),
        private: set(&["fc00::/7", "fec0::/10"]),
        multicast: set(&["ff00::/8"]),
        link_multicast: scoped(&[1, 2]),
        interface_multicast: scoped(&[1]),
        broadcast: Ranges::default(),
        unspecified: set(&["::/128"]),
        martian: set(&["::1/128", "::ffff:0:0/96", "ff00::/8"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(source: &str, destination: &str, translated: bool) -> Reach {
        let family = if source.contains(':') { Family::V6 } else { Family::V4 };
        let set = |text| nets(family, &[text]);
        Classes::of(family).reach(&set(source), &set(destination), translated)
    }

    #[test]
    fn the_class_follows_source_and_destination() {
        assert_eq!(reach("8.0.0.0/8", "203.0.113.5/32", false), Reach::Internet);
        assert_eq!(reach("8.0.0.0/8", "192.168.1.2/32", false), Reach::Lan);
        assert_eq!(reach("8.0.0.0/8", "10.1.2.3/32", true), Reach::Internet);
        assert_eq!(reach("100.64.0.0/10", "203.0.113.5/32", false), Reach::Lan);
        assert_eq!(reach("169.254.0.0/16", "203.0.113.5/32", false), Reach::Link);
        assert_eq!(reach("::/0", "fe80::1/128", true), Reach::Link);
        assert_eq!(reach("::/0", "2a00::1/128", false), Reach::Internet);
        assert_eq!(reach("::/0", "fd00::1/128", false), Reach::Lan);
        assert_eq!(reach("fc00::/7", "2a00::1/128", false), Reach::Lan);
        assert_eq!(reach("2a00::/16", "ff02::fb/128", false), Reach::Link);
        assert_eq!(reach("2a00::/16", "ff12::fb/128", false), Reach::Link);
    }

    #[test]
    fn every_network_of_the_tables_was_understood() {
        for family in Family::BOTH {
            let classes = Classes::of(family);
            assert!(!classes.has_global(&classes.martian) || family == Family::V6);
            for class in [&classes.loopback, &classes.link, &classes.private, &classes.multicast] {
                assert!(!class.is_empty());
            }
        }
        assert_eq!(
            Classes::of(Family::V6).link_multicast.minus(&nets(Family::V6, &["ff00::/8"])),
            Ranges::default()
        );
        assert!(Classes::of(Family::V4).has_global(&Family::V4.all()));
    }
}
