//! The right-hand side of a condition: patterns, what they match, and what two of them have in common.

use std::net::IpAddr;

use crate::model::{AddrRange, Reach};

/// Yes, no, or "a fact is missing that the answer hangs on" (Kleene's third value).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Truth {
    False,
    Undecided,
    True,
}

impl Truth {
    pub(super) fn not(self) -> Self {
        match self {
            Self::False => Self::True,
            Self::Undecided => Self::Undecided,
            Self::True => Self::False,
        }
    }

    pub(super) fn all(truths: impl IntoIterator<Item = Self>) -> Self {
        let mut sum = Self::True;
        for truth in truths {
            match truth {
                Self::False => return Self::False,
                Self::Undecided => sum = Self::Undecided,
                Self::True => {}
            }
        }
        sum
    }

    pub(super) fn any(truths: impl IntoIterator<Item = Self>) -> Self {
        Self::all(truths.into_iter().map(Self::not)).not()
    }
}

impl From<bool> for Truth {
    fn from(answer: bool) -> Self {
        if answer { Self::True } else { Self::False }
    }
}

/// A kind of address that no range can name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    Wildcard,
    Loopback,
    Private,
    Cgnat,
    LinkLocal,
    Multicast,
    Global,
    /// One of this computer's own.
    Local,
    /// In a network of a tunnel.
    Overlay,
    /// In a network of a bridge or veth.
    Container,
}

impl Class {
    pub(super) const ALL: [(&'static str, Self); 10] = [
        ("wildcard", Self::Wildcard),
        ("loopback", Self::Loopback),
        ("private", Self::Private),
        ("cgnat", Self::Cgnat),
        ("link-local", Self::LinkLocal),
        ("multicast", Self::Multicast),
        ("global", Self::Global),
        ("local", Self::Local),
        ("overlay", Self::Overlay),
        ("container", Self::Container),
    ];

    /// Whether an address is of this class by its digits alone; `None` where the interfaces decide.
    pub(super) fn of_digits(self, address: IpAddr) -> Option<bool> {
        Some(match self {
            Self::Wildcard => address.is_unspecified(),
            Self::Loopback => address.is_loopback(),
            Self::Private => match address {
                IpAddr::V4(v4) => v4.is_private(),
                IpAddr::V6(v6) => v6.is_unique_local(),
            },
            Self::Cgnat => match address {
                IpAddr::V4(v4) => v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64, // RFC 6598
                IpAddr::V6(_) => false,
            },
            Self::LinkLocal => match address {
                IpAddr::V4(v4) => v4.is_link_local(),
                IpAddr::V6(v6) => v6.is_unicast_link_local(),
            },
            Self::Multicast => {
                address.is_multicast() || matches!(address, IpAddr::V4(v4) if v4.is_broadcast())
            }
            // reach.md: neither private, link-local, CGNAT nor ULA.
            Self::Global => {
                [Self::Wildcard, Self::Loopback, Self::Private, Self::Cgnat, Self::LinkLocal, Self::Multicast]
                    .iter()
                    .all(|other| other.of_digits(address) == Some(false))
            }
            Self::Local => return address.is_loopback().then_some(true),
            Self::Overlay | Self::Container => return None,
        })
    }
}

/// One value that a condition names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Pattern {
    /// Any value at all.
    Any,
    /// There is no value.
    None,
    Code(u32),
    /// From the first to the last, both included.
    Number(u64, u64),
    Address(AddrRange),
    Class(Class),
    /// Any of these words, sorted.
    Words(Vec<Box<[u8]>>),
    Glob(Glob),
    /// Words in a row.
    Row(Vec<Glob>),
    /// All of these bits are set.
    Bits(u64),
    /// A standard stream that is the judged socket; that is some socket.
    ThisSocket,
    Socket,
}

/// What a condition wants of a fact: one of `yes` (if there are any) and none of `no`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Test {
    pub(super) yes: Vec<Pattern>,
    pub(super) no: Vec<Pattern>,
}

impl Test {
    /// Whether some single value could satisfy both; `false` only when it is sure that none can.
    pub(super) fn meets(&self, other: &Self) -> bool {
        [(self, other), (other, self)].into_iter().all(|(a, b)| {
            let Some(values) = a.values() else { return true };
            values.iter().any(|value| b.admits(value) && a.admits(value))
        })
    }

    /// Whether every value that satisfies `other` satisfies this; `true` only when it is sure.
    pub(super) fn covers(&self, other: &Self) -> bool {
        other
            .values()
            .is_some_and(|values| !values.is_empty() && values.iter().all(|value| self.surely(value)))
    }

    /// The patterns that together are all it can match, if they can be compared one by one.
    fn values(&self) -> Option<Vec<Pattern>> {
        if self.yes.is_empty() {
            return None;
        }
        let mut values = Vec::new();
        for pattern in &self.yes {
            match pattern {
                Pattern::Words(words) => {
                    values.extend(words.iter().map(|word| Pattern::Words(vec![word.clone()])));
                }
                Pattern::None | Pattern::Code(_) | Pattern::Number(..) | Pattern::Address(_) => {
                    values.push(pattern.clone());
                }
                Pattern::Any
                | Pattern::Class(_)
                | Pattern::Glob(_)
                | Pattern::Row(_)
                | Pattern::Bits(_)
                | Pattern::ThisSocket
                | Pattern::Socket => return None,
            }
        }
        Some(values)
    }

    fn admits(&self, value: &Pattern) -> bool {
        (self.yes.is_empty() && *value != Pattern::None || self.yes.iter().any(|each| each.overlaps(value)))
            && !self.no.iter().any(|each| each.contains(value))
    }

    fn surely(&self, value: &Pattern) -> bool {
        (self.yes.is_empty() && *value != Pattern::None || self.yes.iter().any(|each| each.contains(value)))
            && !self.no.iter().any(|each| each.overlaps(value))
    }
}

impl Pattern {
    /// Whether a value of `other` (one of `Test::values`) could match; `true` when in doubt.
    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, other) => *other != Self::None,
            (Self::None, other) => *other == Self::None,
            (_, Self::None) => false,
            (Self::Code(a), Self::Code(b)) => a == b,
            (Self::Number(a, b), Self::Number(c, d)) => a <= d && c <= b,
            (Self::Address(a), Self::Address(b)) => {
                a.first.is_ipv4() == b.first.is_ipv4() && a.first <= b.last && b.first <= a.last
            }
            (Self::Class(class), Self::Address(range)) if range.first == range.last => {
                class.of_digits(range.first).unwrap_or(true)
            }
            (Self::Words(_) | Self::Glob(_), Self::Words(words)) => {
                words.iter().any(|word| self.matches_text(word))
            }
            _ => true,
        }
    }

    /// Whether every value of `other` (one of `Test::values`) matches; `false` when in doubt.
    fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, other) => *other != Self::None,
            (Self::None, other) => *other == Self::None,
            (Self::Code(a), Self::Code(b)) => a == b,
            (Self::Number(a, b), Self::Number(c, d)) => a <= c && d <= b,
            (Self::Address(a), Self::Address(b)) => {
                a.first.is_ipv4() == b.first.is_ipv4() && a.first <= b.first && b.last <= a.last
            }
            (Self::Class(class), Self::Address(range)) if range.first == range.last => {
                class.of_digits(range.first).unwrap_or(false)
            }
            (Self::Words(_) | Self::Glob(_), Self::Words(words)) => {
                words.iter().all(|word| self.matches_text(word))
            }
            _ => false,
        }
    }

    pub(super) fn matches_text(&self, text: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Words(words) => words.binary_search_by(|word| (**word).cmp(text)).is_ok(),
            Self::Glob(glob) => glob.matches(text),
            Self::None
            | Self::Code(_)
            | Self::Number(..)
            | Self::Address(_)
            | Self::Class(_)
            | Self::Row(_)
            | Self::Bits(_)
            | Self::ThisSocket
            | Self::Socket => false,
        }
    }
}

/// Codes of the reach classes that a comparison with one of them admits.
pub(super) fn reaches(comparison: &str, bound: Reach) -> Vec<Reach> {
    Reach::ALL
        .iter()
        .copied()
        .filter(|each| match comparison {
            ">=" => *each >= bound,
            ">" => *each > bound,
            "<=" => *each <= bound,
            _ => *each < bound,
        })
        .collect()
}

/// A glob over bytes: `*`, `?` (one UTF-8 character, or one byte that is none), `[a-z]`, `[!a-z]`.
/// Covers the whole value. Time is at most pattern × value, without recursion.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Glob(Vec<Piece>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Byte(u8),
    One,
    Run,
    Set { negated: bool, ranges: Vec<(u8, u8)> },
}

/// Longest pattern; together with the limits of the sources it bounds the time of a match.
pub(super) const MAX_PATTERN: usize = 1024;
const MAX_RUNS: usize = 16;

impl Glob {
    /// The error is a sentence for the author of the rule.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let bytes = text.as_bytes();
        let mut pieces = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while at < bytes.len() {
            match bytes[at] {
                b'*' => {
                    if pieces.last() != Some(&Piece::Run) {
                        pieces.push(Piece::Run);
                    }
                    at += 1;
                }
                b'?' => {
                    pieces.push(Piece::One);
                    at += 1;
                }
                b'[' => {
                    let (set, next) = set(bytes, at + 1)?;
                    pieces.push(set);
                    at = next;
                }
                byte => {
                    pieces.push(Piece::Byte(byte));
                    at += 1;
                }
            }
        }
        if pieces.iter().filter(|piece| **piece == Piece::Run).count() > MAX_RUNS {
            return Err(format!("the pattern has more than {MAX_RUNS} `*`"));
        }
        Ok(Self(pieces))
    }

    pub(super) fn is_pattern(text: &str) -> bool {
        text.contains(['*', '?', '['])
    }

    /// The literal bytes at the beginning.
    pub(super) fn prefix(&self) -> Vec<u8> {
        self.0
            .iter()
            .map_while(|piece| if let Piece::Byte(byte) = piece { Some(*byte) } else { None })
            .collect()
    }

    /// Fewest bytes of a value that can match.
    pub(super) fn shortest(&self) -> usize {
        self.0.iter().filter(|piece| **piece != Piece::Run).count()
    }

    pub(super) fn matches(&self, text: &[u8]) -> bool {
        let (pieces, mut piece, mut at) = (&self.0, 0, 0);
        // Where to go on when the present attempt fails: behind the last `*`, one byte later.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            let step = match pieces.get(piece) {
                Some(Piece::Run) => {
                    retry = Some((piece + 1, at));
                    piece += 1;
                    continue;
                }
                Some(Piece::Byte(byte)) if text.get(at) == Some(byte) => Some(1),
                Some(Piece::One) if at < text.len() => Some(character(&text[at..])),
                Some(Piece::Set { negated, ranges }) => text.get(at).and_then(|byte| {
                    let inside = ranges.iter().any(|(low, high)| (low..=high).contains(&byte));
                    (inside != *negated).then_some(1)
                }),
                Some(Piece::Byte(_) | Piece::One) => None,
                None if at == text.len() => return true,
                None => None,
            };
            match (step, retry) {
                (Some(step), _) => {
                    piece += 1;
                    at += step;
                }
                (None, Some((behind, from))) if from < text.len() => {
                    retry = Some((behind, from + 1));
                    piece = behind;
                    at = from + 1;
                }
                (None, _) => return false,
            }
        }
    }
}

/// Length of the UTF-8 character that the bytes begin with, or 1.
fn character(bytes: &[u8]) -> usize {
    let length = match bytes[0] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    if bytes.get(1..length).is_some_and(|rest| rest.iter().all(|byte| byte & 0xc0 == 0x80)) {
        length
    } else {
        1
    }
}

/// A set of bytes that begins behind `[`; also the place behind its `]`.
fn set(bytes: &[u8], mut at: usize) -> Result<(Piece, usize), String> {
    let negated = matches!(bytes.get(at), Some(b'!' | b'^'));
    at += usize::from(negated);
    let (mut ranges, first) = (Vec::new(), at);
    loop {
        match bytes.get(at) {
            None => {
                return Err("the pattern has a `[` without `]`; a bracket itself is written `[[]`".to_owned());
            }
            Some(b']') if at > first => return Ok((Piece::Set { negated, ranges }, at + 1)),
            Some(byte) if !byte.is_ascii() => {
                return Err("only ASCII may stand between `[` and `]`".to_owned());
            }
            Some(low) => match (bytes.get(at + 1), bytes.get(at + 2)) {
                (Some(b'-'), Some(high)) if *high != b']' => {
                    if high < low {
                        return Err(format!("the range `{}-{}` is empty", *low as char, *high as char));
                    }
                    ranges.push((*low, *high));
                    at += 3;
                }
                _ => {
                    ranges.push((*low, *low));
                    at += 1;
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, prop_assert_eq, proptest};

    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Glob::new(pattern).unwrap().matches(text.as_bytes())
    }

    #[test]
    fn globs_cover_the_whole_value() {
        assert!(matches("nginx", "nginx") && !matches("nginx", "nginx2") && !matches("ngin", "nginx"));
        assert!(matches("*/nginx", "/usr/sbin/nginx") && matches("*", "") && matches("a*b*c", "aXbYbc"));
        assert!(matches("python3.[0-9]*", "python3.11") && !matches("python3.[!0-9]", "python3.1"));
        assert!(matches("?", "ä") && matches("[]]", "]") && matches("[a-]", "-"));
        assert!(!matches("??", "ä"));
        assert!(
            Glob::new("[a").is_err() && Glob::new("[z-a]").is_err() && Glob::new(&"*a".repeat(17)).is_err()
        );
    }

    #[test]
    fn a_catastrophic_glob_ends() {
        let pattern = format!("{}b", "*a".repeat(15));
        assert!(!matches(&pattern, &"a".repeat(100_000)));
    }

    #[test]
    fn classes_of_addresses() {
        let class = |address: &str| {
            let address: IpAddr = address.parse().unwrap();
            Class::ALL
                .iter()
                .filter(|(_, class)| class.of_digits(address) == Some(true))
                .map(|(name, _)| *name)
                .collect::<Vec<_>>()
        };
        assert_eq!(class("127.0.0.53"), ["loopback", "local"]);
        assert_eq!(class("fd00::1"), ["private"]);
        assert_eq!(class("100.127.0.1"), ["cgnat"]);
        assert_eq!(class("169.254.169.254"), ["link-local"]);
        assert_eq!(class("8.8.8.8"), ["global"]);
        assert_eq!(class("::"), ["wildcard"]);
        assert_eq!(class("255.255.255.255"), ["multicast"]);
    }

    #[test]
    fn what_excludes_each_other_is_found() {
        let words = |list: &[&str]| {
            let mut words: Vec<Box<[u8]>> = list.iter().map(|word| word.as_bytes().into()).collect();
            words.sort();
            Test { yes: vec![Pattern::Words(words)], no: Vec::new() }
        };
        assert!(!words(&["a"]).meets(&words(&["b", "c"])));
        assert!(words(&["a", "b"]).meets(&words(&["b", "c"])));
        let glob = Test { yes: vec![Pattern::Glob(Glob::new("ng*").unwrap())], no: Vec::new() };
        assert!(glob.meets(&words(&["nginx"])) && !glob.meets(&words(&["caddy"])));
        assert!(glob.covers(&words(&["nginx", "ngrok"])) && !words(&["nginx"]).covers(&glob));
        let low = Test { yes: vec![Pattern::Number(0, 1023)], no: Vec::new() };
        let high = Test { yes: vec![Pattern::Number(1024, 65535)], no: Vec::new() };
        assert!(!low.meets(&high) && low.meets(&low));
        let not_low = Test { yes: Vec::new(), no: vec![Pattern::Number(0, 1023)] };
        assert!(!not_low.meets(&low) && not_low.meets(&high));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn globs_agree_with_a_plain_definition(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            fn plain(pattern: &[u8], text: &[u8]) -> bool {
                match (pattern.split_first(), text.split_first()) {
                    (None, _) => text.is_empty(),
                    (Some((b'*', rest)), _) => {
                        plain(rest, text) || (!text.is_empty() && plain(pattern, &text[1..]))
                    }
                    (Some((_, _)), None) => false,
                    (Some((p, rest)), Some((t, more))) => (*p == b'?' || p == t) && plain(rest, more),
                }
            }
            prop_assert_eq!(matches(&pattern, &text), plain(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
