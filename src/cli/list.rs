//! `list`: every socket with its owners, with the letters of `ss`.

use clap::Args as ClapArgs;

use super::args::{Answer, Judging, Sight, Words, forms};
use super::errors::Usage;
use super::exit::{Exit, Threshold};
use super::filter::{Filter, explanation};
use super::session::Session;
use crate::finding::Report;
use crate::model::{Endpoint, Observation, Protocol, Role, SocketType, State, Wants};
use crate::output::{self, Column, Format, ListOptions, Question, SortKey};

#[derive(ClapArgs, Debug)]
#[command(
    after_help = explanation(),
    args_override_self = true,
    mut_arg("format", forms(Format::TABLES))
)]
pub(crate) struct Args {
    #[command(flatten)]
    words: Words,
    #[command(flatten)]
    letters: Letters,
    /// Columns to show, in this order, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',', help_heading = "Table")]
    columns: Vec<String>,
    /// Columns to sort by, separated by commas; -NAME turns the order around
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        allow_hyphen_values = true,
        help_heading = "Table"
    )]
    sort: Vec<String>,
    /// Only the process ids of the holders, one a line
    #[arg(long, conflicts_with_all = ["columns", "sort", "json", "format"], help_heading = "Table")]
    pids: bool,
    #[command(flatten)]
    sight: Sight,
    #[command(flatten)]
    judging: Judging,
    #[command(flatten)]
    answer: Answer,
}

/// The letters of ss(8).
#[derive(ClapArgs, Clone, Copy, Debug)]
struct Letters {
    /// TCP and MPTCP
    #[arg(short, long)]
    tcp: bool,
    /// UDP and UDP-Lite
    #[arg(short, long)]
    udp: bool,
    /// UNIX sockets
    #[arg(short = 'x', long)]
    unix: bool,
    /// Raw and ICMP sockets
    #[arg(short = 'w', long)]
    raw: bool,
    /// Only what waits for callers: listeners, and unconnected datagram and raw sockets
    #[arg(short, long, overrides_with = "all")]
    listening: bool,
    /// Listeners and all others (the default; undoes -l)
    #[arg(short, long, overrides_with = "listening")]
    all: bool,
    /// Numbers instead of names for ports (always so: nothing is ever looked up)
    #[arg(short, long)]
    numeric: bool,
    /// Who holds each socket
    #[arg(short, long)]
    processes: bool,
    /// IPv4 only
    #[arg(short = '4', long)]
    ipv4: bool,
    /// IPv6 only
    #[arg(short = '6', long)]
    ipv6: bool,
    /// No line of headings
    #[arg(short = 'H', long)]
    no_header: bool,
}

impl Letters {
    fn any(&self) -> bool {
        let Self { tcp, udp, unix, raw, listening, all, numeric, processes, ipv4, ipv6, no_header: _ } =
            *self;
        tcp || udp || unix || raw || listening || all || numeric || processes || ipv4 || ipv6
    }

    /// Protocols that the letters leave, where they leave out any.
    fn protocols(&self) -> Option<Vec<Protocol>> {
        let named = [
            (self.tcp, &[Protocol::Tcp, Protocol::Mptcp][..]),
            (self.udp, &[Protocol::Udp, Protocol::UdpLite]),
            (self.unix, &[Protocol::Unix]),
            (self.raw, &[Protocol::Raw, Protocol::Icmp]),
        ];
        let wanted: Vec<_> =
            named.into_iter().filter(|(on, _)| *on).flat_map(|(_, p)| p.iter().copied()).collect();
        if !wanted.is_empty() {
            return Some(wanted);
        }
        let ip = || Protocol::NAMED.into_iter().filter(|each| each.is_ip()).collect();
        (self.ipv4 || self.ipv6).then(ip)
    }

    /// `protocols`: what [`Self::protocols`] said.
    fn matches(&self, protocols: Option<&[Protocol]>, seen: &Observation<'_>) -> bool {
        let socket = seen.socket;
        let family = match &socket.local {
            Endpoint::Inet(address, _) => {
                self.ipv4 == self.ipv6 || address.is_ipv4() && self.ipv4 || address.is_ipv6() && self.ipv6
            }
            // An address family says nothing of the others: a protocol letter asks for them.
            Endpoint::None
            | Endpoint::UnixPath(_)
            | Endpoint::UnixAbstract(_)
            | Endpoint::Vsock { .. }
            | Endpoint::Interface(_) => true,
        };
        let protocol = protocols.is_none_or(|wanted| wanted.contains(&socket.protocol));
        protocol && family && (!self.listening || waits(seen))
    }
}

/// Whether a socket waits for callers, as far as `ss -l` would show it.
fn waits(seen: &Observation<'_>) -> bool {
    let socket = seen.socket;
    let datagram = matches!(socket.kind, SocketType::Dgram | SocketType::Raw);
    matches!(socket.role, Role::Listener | Role::Receiver | Role::Published)
        || socket.state == State::Listen
        || socket.protocol.is_ip() && datagram && matches!(socket.state, State::Bound | State::Unconnected)
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let filter = Filter::parse(&args.words.filter)?;
    let format = args.answer.format(Format::TABLES)?;
    let columns = columns(&args)?;
    let sort = args.sort.iter().map(|word| sort_key(word)).collect::<Result<Vec<_>, _>>()?;
    let threshold = args.judging.fail_on.unwrap_or(Threshold::Never);
    let session = Session::open(&args.answer.manner, &args.judging.ground)?;
    let sight = session.sight(&args.sight);
    let judged = threshold != Threshold::Never;

    let mut wants = match (judged, format) {
        (true, _) => Wants::EVERYTHING,
        (false, Format::Human) => Wants::NOTHING,
        (false, _) => Wants { streams: false, texts: true, ..Wants::EVERYTHING },
    };
    filter.needs(&mut wants);
    let shown = columns.iter().copied().chain(sort.iter().map(|key| key.column));
    shown.for_each(|column| needs(column, &mut wants));
    wants.owners |= args.pids;
    let lettered = args.letters.protocols();
    let protocols = both(lettered.clone(), filter.protocols());
    // Which rows there are hangs on no column, and only who judges the packet filter knows of published
    // ports.
    let offered = |all: &Vec<Protocol>| {
        all.iter().any(|each| matches!(each, Protocol::Tcp | Protocol::Udp | Protocol::Sctp))
    };
    wants.places |= !args.pids && filter.means_published() && protocols.as_ref().is_none_or(offered);

    let mut subject = session.look(&sight, sight.wants(wants))?;
    let mut report = Report::default();
    if judged {
        let rules = session.rules()?;
        session.judge(&mut subject, &rules)?;
    } else if wants.places {
        session.expose(&mut subject);
    }
    let mut selection = subject
        .select(&sight, |seen| args.letters.matches(lettered.as_deref(), seen) && filter.matches(seen));
    if judged {
        report = subject.report_on(&selection);
    }
    output::sort(&subject.snapshot, &mut selection, &sort);
    let question = Question { owners: wants.owners, reach: wants.places, protocols, ..sight.question() };
    let view = subject.view(&report, &selection, &question, &[]);
    let options = ListOptions { columns, header: !args.letters.no_header };
    session.console.answer(|out| match args.pids {
        true => pids(&view, out),
        false => output::list(out, format, &view, &options, &session.console.style),
    })?;
    if format == Format::Human {
        session.console.gaps(&view);
    }
    let exit = session.end(&view, Some(threshold), sight.strict);
    // The process ends now: to free 100,000 sockets one by one would be of no use.
    std::mem::forget(subject);
    Ok(exit)
}

fn pids(view: &output::View<'_>, out: &mut dyn std::io::Write) -> std::io::Result<()> {
    let pids: std::collections::BTreeSet<u32> =
        view.observations().flat_map(|seen| seen.owners()).map(|owner| owner.process.pid).collect();
    pids.iter().try_for_each(|pid| writeln!(out, "{pid}"))
}

fn both(one: Option<Vec<Protocol>>, other: Option<Vec<Protocol>>) -> Option<Vec<Protocol>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.into_iter().filter(|each| other.contains(each)).collect()),
        (one, other) => one.or(other),
    }
}

/// With letters, what `ss` would show and the reach; alone, or with `-p`, the holders as well.
fn columns(args: &Args) -> Result<Vec<Column>, Usage> {
    if args.columns.is_empty() {
        let whole = args.letters.processes || !args.letters.any();
        let drop = |column: &Column| whole || !matches!(column, Column::Unit | Column::Container);
        return Ok(Column::usual(whole).into_iter().filter(drop).collect());
    }
    args.columns.iter().map(|name| Column::from_name(name).ok_or_else(|| no_column(name))).collect()
}

fn sort_key(word: &str) -> Result<SortKey, Usage> {
    SortKey::from_name(word).ok_or_else(|| no_column(word.trim_start_matches('-')))
}

fn no_column(name: &str) -> Usage {
    let names = Column::ALL.iter().map(|column| column.name());
    Usage::new(format!("there is no column `{}`", crate::model::Text::from(name))).meant(name, names)
}

/// Facts that a column shows.
fn needs(column: Column, wants: &mut Wants) {
    match column {
        Column::Netid
        | Column::State
        | Column::RecvQ
        | Column::SendQ
        | Column::Local
        | Column::Port
        | Column::Peer
        | Column::Role
        | Column::Netns
        | Column::Inode
        | Column::Cookie
        | Column::Id => {}
        Column::Process | Column::Pid | Column::Gap => wants.owners = true,
        Column::Reach | Column::Interface | Column::Access => wants.places = true,
        Column::Unit | Column::Container => (wants.owners, wants.units) = (true, true),
        Column::User | Column::Exe => (wants.owners, wants.processes) = (true, true),
        Column::Package => (wants.owners, wants.processes, wants.packages) = (true, true, true),
    }
}
