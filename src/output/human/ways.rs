//! Ways in, in the words in which people speak of addresses. What no stranger can be (loopback, this
//! computer's own addresses, broadcasts) is left unsaid; `-v` and JSON name every address.

use std::net::IpAddr;

use ipnet::{IpNet, IpSubnets, Ipv4Subnets, Ipv6Subnets};

use crate::model::classes::Classes;
use crate::model::ranges::{Family, Ranges};
use crate::model::{AddrRange, Entry, Namespace, Path, PortRange, Refusal, Verdict};
use crate::output::{Clean, View};

/// Items that are named before the rest is counted.
const NAMED: usize = 6;
/// Networks that one range may fall into before it is written as a range.
const NETWORKS: usize = 3;

/// Each way in, with the rules that let it in. `exactly`: as products of sets, as JSON has them;
/// else in the words of people, ways that differ only in where they lead to as one.
pub(super) fn ways(view: &View<'_>, paths: &[Path], exactly: bool) -> Vec<String> {
    told(paths.iter().map(|path| Way::new(view, path, exactly)), exactly)
}

/// What does not get in, in the same words, with the rules that say so.
pub(super) fn shut(view: &View<'_>, refused: &[Refusal], exactly: bool) -> Vec<String> {
    told(refused.iter().map(|each| Way::shut(view, each, exactly)), exactly)
}

/// Those that differ only in where they lead to are one, then those that differ only in where they
/// come in.
fn told(ways: impl Iterator<Item = Way>, exactly: bool) -> Vec<String> {
    let mut found: Vec<Way> = Vec::new();
    for way in ways {
        match found.iter_mut().find(|known| !exactly && known.key() == way.key()) {
            Some(known) => known.to.extend(way.to),
            None => found.push(way),
        }
    }
    let mut joined: Vec<Way> = Vec::new();
    for mut way in found {
        way.to.sort_unstable();
        match joined.iter_mut().find(|known| !exactly && known.alike(&way)) {
            Some(known) => known.interfaces = format!("{}, {}", known.interfaces, way.interfaces),
            None => joined.push(way),
        }
    }
    joined.iter().map(|way| way.told(exactly)).collect()
}

struct Way {
    family: Option<Family>,
    verdict: &'static str,
    interfaces: String,
    from: String,
    to: Vec<AddrRange>,
    ports: String,
    because: String,
}

impl Way {
    fn new(view: &View<'_>, path: &Path, exactly: bool) -> Self {
        let verdict = match path.verdict {
            Verdict::Accept => "in through",
            Verdict::Unknown => "perhaps in through",
        };
        let Path { entry, destinations, ports, sources, because, .. } = path;
        Self::of(view, verdict, (entry, destinations, ports.as_deref(), sources), because, exactly)
    }

    fn shut(view: &View<'_>, refused: &Refusal, exactly: bool) -> Self {
        let Refusal { entry, destinations, ports, sources, because } = refused;
        Self::of(view, "through", (entry, destinations, ports.as_deref(), sources), because, exactly)
    }

    fn of(
        view: &View<'_>,
        verdict: &'static str,
        (entry, destinations, ports, sources): (&Entry, &[AddrRange], Option<&[PortRange]>, &[AddrRange]),
        because: &[u32],
        exactly: bool,
    ) -> Self {
        let namespace = view.snapshot.namespace(entry.netns);
        let because: Vec<String> =
            because.iter().filter_map(|at| Some(format!("; {}", rule(view, *at)?))).collect();
        Self {
            family: destinations.first().map(|range| Family::of(range.first)),
            verdict,
            interfaces: all(&entry.interfaces),
            from: if exactly { all(sources) } else { senders(sources, namespace) },
            to: destinations.to_vec(),
            ports: ports.map_or_else(String::new, |ports| format!(" port {}", all(ports))),
            because: because.concat(),
        }
    }

    /// All but the destination.
    fn key(&self) -> (Option<Family>, [&str; 5]) {
        (self.family, [self.verdict, &self.interfaces, &self.from, &self.ports, &self.because])
    }

    /// In all but the interface.
    fn alike(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.key(), other.key());
        let but = |[verdict, _, from, ports, because]: [_; 5]| [verdict, from, ports, because];
        mine.0 == theirs.0 && but(mine.1) == but(theirs.1) && self.to == other.to
    }

    fn told(&self, exactly: bool) -> String {
        let Self { verdict, interfaces, from, ports, because, .. } = self;
        let to = if exactly { all(&self.to) } else { destinations(&self.to) };
        format!("{verdict} {interfaces}: {from} to {to}{ports}{because}")
    }
}

/// A rule by place, handle and words.
pub(super) fn rule(view: &View<'_>, at: u32) -> Option<String> {
    let each = view.snapshot.evidence.get(at as usize)?;
    let handle = each.handle.map_or_else(String::new, |handle| format!(" handle {handle}"));
    let words = if each.has_words() { format!(": {}", each.text) } else { String::new() };
    Some(format!("{}{handle}{words}", Clean(&each.place)))
}

fn all<T: ToString>(items: &[T]) -> String {
    let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
    if texts.is_empty() { "nothing".to_owned() } else { texts.join(", ") }
}

/// Who may send: `everybody`, `everybody but 10.0.0.0/8`, `lan`, `198.51.100.7`.
fn senders(sources: &[AddrRange], namespace: &Namespace) -> String {
    each_family(sources, |family, set| Crowd::new(family, namespace).named(set))
}

/// Where to: `203.0.113.5`, `any address`, `any address but 203.0.113.5`.
fn destinations(to: &[AddrRange]) -> String {
    each_family(to, |family, set| {
        let (these, others) = (networks(family, set), networks(family, &family.all().minus(set)));
        match others.len() {
            0 => "any address".to_owned(),
            fewer if fewer < these.len() => format!("any address but {}", list(&others)),
            _ => list(&these),
        }
    })
}

fn each_family(ranges: &[AddrRange], words: impl Fn(Family, &Ranges) -> String) -> String {
    let sets = Family::BOTH.into_iter().map(|family| (family, family.pick(ranges)));
    let words: Vec<String> =
        sets.filter(|(_, set)| !set.is_empty()).map(|(family, set)| words(family, &set)).collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}

/// The addresses of one family as a namespace sees them.
struct Crowd {
    family: Family,
    /// What belongs to this namespace itself, broadcasts included.
    own: Ranges,
    /// Its addresses without the broadcasts.
    local: Ranges,
    /// Everybody else who can be a sender at all.
    others: Ranges,
    /// `internet`, `lan`, `link-local`: the words of `reach`.
    classes: [(&'static str, Ranges); 3],
    here: &'static str,
}

impl Crowd {
    fn new(family: Family, namespace: &Namespace) -> Self {
        let classes = Classes::of(family);
        let (local, broadcast) = own_addresses(family, namespace);
        let own = local.union(&broadcast);
        let nobody = [&classes.martian, &classes.unspecified, &classes.multicast, &own];
        let others = nobody.into_iter().fold(family.all(), |left, set| left.minus(set));
        let (lan, link) = (classes.private.and(&others), classes.link.and(&others));
        let internet = others.minus(&classes.private).minus(&classes.link);
        let here = if namespace.own { "this computer" } else { "its own network namespace" };
        let classes = [("internet", internet), ("lan", lan), ("link-local", link)];
        Self { family, own, local, others, classes, here }
    }

    fn named(&self, set: &Ranges) -> String {
        let strangers = set.and(&self.others);
        if strangers.is_empty() {
            let ours = set.meets(&self.local);
            return if ours { self.here.to_owned() } else { list(&networks(self.family, set)) };
        }
        let missing = self.others.minus(&strangers);
        if missing.is_empty() {
            return "everybody".to_owned();
        }
        let (these, but) = (self.items(&strangers), self.items(&missing));
        if but.len() < these.len() { format!("everybody but {}", list(&but)) } else { list(&these) }
    }

    /// Whole classes by name, then networks.
    fn items(&self, set: &Ranges) -> Vec<String> {
        let (mut items, mut rest) = (Vec::new(), set.clone());
        for (name, class) in &self.classes {
            if !class.is_empty() && class.minus(set).is_empty() {
                items.push((*name).to_owned());
                rest = rest.minus(class);
            }
        }
        // A network is not torn by our own addresses in it.
        let plain = networks(self.family, &rest);
        let filled = networks(self.family, &rest.with_neighbours(&self.own));
        items.extend(if filled.len() < plain.len() { filled } else { plain });
        items
    }
}

/// What is delivered in a namespace, and the broadcasts of its networks.
fn own_addresses(family: Family, namespace: &Namespace) -> (Ranges, Ranges) {
    if let Some(routes) = namespace.routes.known() {
        let pick = |list: &[(AddrRange, u32)]| family.pick(list.iter().map(|(range, _)| range));
        return (pick(&routes.local), pick(&routes.broadcast));
    }
    let interfaces = namespace.interfaces.known().map_or(&[][..], Vec::as_slice);
    let nets = || interfaces.iter().flat_map(|each| &each.addresses);
    let addresses: Vec<AddrRange> = nets().map(|net| AddrRange::one(net.addr())).collect();
    let local = family.pick(&addresses);
    let local = if local.is_empty() { local } else { local.union(&Classes::of(family).loopback) };
    let ends: Vec<AddrRange> = nets()
        .filter(|net| net.max_prefix_len() - net.prefix_len() > 1)
        .flat_map(|net| [net.network(), net.broadcast()])
        .map(AddrRange::one)
        .collect();
    (local, family.pick(&ends))
}

/// A set as few networks, single addresses and ranges.
fn networks(family: Family, set: &Ranges) -> Vec<String> {
    family.addresses(set).iter().flat_map(pieces).collect()
}

fn pieces(range: &AddrRange) -> Vec<String> {
    let nets = match (range.first, range.last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => IpSubnets::V4(Ipv4Subnets::new(first, last, 0)),
        (IpAddr::V6(first), IpAddr::V6(last)) => IpSubnets::V6(Ipv6Subnets::new(first, last, 0)),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return vec![range.to_string()],
    };
    let nets: Vec<IpNet> = nets.take(NETWORKS + 1).collect();
    if nets.len() > NETWORKS {
        return vec![range.to_string()];
    }
    let single = |net: &IpNet| net.prefix_len() == net.max_prefix_len();
    nets.iter().map(|net| if single(net) { net.addr().to_string() } else { net.to_string() }).collect()
}

fn list(items: &[String]) -> String {
    if items.len() <= NAMED {
        return items.join(", ");
    }
    format!("{} and {} more (-v)", items[..NAMED - 1].join(", "), items.len() + 1 - NAMED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Report;
    use crate::model::Reach;
    use crate::model::sample::Sample;
    use crate::output::Question;

    /// `203.0.113.5/24` and `2001:db8::5/64` on `eth0`.
    fn namespace() -> Namespace {
        Sample::new().snapshot.namespaces.remove(0)
    }

    fn set(family: Family, texts: &[&str]) -> Ranges {
        let nets: Vec<AddrRange> =
            texts.iter().map(|text| AddrRange::from(text.parse::<IpNet>().unwrap())).collect();
        family.pick(&nets)
    }

    /// Everybody who is no stranger by nature left out, and `without`.
    fn all_but(family: Family, without: &[&str]) -> String {
        let crowd = Crowd::new(family, &namespace());
        let left = crowd.others.minus(&set(family, without));
        senders(&family.addresses(&left), &namespace())
    }

    fn these(family: Family, texts: &[&str]) -> String {
        senders(&family.addresses(&set(family, texts)), &namespace())
    }

    #[test]
    fn everybody_is_whoever_can_be_a_stranger_at_all() {
        for family in Family::BOTH {
            assert_eq!(all_but(family, &[]), "everybody");
        }
        assert_eq!(these(Family::V4, &["0.0.0.0/0"]), "everybody");
        assert_eq!(these(Family::V6, &["::/0"]), "everybody");
    }

    #[test]
    fn the_shorter_of_who_and_who_not_is_said() {
        assert_eq!(all_but(Family::V4, &["10.0.0.0/8"]), "everybody but 10.0.0.0/8");
        assert_eq!(all_but(Family::V4, &["198.51.100.7/32"]), "everybody but 198.51.100.7");
        assert_eq!(all_but(Family::V4, &["169.254.0.0/16"]), "everybody but link-local");
        assert_eq!(all_but(Family::V6, &["2001:db8:7::/48"]), "everybody but 2001:db8:7::/48");
        assert_eq!(these(Family::V4, &["198.51.100.7/32"]), "198.51.100.7");
        assert_eq!(these(Family::V4, &["10.0.0.0/9", "192.168.0.0/16"]), "10.0.0.0/9, 192.168.0.0/16");
    }

    #[test]
    fn a_whole_class_has_its_name() {
        let lan = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"];
        assert_eq!(these(Family::V4, &lan), "lan");
        assert_eq!(these(Family::V6, &["fe80::/10"]), "link-local");
        assert_eq!(these(Family::V6, &["fe80::/10", "fc00::/7", "fec0::/10"]), "everybody but internet");
        let internet = Crowd::new(Family::V6, &namespace()).classes[0].1.clone();
        assert_eq!(senders(&Family::V6.addresses(&internet), &namespace()), "internet");
        assert_eq!(these(Family::V4, &lan[..1]), "10.0.0.0/8", "a part of a class is not the class");
    }

    #[test]
    fn our_own_addresses_tear_no_network() {
        let without_us = set(Family::V4, &["203.0.113.0/24"])
            .minus(&set(Family::V4, &["203.0.113.5/32", "203.0.113.0/32", "203.0.113.255/32"]));
        assert_eq!(senders(&Family::V4.addresses(&without_us), &namespace()), "203.0.113.0/24");
        assert_eq!(these(Family::V4, &["203.0.113.6/32"]), "203.0.113.6", "a neighbour stays alone");
        assert_eq!(these(Family::V4, &["127.0.0.0/8", "203.0.113.5/32"]), "this computer");
        assert_eq!(these(Family::V4, &["0.0.0.0/8"]), "0.0.0.0/8", "who has no address yet");
        assert_eq!(senders(&[], &namespace()), "nothing");
    }

    #[test]
    fn destinations_are_single_addresses_or_the_rest() {
        let to = |family: Family, set: &Ranges| destinations(&family.addresses(set));
        assert_eq!(
            to(Family::V4, &set(Family::V4, &["203.0.113.5/32", "127.0.0.0/8"])),
            "127.0.0.0/8, 203.0.113.5"
        );
        assert_eq!(to(Family::V6, &Family::V6.all()), "any address");
        let but = Family::V6.all().minus(&set(Family::V6, &["2001:db8::5/128"]));
        assert_eq!(to(Family::V6, &but), "any address but 2001:db8::5");
    }

    #[test]
    fn ways_that_lead_elsewhere_only_are_one_and_exact_on_demand() {
        let mut sample = Sample::new();
        let socket = sample.listener("0.0.0.0:53", Reach::Lan, &[]);
        let mut paths = socket.exposure.as_ref().unwrap().paths.clone();
        paths[0].destinations = Family::V4.addresses(&set(Family::V4, &["203.0.113.5/32"])).into();
        paths.push(paths[0].clone());
        paths[1].destinations = [AddrRange::one(IpAddr::from([255; 4]))].into();
        let view = View {
            snapshot: &sample.snapshot,
            report: &Report::default(),
            selection: &[],
            question: &Question::EVERYTHING,
            rules: &[],
        };
        assert_eq!(
            ways(&view, &paths, false),
            ["in through eth0: everybody to 203.0.113.5, 255.255.255.255 port 53"]
        );
        let exact = ways(&view, &paths, true);
        assert_eq!(exact[1], "in through eth0: 0.0.0.0/0 to 255.255.255.255/32 port 53");
        paths[1].verdict = Verdict::Unknown;
        assert_eq!(ways(&view, &paths, false).len(), 2, "doubt is not mixed with what is certain");
    }

    #[test]
    fn a_long_list_is_counted() {
        let odd: Vec<String> = (0..40).map(|n| format!("10.0.{}.0/24", 2 * n + 1)).collect();
        let odd: Vec<&str> = odd.iter().map(String::as_str).collect();
        let said = these(Family::V4, &odd);
        assert_eq!(said, "10.0.1.0/24, 10.0.3.0/24, 10.0.5.0/24, 10.0.7.0/24, 10.0.9.0/24 and 35 more (-v)");
    }
}
