//! What a command hands to its output: plain values, filled by `cli`.

use crate::finding::{Change, Confidence, PastChange, PastDoor, PastTalk, Remedy, Report, Severity, Watched};
use crate::model::{
    FilterState, Gap, Host, Inquiry, NamespaceId, Observation, Protocol, Reach, Snapshot, SocketIndex,
};

/// How an answer is written. Not every answer has every form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Human,
    Json,
    /// One object a line.
    Jsonl,
    Sarif,
    Junit,
    /// Workflow commands of GitHub Actions.
    Github,
    Markdown,
}

impl Format {
    pub const ALL: &'static [Self] =
        &[Self::Human, Self::Json, Self::Jsonl, Self::Sarif, Self::Junit, Self::Github, Self::Markdown];

    /// Formats of a table of sockets, rules or differences; those for findings alone are left out.
    pub const TABLES: &'static [Self] = &[Self::Human, Self::Json, Self::Jsonl, Self::Markdown];

    /// Formats of `why` and `doctor`.
    pub const SCREENS: &'static [Self] = &[Self::Human, Self::Json];

    pub fn name(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Sarif => "sarif",
            Self::Junit => "junit",
            Self::Github => "github",
            Self::Markdown => "markdown",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|format| format.name() == name)
    }
}

/// How text for a human looks; the caller decides, from `--color`, the environment and the
/// terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Style {
    pub color: bool,
    /// Columns of the terminal; `None` for a pipe, where nothing is shortened.
    pub width: Option<usize>,
    /// `-v`: evidence, references and suppressed findings too.
    pub verbose: bool,
}

/// What was asked, so that `visibility.complete` is about that and nothing else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// Whether the answer names owners.
    pub owners: bool,
    /// Whether the answer depends on who can reach a socket.
    pub reach: bool,
    /// `--netns current`.
    pub own_namespace_only: bool,
    /// The protocols that a filter leaves; `None` for all.
    pub protocols: Option<Vec<Protocol>>,
}

impl Question {
    pub const EVERYTHING: Self =
        Self { owners: true, reach: true, own_namespace_only: false, protocols: None };
}

/// A snapshot as one command looks at it.
#[derive(Clone, Copy, Debug)]
pub struct View<'v> {
    pub snapshot: &'v Snapshot,
    pub report: &'v Report,
    /// The sockets that the filters left, in the order in which they are to be written.
    pub selection: &'v [SocketIndex],
    pub question: &'v Question,
    /// The rules that were asked; empty where no rule was.
    pub rules: &'v [RuleRow],
}

impl<'v> View<'v> {
    pub fn observations(&self) -> impl Iterator<Item = Observation<'v>> + use<'v> {
        let snapshot = self.snapshot;
        self.selection.iter().map(move |index| snapshot.observe(*index))
    }

    /// Whether nothing that the question is about stayed out of sight: every socket in scope has
    /// its owner, every reach that was needed is certain as far as reading goes, and no namespace
    /// or family in scope went unlisted. `--strict` asks for this.
    pub fn complete(&self) -> bool {
        !self.snapshot.gaps.iter().any(|gap| self.hides_sockets(gap))
            && !self.observations().any(|each| self.owner_hidden(&each) || self.reach_unread(&each))
    }

    fn owner_hidden(&self, each: &Observation<'_>) -> bool {
        self.question.owners && each.socket.owner_gap == Some(crate::model::OwnerGap::Hidden)
    }

    /// Doubt inside a rule that was read does not count; a filter, a list of interfaces or a bound
    /// interface that was not read does.
    fn reach_unread(&self, each: &Observation<'_>) -> bool {
        let Some(exposure) = each.socket.exposure.as_deref().filter(|_| self.question.reach) else {
            return false;
        };
        let unread = |id: NamespaceId| {
            let namespace = self.snapshot.namespace(id);
            namespace.filter != FilterState::None || namespace.interfaces.is_unknown()
        };
        !exposure.certain
            && (exposure.paths.is_empty()
                || each.socket.interface_unread()
                || unread(each.socket.netns)
                || exposure.paths.iter().any(|path| unread(path.entry.netns)))
    }

    fn hides_sockets(&self, gap: &Gap) -> bool {
        let Some((protocol, netns)) = gap.unlisted else { return false };
        let protocol_asked = match (&self.question.protocols, protocol) {
            (Some(asked), Some(hidden)) => asked.contains(&hidden),
            (None, _) | (_, None) => true,
        };
        let own_only = self.question.own_namespace_only;
        let in_scope = |id| self.snapshot.namespace(id).own;
        protocol_asked && (!own_only || netns.is_some_and(in_scope))
    }
}

/// A column of `list`. The first six are those of `ss`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Column {
    Netid,
    State,
    RecvQ,
    SendQ,
    Local,
    Peer,
    Process,
    Reach,
    Unit,
    Container,
    Role,
    User,
    Pid,
    Exe,
    Package,
    Netns,
    Interface,
    Inode,
    Cookie,
    Access,
    Gap,
    Id,
    Port,
}

impl Column {
    pub const ALL: &'static [Self] = &[
        Self::Netid,
        Self::State,
        Self::RecvQ,
        Self::SendQ,
        Self::Local,
        Self::Peer,
        Self::Process,
        Self::Reach,
        Self::Unit,
        Self::Container,
        Self::Role,
        Self::User,
        Self::Pid,
        Self::Exe,
        Self::Package,
        Self::Netns,
        Self::Interface,
        Self::Inode,
        Self::Cookie,
        Self::Access,
        Self::Gap,
        Self::Id,
        Self::Port,
    ];

    /// What `list` shows unless told otherwise.
    pub fn usual(processes: bool) -> Vec<Self> {
        let process = processes.then_some(Self::Process);
        let before = [Self::Netid, Self::State, Self::RecvQ, Self::SendQ, Self::Local, Self::Peer];
        before.into_iter().chain(process).chain([Self::Reach, Self::Unit, Self::Container]).collect()
    }

    /// The word of `--columns` and `--sort`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Netid => "netid",
            Self::State => "state",
            Self::RecvQ => "recv-q",
            Self::SendQ => "send-q",
            Self::Local => "local",
            Self::Peer => "peer",
            Self::Process => "process",
            Self::Reach => "reach",
            Self::Unit => "unit",
            Self::Container => "container",
            Self::Role => "role",
            Self::User => "user",
            Self::Pid => "pid",
            Self::Exe => "exe",
            Self::Package => "package",
            Self::Netns => "netns",
            Self::Interface => "interface",
            Self::Inode => "inode",
            Self::Cookie => "cookie",
            Self::Access => "access",
            Self::Gap => "gap",
            Self::Id => "id",
            Self::Port => "port",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|column| column.name() == name)
    }
}

/// How `list` draws its table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListOptions {
    pub columns: Vec<Column>,
    /// False with `-H`.
    pub header: bool,
}

/// One word of `--sort`; a leading `-` turns the order around.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SortKey {
    pub column: Column,
    pub descending: bool,
}

impl SortKey {
    /// `port`, `-port`: the name of a column.
    pub fn from_name(word: &str) -> Option<Self> {
        let (name, descending) = word.strip_prefix('-').map_or((word, false), |rest| (rest, true));
        Some(Self { column: Column::from_name(name)?, descending })
    }
}

/// A rule that matched, could not be decided, or failed on one fact alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    pub rule: String,
    pub title: String,
    pub severity: Severity,
    pub outcome: Outcome,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    Matched,
    /// These facts could not be read.
    Undecided {
        fields: Vec<String>,
    },
    /// Everything but this: the condition as the rule states it, and what was found instead.
    NearMiss {
        condition: String,
        found: String,
    },
}

/// One socket as `why` explains it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explained {
    pub socket: SocketIndex,
    /// What keeps whom out, and what else would.
    pub inquiry: Inquiry,
    pub rules: Vec<Trace>,
    /// What would close it, narrowest first.
    pub remedies: Vec<Remedy>,
}

/// The answer of `why`. No socket: the target is free, or nothing fits.
#[derive(Clone, Copy, Debug)]
pub struct Why<'w> {
    /// As the user wrote it.
    pub target: &'w str,
    /// Whether it is a port, path or name that somebody could take, and not words that describe.
    pub takeable: bool,
    pub sockets: &'w [Explained],
}

/// Two moments and what differs.
#[derive(Clone, Copy, Debug)]
pub struct Comparison<'c> {
    pub before: View<'c>,
    pub after: View<'c>,
    pub changes: &'c [Change],
}

/// A rule in a list of rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleRow {
    pub id: String,
    /// Folder below `rules/`.
    pub pack: String,
    pub title: String,
    /// The highest that it can have.
    pub severity: Severity,
    /// Severities that differ by reach, as the rule states them.
    pub by_reach: Vec<(Reach, Severity)>,
    pub confidence: Confidence,
    pub why: String,
    pub references: Vec<String>,
    /// The file it was read from; `None` for a built-in rule.
    pub file: Option<String>,
}

/// What came of trying an ability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tried {
    Works,
    /// Works for some of what there is.
    Limited,
    Refused,
    /// This system has no such thing.
    Absent,
}

impl Tried {
    pub const ALL: &'static [Self] = &[Self::Works, Self::Limited, Self::Refused, Self::Absent];

    pub fn name(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Limited => "limited",
            Self::Refused => "refused",
            Self::Absent => "absent",
        }
    }
}

/// One line of `doctor`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ability {
    /// Short fixed name.
    pub id: String,
    pub title: String,
    pub tried: Tried,
    /// What the try showed.
    pub detail: String,
    /// The one command or setting that lifts the limit.
    pub remedy: Option<String>,
}

/// A socket that one source lists and another does not (`doctor --cross-check`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disagreement {
    /// Protocol and address, as `list` writes them.
    pub what: String,
    pub seen_by: Vec<String>,
    pub missed_by: Vec<String>,
    pub note: Option<String>,
}

/// The answer of `doctor`.
#[derive(Clone, Copy, Debug)]
pub struct Examination<'d> {
    pub host: &'d Host,
    /// Nanoseconds since the epoch.
    pub taken_at: i64,
    pub abilities: &'d [Ability],
    /// Sources that were compared; empty without `--cross-check`.
    pub sources: &'d [String],
    pub disagreements: &'d [Disagreement],
}

/// What a history says to one question; times are nanoseconds since the epoch.
#[derive(Clone, Debug, Default)]
pub struct Recollection {
    /// changes | seen | peers; the lists of the others are empty.
    pub question: &'static str,
    /// The file that was asked.
    pub file: String,
    pub since: Option<i64>,
    pub until: Option<i64>,
    /// When somebody kept watch, the oldest first.
    pub watched: Vec<Watched>,
    pub changes: Vec<PastChange>,
    pub doors: Vec<PastDoor>,
    pub talks: Vec<PastTalk>,
}
