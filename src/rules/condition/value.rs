//! The values of one line of a condition, as patterns.

use toml::de::DeValue;

use super::{MAX_VALUES, Parser};
use crate::model::{AddrRange, Protocol, Reach};
use crate::rules::pattern::{Class, Glob, MAX_PATTERN, Pattern, Test, reaches};
use crate::rules::reader::{Node, integer, shorten};
use crate::rules::schema::{self, FAMILY, Kind};

impl Parser<'_> {
    /// `None` when any value is wrong: a misspelt condition must not become a wider one.
    pub(super) fn test(&mut self, name: &str, kind: Kind, node: &Node<'_>) -> Option<Test> {
        let nodes = self.reader.list(node, name);
        self.values += nodes.len();
        if self.values > MAX_VALUES {
            self.limit(node, &format!("more than {MAX_VALUES} values"));
            return None;
        }
        let (mut test, mut sound) = (Test::default(), !nodes.is_empty());
        for each in nodes {
            let (negated, patterns) = match (each.get_ref(), kind) {
                (DeValue::String(text), _) => {
                    let (negated, text) = match text.strip_prefix('!') {
                        Some(rest) => (true, rest),
                        None => (false, &**text),
                    };
                    (negated, self.value(name, kind, text, each))
                }
                (DeValue::Boolean(flag), Kind::Flag) => (false, Some(vec![Pattern::Code(u32::from(*flag))])),
                (DeValue::Integer(_), Kind::Number(most)) => (false, self.number(name, most, each)),
                _ => {
                    self.reader.wrong(each, name, wanted(kind));
                    (false, None)
                }
            };
            match patterns {
                Some(patterns) if negated => test.no.extend(patterns),
                Some(patterns) => test.yes.extend(patterns),
                None => sound = false,
            }
        }
        sort_words(&mut test.yes);
        sort_words(&mut test.no);
        sound.then_some(test)
    }

    fn number(&mut self, name: &str, most: u64, node: &Node<'_>) -> Option<Vec<Pattern>> {
        match integer(node).and_then(|number| u64::try_from(number).ok()).filter(|number| *number <= most) {
            Some(number) => Some(vec![Pattern::Number(number, number)]),
            None => {
                self.reader.say(node.span(), format!("`{name}` is a number from 0 to {most}"));
                None
            }
        }
    }

    fn value(&mut self, name: &str, kind: Kind, text: &str, node: &Node<'_>) -> Option<Vec<Pattern>> {
        if text.is_empty() || text.len() > MAX_PATTERN {
            let what = if text.is_empty() {
                "is empty".to_owned()
            } else {
                format!("is longer than {MAX_PATTERN} bytes")
            };
            self.reader.say(node.span(), format!("this value of `{name}` {what}"));
            return None;
        }
        match (text, kind) {
            ("any", _) => return Some(vec![Pattern::Any]),
            ("none", Kind::Reach) => {}
            ("none", _) => return Some(vec![Pattern::None]),
            _ => {}
        }
        match kind {
            Kind::Word(_) | Kind::Capability => self.word(name, kind, text, node),
            Kind::Protocol => match Protocol::from_name(text) {
                Some(Protocol::Other(family)) => Some(vec![Pattern::Code(FAMILY + u32::from(family))]),
                Some(_) | None => self.word(name, kind, text, node),
            },
            Kind::Reach => self.reach(name, kind, text, node),
            Kind::Number(most) => self.range(name, most, text, node),
            Kind::Address => self.address(text, node),
            Kind::Text => self.glob(text, node).map(|pattern| vec![pattern]),
            Kind::Words => {
                let words: Vec<&str> = text.split_whitespace().collect();
                if let [word] = words[..] {
                    return self.glob(word, node).map(|pattern| vec![pattern]);
                }
                let globs: Option<Vec<Glob>> = words.iter().map(|word| self.new_glob(word, node)).collect();
                globs.filter(|globs| !globs.is_empty()).map(|globs| vec![Pattern::Row(globs)])
            }
            Kind::Mode => self.mode(text, node),
            Kind::Stream => match text {
                "this-socket" => Some(vec![Pattern::ThisSocket]),
                "socket" => Some(vec![Pattern::Socket]),
                _ => self.glob(text, node).map(|pattern| vec![pattern]),
            },
            Kind::Flag | Kind::Presence => {
                self.reader.say(node.span(), format!("`{name}` must be {}", wanted(kind)));
                None
            }
        }
    }

    fn word(&mut self, name: &str, kind: Kind, text: &str, node: &Node<'_>) -> Option<Vec<Pattern>> {
        let words = schema::words(kind);
        match words.iter().position(|word| *word == text) {
            Some(code) => Some(vec![Pattern::Code(u32::try_from(code).ok()?)]),
            None => {
                self.reader.unknown_word(
                    node.span(),
                    text,
                    &format!("value of `{name}`"),
                    words.into_iter().chain(["any", "none"]),
                );
                None
            }
        }
    }

    fn reach(&mut self, name: &str, kind: Kind, text: &str, node: &Node<'_>) -> Option<Vec<Pattern>> {
        let Some((comparison, word)) = comparison(text) else { return self.word(name, kind, text, node) };
        let Some(bound) = Reach::from_name(word).filter(|bound| *bound != Reach::Unknown) else {
            return self.word(name, kind, word, node);
        };
        let codes: Vec<Pattern> =
            reaches(comparison, bound).into_iter().map(|each| Pattern::Code(each as u32)).collect();
        if codes.is_empty() {
            self.reader.say(node.span(), format!("no reach is {text}"));
        }
        (!codes.is_empty()).then_some(codes)
    }

    fn range(&mut self, name: &str, most: u64, text: &str, node: &Node<'_>) -> Option<Vec<Pattern>> {
        let number = |text: &str| text.trim().parse::<u64>().ok();
        let range = match comparison(text) {
            Some((">=", bound)) => number(bound).map(|bound| (bound, most)),
            Some((">", bound)) => number(bound).map(|bound| (bound.saturating_add(1), most)),
            Some(("<=", bound)) => number(bound).map(|bound| (0, bound)),
            Some((_, bound)) => match number(bound) {
                Some(0) => Some((1, 0)),
                bound => bound.map(|bound| (0, bound - 1)),
            },
            None => match text.split_once('-') {
                Some((first, last)) => number(first).zip(number(last)),
                None => number(text).map(|number| (number, number)),
            },
        };
        match range {
            None => self.reader.advise(
                node.span(),
                format!("`{}` is no number of `{name}`", shorten(text)),
                "write 22, \"8000-9000\" or \">= 1024\"",
            ),
            Some((first, last)) if first > most || (last > most && comparison(text).is_none()) => {
                self.reader.say(node.span(), format!("`{name}` is a number from 0 to {most}"));
            }
            Some((first, last)) if first > last => {
                let help =
                    text.split_once('-').map(|(first, last)| format!("did you mean \"{last}-{first}\"?"));
                let message = format!("no number is in `{}`", shorten(text));
                match help {
                    Some(help) => self.reader.advise(node.span(), message, help),
                    None => self.reader.say(node.span(), message),
                }
            }
            Some((first, last)) => return Some(vec![Pattern::Number(first, last)]),
        }
        None
    }

    fn address(&mut self, text: &str, node: &Node<'_>) -> Option<Vec<Pattern>> {
        if let Some((_, class)) = Class::ALL.iter().find(|(name, _)| *name == text) {
            return Some(vec![Pattern::Class(*class)]);
        }
        if let Ok(address) = text.parse::<std::net::IpAddr>() {
            return Some(vec![Pattern::Address(AddrRange::one(address.to_canonical()))]);
        }
        if let Ok(net) = text.parse::<ipnet::IpNet>() {
            if net.addr() == net.network() {
                return Some(vec![Pattern::Address(net.into())]);
            }
            let help = format!("did you mean \"{}\"?", net.trunc());
            self.reader.advise(node.span(), format!("`{text}` has bits set behind its prefix"), help);
            return None;
        }
        if let Some((first, last)) = text.split_once('-')
            && let (Ok(first), Ok(last)) =
                (first.parse::<std::net::IpAddr>(), last.parse::<std::net::IpAddr>())
        {
            if first.is_ipv4() == last.is_ipv4() && first <= last {
                return Some(vec![Pattern::Address(AddrRange { first, last })]);
            }
            self.reader.say(node.span(), format!("no address is in `{text}`"));
            return None;
        }
        self.reader.unknown_word(
            node.span(),
            text,
            "address, CIDR, range or class of addresses",
            Class::ALL.iter().map(|(name, _)| *name),
        );
        None
    }

    fn glob(&mut self, text: &str, node: &Node<'_>) -> Option<Pattern> {
        if !Glob::is_pattern(text) {
            return Some(Pattern::Words(vec![text.as_bytes().into()]));
        }
        self.new_glob(text, node).map(Pattern::Glob)
    }

    fn new_glob(&mut self, text: &str, node: &Node<'_>) -> Option<Glob> {
        match Glob::new(text) {
            Ok(glob) => Some(glob),
            Err(message) => {
                self.reader.say(node.span(), message);
                None
            }
        }
    }

    /// `o+w`, `go+rw`: the bits of chmod(1).
    fn mode(&mut self, text: &str, node: &Node<'_>) -> Option<Vec<Pattern>> {
        let bits = text.split_once('+').and_then(|(who, what)| {
            let who = who.chars().map(|c| match c {
                'u' => Some(0o700),
                'g' => Some(0o070),
                'o' => Some(0o007),
                'a' => Some(0o777),
                _ => None,
            });
            let what = what.chars().map(|c| match c {
                'r' => Some(0o444),
                'w' => Some(0o222),
                'x' => Some(0o111),
                _ => None,
            });
            let sum = |bits: Vec<u64>| bits.into_iter().fold(0, |sum, bit| sum | bit);
            Some(sum(who.collect::<Option<_>>()?) & sum(what.collect::<Option<_>>()?))
        });
        match bits {
            Some(bits) if bits != 0 => Some(vec![Pattern::Bits(bits)]),
            _ => {
                self.reader.advise(
                    node.span(),
                    format!("`{}` is no permission", shorten(text)),
                    "write \"o+w\", \"g+rw\"",
                );
                None
            }
        }
    }
}

/// `>= lan` as its two parts.
fn comparison(text: &str) -> Option<(&str, &str)> {
    [">=", "<=", ">", "<"].into_iter().find_map(|sign| Some((sign, text.strip_prefix(sign)?.trim())))
}

fn wanted(kind: Kind) -> &'static str {
    match kind {
        Kind::Flag => "`true` or `false`",
        Kind::Number(_) => "a number, \"8000-9000\" or \">= 1024\"",
        Kind::Presence => "\"any\" or \"none\"",
        Kind::Word(_)
        | Kind::Protocol
        | Kind::Reach
        | Kind::Address
        | Kind::Text
        | Kind::Words
        | Kind::Mode
        | Kind::Capability
        | Kind::Stream => "text in quotes",
    }
}

/// Puts all plain words into one sorted list.
fn sort_words(patterns: &mut Vec<Pattern>) {
    let mut all = Vec::new();
    patterns.retain_mut(|pattern| match pattern {
        Pattern::Words(words) => {
            all.append(words);
            false
        }
        Pattern::Any
        | Pattern::None
        | Pattern::Code(_)
        | Pattern::Number(..)
        | Pattern::Address(_)
        | Pattern::Class(_)
        | Pattern::Glob(_)
        | Pattern::Row(_)
        | Pattern::Bits(_)
        | Pattern::ThisSocket
        | Pattern::Socket => true,
    });
    if !all.is_empty() {
        all.sort();
        all.dedup();
        patterns.push(Pattern::Words(all));
    }
}
