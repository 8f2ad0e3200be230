//! Filter words, the same in every command: `proto:tcp port:8000-9000 not process:sshd`.
//!
//! Words are joined by *and*, the same key twice by *or*; `not` negates the next word. Globs cover
//! the whole value, byte for byte. `any` is a value that is there, `none` one that is known not to
//! be. What could not be read is neither, and is not excluded by `not`: a filter shows rather
//! than hides.

mod facts;

use std::ffi::OsString;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::errors::Usage;
use crate::model::{Observation, Protocol, Reach, Role, State, Text, Wants};
use facts::Value;

/// A parsed filter; the empty one lets everything through.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Filter {
    words: Vec<Word>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Word {
    key: Key,
    test: Test,
    negated: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Test {
    Any,
    None,
    /// Ports or pids.
    Range(RangeInclusive<u32>),
    Net(IpNet),
    Glob(Vec<u8>),
}

macro_rules! keys {
    ($($variant:ident = $name:literal: $says:literal),+ $(,)?) => {
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        enum Key { $($variant),+ }

        impl Key {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            fn says(self) -> &'static str {
                match self { $(Self::$variant => $says),+ }
            }
        }
    };
}

keys! {
    Proto = "proto": "protocol: tcp, udp, unix, raw …",
    Port = "port": "local port or range",
    Rport = "rport": "remote port or range",
    Addr = "addr": "local address or network (10.0.0.0/8)",
    Raddr = "raddr": "remote address or network",
    Path = "path": "path of a UNIX socket, or @name of an abstract one",
    State = "state": "listen, established, bound …",
    Role = "role": "listener, inbound, outbound, peer, receiver …",
    Reach = "reach": "none, process, host, container, link, lan, internet, unknown",
    User = "user": "owner of the socket or effective user of a holder, name or number",
    Process = "process": "name of a holder",
    Pid = "pid": "process id of a holder, or range",
    Exe = "exe": "executable of a holder",
    Unit = "unit": "systemd unit of a holder, or a unit that it starts",
    Container = "container": "name or id of a holder's container",
    Package = "package": "package of a holder's executable",
    Interface = "interface": "interface that the socket is bound to",
    Netns = "netns": "network namespace, name or inode; current is our own",
}

/// The text below `--help`: every key with its meaning.
pub(crate) fn explanation() -> String {
    let mut text =
        String::from("Filter words (key:value; same key = or, different keys = and, `not` negates):\n");
    for key in Key::ALL {
        text.push_str(&format!("  {:<10} {}\n", key.name(), key.says()));
    }
    text.push_str(
        "Values may hold globs (* ?) that cover the whole value; `any` and `none` work with every key.",
    );
    text
}

impl Filter {
    /// Reads words as the shell hands them over.
    pub(crate) fn parse(arguments: &[OsString]) -> Result<Self, Usage> {
        let mut words = Vec::new();
        let mut negated = false;
        for argument in arguments {
            let mut bytes = argument.as_encoded_bytes();
            if bytes == b"not" {
                if negated {
                    return Err(Usage::new("`not` follows `not`").help("write it once, before the word"));
                }
                negated = true;
                continue;
            }
            if let Some(rest) = bytes.strip_prefix(b"not ") {
                negated = !negated;
                bytes = rest.trim_ascii_start();
            }
            words.push(Word::parse(bytes, negated)?);
            negated = false;
        }
        if negated {
            return Err(Usage::new("`not` stands before nothing").help("it negates the word after it"));
        }
        Ok(Self { words })
    }

    /// Facts that must be read for these words to be answered.
    pub(crate) fn needs(&self, wants: &mut Wants) {
        for word in &self.words {
            word.key.needs(wants);
            // Only who judges the packet filter knows of published ports.
            let published = matches!(&word.test, Test::Glob(name) if glob(name, b"published"));
            let told = matches!(word.key, Key::State | Key::Role);
            wants.places |= told && published != word.negated;
        }
    }

    /// Whether ports that address translation publishes may be meant.
    pub(crate) fn means_published(&self) -> bool {
        !self.words.iter().any(|word| {
            let published = matches!(&word.test, Test::Glob(name) if glob(name, b"published"));
            matches!(word.key, Key::State | Key::Role) && published == word.negated
        })
    }

    /// The protocols that these words leave; `None` when they say nothing of protocols.
    pub(crate) fn protocols(&self) -> Option<Vec<Protocol>> {
        let named = |word: &Word| match &word.test {
            Test::Glob(name) => Protocol::from_name(&String::from_utf8_lossy(name)),
            Test::Any | Test::None | Test::Range(_) | Test::Net(_) => None,
        };
        let words = self.words.iter().filter(|word| word.key == Key::Proto && !word.negated);
        // A glob may stand for a family that has no name of its own.
        let protocols = words.map(named).collect::<Option<Vec<_>>>()?;
        (!protocols.is_empty()).then_some(protocols)
    }

    pub(crate) fn matches(&self, seen: &Observation<'_>) -> bool {
        let negative = |word: &&Word| word.negated;
        if self.words.iter().filter(negative).any(|word| word.holds(seen)) {
            return false;
        }
        let positive = || self.words.iter().filter(|word| !word.negated);
        positive().all(|word| positive().any(|other| other.key == word.key && other.holds(seen)))
    }
}

impl Word {
    fn parse(bytes: &[u8], negated: bool) -> Result<Self, Usage> {
        let shown = Text::from(bytes);
        let Some(colon) = bytes.iter().position(|&byte| byte == b':') else {
            let usage = Usage::new(format!("`{shown}` is no filter word"));
            return Err(match bytes {
                b"and" => usage.help("words are joined by and; leave it out"),
                b"or" => usage.help("give the same key twice: port:80 port:443"),
                _ => usage.help("words look like proto:tcp, port:8000-9000, process:nginx; see --help"),
            });
        };
        let (name, value) = (String::from_utf8_lossy(&bytes[..colon]), &bytes[colon + 1..]);
        let Some(&key) = Key::ALL.iter().find(|key| key.name() == name) else {
            return Err(Usage::new(format!("unknown filter key `{}`", Text::from(&*name)))
                .meant(&name, Key::ALL.iter().map(|key| key.name())));
        };
        Ok(Self { key, test: key.test(value)?, negated })
    }

    fn holds(&self, seen: &Observation<'_>) -> bool {
        let facts = self.key.facts(seen);
        match &self.test {
            Test::Any => !facts.values.is_empty(),
            Test::None => facts.values.is_empty() && !facts.unknown,
            Test::Range(range) => facts.values.iter().any(|value| match value {
                Value::Number(number) => range.contains(number),
                Value::Numbers(all) => all.start() <= range.end() && range.start() <= all.end(),
                Value::Address(_) | Value::Bytes(_) => false,
            }),
            Test::Net(net) => {
                facts.values.iter().any(|value| matches!(value, Value::Address(a) if net.contains(a)))
            }
            Test::Glob(pattern) => facts.values.iter().any(|value| match value {
                Value::Bytes(bytes) => glob(pattern, bytes),
                Value::Number(number) => glob(pattern, number.to_string().as_bytes()),
                Value::Address(_) | Value::Numbers(_) => false,
            }),
        }
    }
}

impl Key {
    fn needs(self, wants: &mut Wants) {
        match self {
            Self::Process | Self::Pid => wants.owners = true,
            Self::User | Self::Exe | Self::Unit | Self::Container => {
                (wants.owners, wants.processes) = (true, true);
            }
            Self::Package => (wants.owners, wants.processes, wants.packages) = (true, true, true),
            Self::Reach | Self::Interface => wants.places = true,
            Self::Proto
            | Self::Port
            | Self::Rport
            | Self::Addr
            | Self::Raddr
            | Self::Path
            | Self::State
            | Self::Role
            | Self::Netns => {}
        }
    }

    /// The values that a word with this key may name, where they are a closed list.
    fn names(self) -> Option<Vec<String>> {
        let owned = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());
        match self {
            Self::Proto => Some(Protocol::NAMED.iter().map(|each| each.name().into_owned()).collect()),
            Self::State => owned(&State::ALL.iter().map(|each| each.name()).collect::<Vec<_>>()),
            Self::Role => owned(&Role::ALL.iter().map(|each| each.name()).collect::<Vec<_>>()),
            Self::Reach => owned(&Reach::ALL.iter().map(|each| each.name()).collect::<Vec<_>>()),
            Self::Port
            | Self::Rport
            | Self::Addr
            | Self::Raddr
            | Self::Path
            | Self::User
            | Self::Process
            | Self::Pid
            | Self::Exe
            | Self::Unit
            | Self::Container
            | Self::Package
            | Self::Interface
            | Self::Netns => None,
        }
    }

    fn test(self, value: &[u8]) -> Result<Test, Usage> {
        let shown = Text::from(value);
        let impossible = || Usage::new(format!("`{shown}` is impossible for `{}:`", self.name()));
        if value.is_empty() {
            return Err(Usage::new(format!("`{}:` has no value", self.name())).help(format!(
                "{}:any is whatever has one, {}:none what has none",
                self.name(),
                self.name()
            )));
        }
        // `none` is a class of reach of its own: "no packet of anybody gets in".
        match value {
            b"any" => return Ok(Test::Any),
            b"none" if self != Self::Reach => return Ok(Test::None),
            _ => {}
        }
        match self {
            Self::Port | Self::Rport => range(value, u32::from(u16::MAX))
                .map(Test::Range)
                .ok_or_else(|| impossible().help("a port is 0 to 65535, a range 8000-9000")),
            Self::Pid => range(value, u32::MAX)
                .map(Test::Range)
                .ok_or_else(|| impossible().help("a pid is a number, a range 100-200")),
            Self::Addr | Self::Raddr => net(value)
                .map(Test::Net)
                .ok_or_else(|| impossible().help("an address (127.0.0.1, ::1) or a network (10.0.0.0/8)")),
            Self::Proto | Self::State | Self::Role | Self::Reach => {
                let names = self.names().unwrap_or_default();
                let family = self == Self::Proto && String::from_utf8_lossy(value).starts_with("family-");
                if family || names.iter().any(|name| glob(value, name.as_bytes())) {
                    Ok(Test::Glob(value.to_vec()))
                } else {
                    Err(impossible().meant(&shown.lossy(), names.iter().map(String::as_str)))
                }
            }
            Self::Path
            | Self::User
            | Self::Process
            | Self::Exe
            | Self::Unit
            | Self::Container
            | Self::Package
            | Self::Interface
            | Self::Netns => Ok(Test::Glob(value.to_vec())),
        }
    }
}

/// `8000` or `8000-9000`; digits only, so that `+1` and ` 1` are no numbers.
fn range(value: &[u8], most: u32) -> Option<RangeInclusive<u32>> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|&n: &u32| digits && n <= most)
    };
    let text = std::str::from_utf8(value).ok()?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

fn net(value: &[u8]) -> Option<IpNet> {
    let text = std::str::from_utf8(value).ok()?;
    text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical())).or_else(|_| text.parse()).ok()
}

/// Whether `*` and `?` in `pattern` can be filled so that it is `text`. `?` is one character, or
/// one byte where the bytes are no UTF-8. At most `pattern × text` steps.
pub(crate) fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(b'?') => {
                p += 1;
                t += character(&text[t..]);
            }
            Some(&byte) if byte == text[t] => {
                p += 1;
                t += 1;
            }
            Some(_) | None => {
                let Some((after, from)) = retry else { return false };
                let from = from + character(&text[from..]);
                retry = Some((after, from));
                (p, t) = (after, from);
            }
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// Length in bytes of the first character.
fn character(text: &[u8]) -> usize {
    let head = &text[..text.len().min(4)];
    let valid = head.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    valid.chars().next().map_or(1, char::len_utf8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample::Sample;
    use crate::model::{Fact, Snapshot, SocketIndex};

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect()
    }

    fn filter(line: &str) -> Filter {
        Filter::parse(&words(line)).unwrap()
    }

    fn refused(line: &str) -> String {
        let error = anyhow::Error::new(Filter::parse(&words(line)).unwrap_err());
        format!("{error} | {}", super::super::errors::help(&error).unwrap_or_default())
    }

    /// nginx (pid 7, user www-data) holds root's listener at 0.0.0.0:8080; its unit was not read.
    fn host() -> Snapshot {
        let mut sample = Sample::new();
        let nginx = sample.process(7, "/usr/sbin/nginx");
        nginx.user = Fact::Known("www-data".into());
        nginx.euid = Fact::Known(33);
        nginx.unit = Fact::Unknown;
        sample.socket(Protocol::Tcp, State::Listen, "0.0.0.0:8080", &[7]).uid = Some(0);
        sample.snapshot
    }

    fn lets_through(line: &str) -> bool {
        let host = host();
        filter(line).matches(&host.observe(SocketIndex(0)))
    }

    #[test]
    fn words_are_joined_by_and_and_the_same_key_by_or() {
        assert!(lets_through(""));
        assert!(lets_through("proto:tcp port:8000-9000"));
        assert!(!lets_through("proto:udp port:8000-9000"));
        assert!(lets_through("port:80 port:8080"));
        assert!(lets_through("port:80 state:listen port:8080"));
        assert!(!lets_through("not process:nginx"));
        assert!(lets_through("not process:sshd not process:apache2"));
        assert!(!lets_through("not process:sshd not process:nginx"));
    }

    #[test]
    fn the_owner_of_the_socket_and_the_user_of_a_holder_both_count() {
        for line in ["user:0", "user:www-data", "user:33", "user:www*"] {
            assert!(lets_through(line), "{line}");
        }
        assert!(!lets_through("user:3"));
    }

    #[test]
    fn unknown_is_neither_any_nor_none_and_is_not_hidden_by_not() {
        assert!(lets_through("container:none"));
        assert!(!lets_through("container:any"));
        assert!(!lets_through("unit:none") && !lets_through("unit:any"), "unit was never read");
        assert!(lets_through("not unit:ssh.service"));
    }

    #[test]
    fn our_own_network_namespace_is_the_current_one() {
        assert!(lets_through("netns:current") && !lets_through("not netns:current"));
        let mut other = host();
        other.namespaces[0].own = false;
        assert!(!filter("netns:current").matches(&other.observe(SocketIndex(0))));
    }

    #[test]
    fn a_glob_covers_the_whole_value() {
        assert!(lets_through("process:ngin?") && lets_through("process:*x") && lets_through("process:n*n*"));
        assert!(!lets_through("process:ngin") && !lets_through("process:ginx"));
        assert!(glob(b"*", b"") && glob("?".as_bytes(), "ö".as_bytes()) && glob(b"?", b"\xff"));
        assert!(!glob(b"?", b"") && !glob(b"??", "ö".as_bytes()));
    }

    #[test]
    fn a_glob_of_many_stars_ends_soon() {
        let (pattern, text) = (b"*a".repeat(2_000), b"a".repeat(1_900));
        assert!(!glob(&pattern, &text));
    }

    #[test]
    fn what_cannot_be_is_an_error_with_a_hint() {
        assert!(refused("prot:tcp").ends_with("did you mean `proto`?"), "{}", refused("prot:tcp"));
        assert!(refused("proto:tpc").ends_with("did you mean `tcp`?"));
        assert!(refused("state:listening").contains("did you mean `listen`?"));
        assert!(refused("reach:wan").contains("`wan` is impossible for `reach:`"));
        assert!(refused("port:70000").contains("65535"));
        assert!(refused("port:9000-8000").contains("impossible"));
        assert!(refused("port:+80").contains("impossible"));
        assert!(refused("addr:localhost").contains("an address"));
        assert!(refused("port:").contains("has no value"));
        assert!(refused("nginx").contains("no filter word"));
        assert!(refused("port:1 and port:2").contains("leave it out"));
        assert!(refused("port:1 not").contains("stands before nothing"));
    }

    #[test]
    fn only_the_facts_that_words_ask_for_are_read() {
        let mut wants = Wants::NOTHING;
        filter("proto:tcp port:22 state:listen").needs(&mut wants);
        assert_eq!(wants, Wants::NOTHING);
        filter("process:sshd").needs(&mut wants);
        assert!(wants.owners && !wants.processes && !wants.places);
        for (words, needed) in [("state:pub*", true), ("role:published", true), ("state:listen", false)] {
            let mut wants = Wants::NOTHING;
            filter(words).needs(&mut wants);
            assert_eq!(wants.places, needed, "{words}");
        }
        for (words, meant) in [
            ("proto:tcp", true),
            ("state:pub*", true),
            ("state:listen", false),
            ("not state:published", false),
            ("not state:listen", true),
        ] {
            assert_eq!(filter(words).means_published(), meant, "{words}");
        }
    }
}
