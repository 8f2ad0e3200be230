//! A host between a WAN and a LAN, in namespaces where real programs may write rules as they like: a
//! shape is played there, what sockwarden says of each listener is compared with what the kernel did.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use sockwarden::firewall::{ask as ask_filters, expose, quote};
use sockwarden::model::{Endpoint, NamespaceId, Observation, Snapshot, SocketIndex, Verdict, Wants};
use sockwarden::source::Source;

use super::probe::{Holds, Listener, Origin, Patience, Probe, ask, within};
use super::record;
use crate::lab::{self, Netns, Outcome, Stop, check, find_program, output};
use crate::reach::{Kind, Spec, Town};
use crate::ruled::settle;

/// A way to write rules, and what is known of them beforehand.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    /// Also the name of its recorded case.
    pub(super) name: &'static str,
    /// How the rules came to be, for the recorded case; empty for one that is too large to keep.
    pub(super) how: &'static str,
    pub(super) needs: &'static [lab::Need],
    /// More than some seconds: by rotation, but in the long tier.
    pub(super) slow: bool,
    /// Ports whose verdict truly hangs on a rate, a count, chance or what the sender chooses, each with
    /// words of the rule that it hangs on: the answer must name it.
    pub(super) doubt: &'static [(Kind, u16, &'static str)],
    /// No answer but those may be unknown.
    pub(super) settled: bool,
    pub(super) make: fn(&mut Scene) -> Outcome,
}

/// What the host serves: the address it is bound to tells the family.
const SERVED: [(Kind, &str); 13] = [
    (Kind::Tcp, "[::]:22"),
    (Kind::Tcp, "0.0.0.0:80"),
    (Kind::Tcp, "[::]:443"),
    (Kind::Tcp, "[::]:8080"),
    (Kind::Tcp, "203.0.113.5:3306"),
    (Kind::Tcp, "192.168.7.1:445"),
    (Kind::Tcp, "127.0.0.1:5432"),
    (Kind::Tcp, "[::]:10250"),
    (Kind::Udp, "[::]:53"),
    (Kind::Udp, "0.0.0.0:123"),
    (Kind::Udp, "[::]:5353"),
    (Kind::Udp, "[::]:51820"),
    (Kind::Udp, "0.0.0.0:68"),
];

pub(super) struct Scene {
    pub(super) town: Town,
    /// Host, WAN, LAN, then what a shape adds.
    places: Vec<File>,
    pub(super) listeners: Vec<Listener>,
    names: Vec<String>,
    /// Ports of the first listeners, which the host serves.
    served: Vec<u16>,
    probes: Vec<Probe>,
    origins: Vec<Origin>,
    scopes: [u32; 2],
    links: [(&'static str, IpAddr); 2],
    /// Namespaces that must live as long as the rules.
    pub(super) keep: Vec<Netns>,
    last: Vec<String>,
}

/// How many answers of each kind.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Count {
    all: usize,
    open: usize,
    unknown: usize,
    /// Those that must be: the verdict hangs on a rate, a count, chance or what the sender chooses, and
    /// the rule is named.
    doubtful: usize,
}

/// One question: listener, interface, source, destination as the sender writes it.
pub(super) type Question = (usize, String, IpAddr, SocketAddr);

/// What came of a question.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) got_in: bool,
    pub(super) said: Option<Verdict>,
    /// The rules that were named for it.
    pub(super) because: Vec<String>,
}

impl Answer {
    pub(super) fn unknown(&self) -> bool {
        self.said == Some(Verdict::Unknown)
    }
}

/// Folders that programs write to when they write rules: copies on a file system in memory.
pub(super) fn own_folders() -> Outcome {
    let mount = |words: &[&str]| output(Command::new("mount").args(words)).map(|_| ());
    mount(&["-t", "tmpfs", "tmpfs", "/mnt"])?;
    for folder in ["etc", "var"] {
        for part in ["upper", "work"] {
            std::fs::create_dir_all(format!("/mnt/{folder}/{part}"))?;
        }
        let layers = format!("lowerdir=/{folder},upperdir=/mnt/{folder}/upper,workdir=/mnt/{folder}/work");
        mount(&["-t", "overlay", "overlay", "-o", &layers, &format!("/{folder}")])?;
    }
    mount(&["-t", "tmpfs", "tmpfs", "/run"])?;
    ["/run/netns", "/run/lock"].into_iter().try_for_each(std::fs::create_dir_all)?;
    Ok(())
}

/// In a box of its own: plays the shape, and says how it went in one line.
pub(super) fn play(shape: &Shape) -> Outcome<String> {
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(300));
        eprintln!("still not done after 300 s");
        std::process::exit(3);
    });
    own_folders()?;
    let mut scene = Scene::new(&SERVED)?;
    (shape.make)(&mut scene)?;
    let (snapshot, found) = scene.look()?;
    let (answers, wrong) = scene.compare(&snapshot, &found)?;
    let count = scene.count(shape, &answers);
    if let Some(folder) = std::env::var_os("SOCKWARDEN_RECORD")
        && !shape.how.is_empty()
    {
        record::write(folder.as_ref(), shape, &snapshot, &found, &answers)?;
    }
    let line = format!(
        "{:<32} {:>6} answers, {:>5} got in, {:>5} unknown, {:>4} rightly unknown, {:>3} wrong",
        shape.name,
        count.all,
        count.open,
        count.unknown,
        count.doubtful,
        wrong.len()
    );
    if !wrong.is_empty() {
        let some = wrong[..wrong.len().min(40)].join("\n");
        return Err(Stop::Fail(format!("{line}\n{some}\ngaps: {:?}", snapshot.gaps)));
    }
    if std::env::var_os("SOCKWARDEN_UNKNOWN").is_some() {
        println!("{}", scene.unknowns(shape, &answers));
    }
    if shape.settled && count.unknown > 0 {
        return Err(Stop::Fail(format!(
            "{line}\n{}\ngaps: {:?}",
            scene.unknowns(shape, &answers),
            snapshot.gaps
        )));
    }
    if count.open * 20 < count.all {
        return Err(Stop::Fail(format!("{line}: the laboratory is broken")));
    }
    Ok(line)
}

impl Drop for Scene {
    fn drop(&mut self) {
        for words in &self.last {
            let _ = self.run(words);
        }
    }
}

impl Scene {
    pub(super) fn new(served: &[(Kind, &str)]) -> Outcome<Self> {
        let town = Town::build(true)?;
        settle(&town)?;
        for netns in [&town.wan, &town.lan] {
            hide(netns)?;
        }
        let places: Vec<File> = [&town.host, &town.wan, &town.lan]
            .into_iter()
            .map(|netns| File::open(netns.path()))
            .collect::<Result<_, _>>()?;
        // The host is where we are: other programs start here, and its way to everybody is ours.
        // SAFETY: a descriptor of a network namespace.
        check(unsafe { libc::setns(places[0].as_raw_fd(), libc::CLONE_NEWNET) })?;
        let link = |netns: &Netns, name| Ok::<_, Stop>(IpAddr::from(*town.link_local(netns, name)?.ip()));
        let links = [("wan0", link(&town.host, "wan0")?), ("lan0", link(&town.host, "lan0")?)];
        let scopes = [town.index(&town.wan, "w0")?, town.index(&town.lan, "l0")?];
        let mut origins = Vec::new();
        let mut add = |place, entry: &str, text: &str, device| -> Outcome {
            let mut source = SocketAddr::new(text.parse()?, 0);
            if let SocketAddr::V6(v6) = &mut source
                && v6.ip().is_unicast_link_local()
            {
                v6.set_scope_id(scopes[usize::from(place == 2)]);
            }
            origins.push(Origin { place, entry: entry.to_owned(), source, device });
            Ok(())
        };
        for source in ["127.0.0.1", "203.0.113.5", "192.168.7.1", "::1", "fd07::1"] {
            add(0, "lo", source, None)?;
        }
        for source in ["203.0.113.9", "8.8.8.8", "2001:db8:1::9", "2a00::8"] {
            add(1, "wan0", source, Some("w0"))?;
        }
        add(1, "wan0", &link(&town.wan, "w0")?.to_string(), Some("w0"))?;
        for source in ["192.168.7.9", "fd07::9"] {
            add(2, "lan0", source, Some("l0"))?;
        }
        add(2, "lan0", &link(&town.lan, "l0")?.to_string(), Some("l0"))?;
        let mut scene = Self {
            town,
            places,
            listeners: Vec::new(),
            names: Vec::new(),
            served: served
                .iter()
                .map(|(_, address)| Ok(address.parse::<SocketAddr>()?.port()))
                .collect::<Outcome<_>>()?,
            probes: Vec::new(),
            origins,
            scopes,
            links,
            keep: Vec::new(),
            last: Vec::new(),
        };
        for (kind, address) in served {
            let listener = scene.listen(0, *kind, address)?;
            scene.ask_port(listener, address.parse::<SocketAddr>()?.port(), &[])?;
        }
        Ok(scene)
    }

    /// A listener in one of the places.
    pub(super) fn listen(&mut self, place: usize, kind: Kind, address: &str) -> Outcome<usize> {
        let spec = Spec { protocol: kind, address: address.parse()?, v6only: false, device: None };
        let fd = within(&self.places[place], || spec.open())?
            .map_err(|error| Stop::Fail(format!("{kind:?} {address}: {error}")))?;
        let inode = std::fs::metadata(format!("/proc/self/fd/{}", fd.as_raw_fd()))?.ino();
        self.listeners.push(Listener { kind, holds: Holds::Own(fd, inode), translated: place != 0 });
        let place = if place == 0 { String::new() } else { format!(" in place {place}") };
        self.names.push(format!("{kind:?} {address}{place}"));
        Ok(self.listeners.len() - 1)
    }

    /// A proxy's socket on the host in front of a listener of ours.
    pub(super) fn proxy(&mut self, kind: Kind, address: &str, behind: usize) -> Outcome<usize> {
        let holds = Holds::Proxy(address.parse()?, behind);
        self.listeners.push(Listener { kind, holds, translated: true });
        self.names.push(format!("{kind:?} {address} of a proxy"));
        Ok(self.listeners.len() - 1)
    }

    /// Every origin asks for this listener at a port of every address of the host, and at others.
    pub(super) fn ask_port(&mut self, listener: usize, port: u16, others: &[&str]) -> Outcome {
        for at in 0..self.origins.len() {
            self.ask_from(at, listener, port, others)?;
        }
        Ok(())
    }

    fn ask_from(&mut self, origin: usize, listener: usize, port: u16, others: &[&str]) -> Outcome {
        const OWN: [&str; 6] = ["127.0.0.1", "203.0.113.5", "192.168.7.1", "::1", "2001:db8:1::5", "fd07::1"];
        let origin = self.origins[origin].clone();
        let (kind, translated) = (self.listeners[listener].kind, self.listeners[listener].translated);
        let mut found: Vec<(IpAddr, u32)> = Vec::new();
        for text in OWN.iter().chain(others) {
            let to: IpAddr = text.parse()?;
            // What a sender sends to its own address leaves it by no cable.
            let leaves = !to.is_loopback() && to != origin.source.ip();
            if origin.place == 0 || leaves {
                found.push((to, 0));
            }
        }
        for (name, link) in &self.links {
            if origin.entry == *name {
                let scope = self.scopes[usize::from(origin.place == 2)];
                found.push((*link, scope));
                if kind != Kind::Tcp && !translated {
                    let all = if origin.place == 2 { "192.168.7.255" } else { "203.0.113.255" };
                    found.extend([
                        (all.parse()?, 0),
                        ("255.255.255.255".parse()?, 0),
                        ("ff02::1".parse()?, scope),
                    ]);
                }
            }
        }
        // A proxy has a socket for each family.
        if let Holds::Proxy(at, _) = self.listeners[listener].holds {
            found.retain(|(to, _)| to.is_ipv4() == at.is_ipv4());
        }
        for (to, scope) in found.into_iter().filter(|(to, _)| to.is_ipv4() == origin.source.is_ipv4()) {
            let mut to = SocketAddr::new(to, port);
            if let SocketAddr::V6(v6) = &mut to {
                v6.set_scope_id(scope);
            }
            self.probes.push(Probe { listener, origin: origin.clone(), to });
        }
        Ok(())
    }

    /// Neighbours in the LAN ask for this listener at the host's loopback address too, of IPv4.
    pub(super) fn ask_loopback(&mut self, listener: usize, port: u16) {
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        for origin in self.origins.iter().filter(|each| each.place == 2 && each.source.is_ipv4()) {
            self.probes.push(Probe { listener, origin: origin.clone(), to });
        }
    }

    /// Takes in another network namespace of this computer, by a path that leads into it: its number
    /// among the places.
    pub(super) fn place(&mut self, path: impl AsRef<Path>) -> Outcome<usize> {
        self.places.push(File::open(path)?);
        Ok(self.places.len() - 1)
    }

    /// Lets one more sender ask for all that the host serves.
    pub(super) fn sender(&mut self, place: usize, entry: &str, source: &str) -> Outcome {
        let source = SocketAddr::new(source.parse()?, 0);
        self.origins.push(Origin { place, entry: entry.to_owned(), source, device: None });
        for listener in 0..self.served.len() {
            self.ask_from(self.origins.len() - 1, listener, self.served[listener], &[])?;
        }
        Ok(())
    }

    /// What sockwarden sees: the whole way from the kernel to the exposure.
    pub(super) fn look(&self) -> Outcome<(Snapshot, Vec<SocketIndex>)> {
        let wants = Wants { owners: false, processes: false, packages: false, ..Wants::EVERYTHING };
        let source = Source::live()?;
        let mut snapshot = sockwarden::collect::sockets(&source, &wants);
        sockwarden::enrich::context(&mut snapshot, &source, &wants);
        ask_filters(&mut snapshot, &source);
        quote(&mut snapshot, &source);
        expose(&mut snapshot, None);
        let index = |listener: &Listener| {
            let fits = |each: &Observation<'_>| match listener.holds {
                Holds::Own(_, inode) => each.socket.inode == inode,
                Holds::Proxy(at, _) => {
                    each.socket.netns == NamespaceId(0)
                        && each.socket.local == Endpoint::Inet(at.ip(), at.port())
                        && each.socket.protocol.name() == format!("{:?}", listener.kind).to_lowercase()
                }
            };
            let seen = snapshot.observations().find(fits);
            seen.map(|each| each.index).ok_or_else(|| format!("{:?} was not seen", listener.holds))
        };
        let found = self.listeners.iter().map(index).collect::<Result<_, _>>()?;
        Ok((snapshot, found))
    }

    /// Asks the kernel; where it seems to keep out what was said to get in, once more with patience.
    pub(super) fn compare(
        &self,
        snapshot: &Snapshot,
        found: &[SocketIndex],
    ) -> Outcome<(BTreeMap<Question, Answer>, Vec<String>)> {
        let all: Vec<usize> = (0..self.probes.len()).collect();
        let mut got_in = ask(&self.places, &self.listeners, &self.probes, &all, Patience::SHORT)?;
        let said: Vec<Option<&sockwarden::model::Path>> =
            self.probes.iter().map(|probe| said(snapshot, found[probe.listener], probe)).collect();
        // A record is for good: there everything that did not come is asked for twice.
        let again = |at: &usize| {
            !got_in.contains(at) && (said[*at].is_some() || std::env::var_os("SOCKWARDEN_RECORD").is_some())
        };
        let late: Vec<usize> = all.into_iter().filter(again).collect();
        if !late.is_empty() {
            got_in.extend(ask(&self.places, &self.listeners, &self.probes, &late, Patience::LONG)?);
        }
        let mut answers: BTreeMap<Question, Answer> = BTreeMap::new();
        for (at, probe) in self.probes.iter().enumerate() {
            let mut to = probe.to;
            if let SocketAddr::V6(v6) = &mut to {
                v6.set_scope_id(0);
            }
            let question = (probe.listener, probe.origin.entry.clone(), probe.origin.source.ip(), to);
            let answer = answers.entry(question).or_insert_with(|| Answer {
                got_in: false,
                said: said[at].map(|path| path.verdict),
                because: said[at].map(|path| named(snapshot, path)).unwrap_or_default(),
            });
            answer.got_in |= got_in.contains(&at);
        }
        let wrong = answers
            .iter()
            .filter(|(_, answer)| match answer.said {
                Some(Verdict::Unknown) => false,
                Some(Verdict::Accept) => !answer.got_in,
                None => answer.got_in,
            })
            .map(|(question, answer)| self.line(question, answer))
            .collect();
        Ok((answers, wrong))
    }

    fn line(&self, (listener, entry, source, to): &Question, answer: &Answer) -> String {
        let truth = if answer.got_in { "in" } else { "out" };
        let because = if answer.unknown() { answer.because.join(" | ") } else { String::new() };
        let (name, said) = (&self.names[*listener], answer.said);
        format!("{name}: {source} -> {to} by {entry}: kernel {truth}, said {said:?} {because}")
    }

    /// Whether the answer must be unknown, and names the rule that it hangs on.
    fn doubtful(&self, shape: &Shape, (listener, _, _, to): &Question, answer: &Answer) -> bool {
        let hangs = |(kind, port, words): &(Kind, u16, &str)| {
            (*kind, *port) == (self.listeners[*listener].kind, to.port())
                && answer.because.iter().any(|rule| rule.contains(words))
        };
        answer.unknown() && shape.doubt.iter().any(hangs)
    }

    fn count(&self, shape: &Shape, answers: &BTreeMap<Question, Answer>) -> Count {
        let mut count = Count { all: answers.len(), ..Count::default() };
        for (question, answer) in answers {
            count.open += usize::from(answer.got_in);
            let right = self.doubtful(shape, question, answer);
            count.doubtful += usize::from(right);
            count.unknown += usize::from(answer.unknown() && !right);
        }
        count
    }

    fn unknowns(&self, shape: &Shape, answers: &BTreeMap<Question, Answer>) -> String {
        let doubted = answers
            .iter()
            .filter(|(question, answer)| answer.unknown() && !self.doubtful(shape, question, answer));
        let lines: Vec<String> =
            doubted.take(100).map(|(question, answer)| self.line(question, answer)).collect();
        lines.join("\n")
    }

    /// Runs a program on the host to its end: words parted by blanks.
    pub(super) fn run(&self, words: &str) -> Outcome<String> {
        self.run_words(&words.split_whitespace().collect::<Vec<_>>())
    }

    pub(super) fn run_words<S: AsRef<str>>(&self, words: &[S]) -> Outcome<String> {
        let [program, parts @ ..] = words else { return Ok(String::new()) };
        let program = program.as_ref();
        let found = find_program(program).ok_or_else(|| format!("no program {program}"))?;
        let said = output(Command::new(found).args(parts.iter().map(AsRef::as_ref)))?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    /// What is run when all was asked, whatever came of it: what the box's end does not take away.
    pub(super) fn at_end(&mut self, words: &str) {
        self.last.push(words.to_owned());
    }

    /// Runs several programs in order, a line each.
    pub(super) fn run_all(&self, lines: &str) -> Outcome {
        lines
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .try_for_each(|line| self.run(line).map(|_| ()))
    }

    /// Starts a program that goes on until the box ends; its words go to `/mnt/PROGRAM.log`.
    pub(super) fn start(&self, words: &str) -> Outcome {
        let mut parts = words.split_whitespace();
        let program = parts.next().unwrap_or_default();
        let found = find_program(program).ok_or_else(|| format!("no program {program}"))?;
        let log = File::create(format!("/mnt/{program}.log"))?;
        Command::new(found).args(parts).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok(())
    }

    /// Tries a command until it succeeds.
    pub(super) fn until(&self, words: &str) -> Outcome {
        lab::wait(words, || self.run(words).ok().map(|_| ()))
    }

    /// Gives a program this text on its standard input.
    pub(super) fn feed(&self, program: &[&str], text: &str) -> Outcome {
        let found = find_program(program[0]).ok_or_else(|| format!("no program {}", program[0]))?;
        let file = Path::new("/mnt/feed");
        std::fs::write(file, text)?;
        let done = Command::new(found).args(&program[1..]).stdin(File::open(file)?).output()?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            return Err(Stop::Fail(format!("{program:?}: {}: {said}", done.status)));
        }
        Ok(())
    }
}

/// The rules that a path names, in words.
fn named(snapshot: &Snapshot, path: &sockwarden::model::Path) -> Vec<String> {
    let evidence = path.because.iter().filter_map(|index| snapshot.evidence.get(*index as usize));
    evidence.map(|each| format!("{} {}", each.place, each.text)).collect()
}

/// What the exposure of a listener says of a probe.
fn said<'s>(
    snapshot: &'s Snapshot,
    listener: SocketIndex,
    probe: &Probe,
) -> Option<&'s sockwarden::model::Path> {
    let exposure = snapshot.observe(listener).socket.exposure.as_ref()?;
    let (source, to) = (probe.origin.source.ip(), probe.to);
    let covers = |path: &&sockwarden::model::Path| {
        path.entry.netns == NamespaceId(0)
            && path.entry.interfaces.iter().any(|name| name.as_bytes() == probe.origin.entry.as_bytes())
            && path.sources.iter().any(|range| range.contains(source))
            && path.destinations.iter().any(|range| range.contains(to.ip()))
            && path
                .ports
                .as_ref()
                .is_none_or(|all| all.iter().any(|range| range.first <= to.port() && to.port() <= range.last))
    };
    exposure.paths.iter().find(covers)
}

/// A namespace of another computer: still entered by its name, but mounted nowhere.
fn hide(netns: &Netns) -> Outcome {
    let file = File::open(netns.path())?;
    output(Command::new("umount").arg("-l").arg(netns.path()))?;
    std::fs::remove_file(netns.path())?;
    symlink(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()), netns.path())?;
    std::mem::forget(file); // as long as the box
    Ok(())
}
