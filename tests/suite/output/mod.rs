//! What users and scripts read: every format, on small hand-made machines. This file makes the
//! machines and their reports.

mod foreign;
mod hostile;
mod human;
mod json;

pub(crate) use json::line;

use sockwarden::finding::{
    ChangeKind, Confidence, Hit, PastChange, PastDoor, PastFinding, PastHolder, PastTalk, Remedy, Report,
    Severity, Suppressions, Undecided, Watched, Words, diff, group,
};
use sockwarden::model::sample::{Sample, endpoint};
use sockwarden::model::{
    Access, AddrRange, Answer, Asked, Closer, Closing, Container, Entry, Evidence, ExeState, Fact, Gap,
    Inquiry, NamespaceId, OwnerGap, PortRange, Protocol, Reach, Refusal, Role, SocketIndex, State, Text,
    Users,
};
use sockwarden::output::{
    self, Ability, Column, Comparison, Disagreement, Examination, Explained, Format, ListOptions, Outcome,
    Question, Recollection, RuleRow, Style, Trace, Tried, View, Why,
};

/// A server: redis open to the world, nginx on two doors, a UNIX socket of a container, a
/// time-wait row, and one socket whose owner is hidden.
pub(crate) fn server() -> Sample {
    let mut sample = Sample::new();
    let redis = sample.process(1200, "/usr/bin/redis-server");
    redis.unit = Fact::Known("redis.service".into());
    redis.user = Fact::Known("redis".into());
    redis.package = Fact::Known("redis-server".into());
    let nginx = sample.process(80, "/usr/sbin/nginx");
    nginx.unit = Fact::Known("nginx.service".into());
    nginx.exe_state = ExeState::Replaced;
    let app = sample.process(4242, "/app/server");
    app.container = Fact::Known(Container {
        runtime: "docker".into(),
        id: "0123456789abcdef0123".into(),
        name: Some("shop".into()),
        image: Some("shop:1.2".into()),
    });
    sample.listener("0.0.0.0:6379", Reach::Internet, &[1200]).user = Some(2);
    sample.listener("0.0.0.0:80", Reach::Internet, &[80]);
    let both = sample.listener("[::]:443", Reach::Internet, &[80]);
    both.v6only = Some(false);
    sample.listener("127.0.0.1:9000", Reach::Host, &[4242]);
    let unix = sample.socket(Protocol::Unix, State::Listen, "/run/shop.sock", &[4242]);
    unix.access = Some(Box::new(Access {
        mode: Some(0o660),
        uid: Some(0),
        gid: Some(33),
        users: Users::Named(vec!["root".into(), "www-data".into()]),
    }));
    let gone = sample.socket(Protocol::Tcp, State::TimeWait, "203.0.113.5:80", &[]);
    (gone.inode, gone.cookie, gone.uid, gone.user) = (0, 0, None, None);
    gone.remote = endpoint("198.51.100.9:50000");
    gone.owner_gap = Some(OwnerGap::TimeWait);
    sample.listener("10.0.0.5:5432", Reach::Lan, &[]).owner_gap = Some(OwnerGap::Hidden);
    sample.snapshot.evidence.push(Evidence {
        place: "inet filter/input".into(),
        handle: Some(7),
        text: "tcp dport 80 accept".into(),
    });
    sample.snapshot.sockets[1].exposure.as_mut().expect("judged").paths[0].because = vec![0];
    sample.snapshot.gaps.push(Gap {
        id: "owners-hidden".into(),
        what: "processes of other users".into(),
        why: "permission denied on /proc/PID/fd".into(),
        remedy: Some("sudo sockwarden".into()),
        count: 3,
        unlisted: None,
    });
    sample
}

pub(crate) fn remedy() -> Remedy {
    Remedy {
        kind: "service".into(),
        title: "Bind redis to loopback".into(),
        commands: vec![
            "sed -i 's/^bind .*/bind 127.0.0.1/' /etc/redis/redis.conf".into(),
            "systemctl restart redis".into(),
        ],
        undo: vec!["systemctl restart redis".into()],
        verify: Some("ss -tln sport = 6379".into()),
        note: None,
    }
}

pub(crate) fn hit(rule: &str, title: &str, severity: Severity, socket: u32, message: &str) -> Hit {
    let words = Words {
        rule: rule.into(),
        title: title.into(),
        confidence: Confidence::High,
        why: "Whoever reaches it reads and writes everything, and can run programs.".into(),
        references: vec!["https://redis.io/docs/security/".into()],
    };
    let evidence = vec!["reach = internet".to_owned(), "process.name = redis-server".to_owned()];
    let remedies = vec![remedy(), Remedy { kind: "firewall".into(), title: "Drop it".into(), ..remedy() }];
    Hit {
        words: words.into(),
        severity,
        socket: SocketIndex(socket),
        message: message.into(),
        evidence,
        remedies,
    }
}

pub(crate) fn report(sample: &Sample) -> Report {
    let findings = group(
        &sample.snapshot,
        vec![
            hit(
                "redis-exposed",
                "Redis takes commands from the internet",
                Severity::Critical,
                0,
                "redis-server takes commands on 0.0.0.0:6379 from the internet",
            ),
            hit(
                "replaced-binary",
                "A running program was replaced on disk",
                Severity::Medium,
                1,
                "nginx runs an old file",
            ),
            hit(
                "replaced-binary",
                "A running program was replaced on disk",
                Severity::Medium,
                2,
                "nginx runs an old file",
            ),
            hit("loopback-service", "A service on loopback", Severity::Info, 3, "server listens on loopback"),
        ],
    );
    let undecided = Undecided {
        rule: "deleted-binary".into(),
        sockets: vec![SocketIndex(6)],
        fields: vec!["process.exe_state".into()],
        gap: Some("owners-hidden".into()),
    };
    let mut report = Report { findings, undecided: vec![undecided] };
    let text = "[[suppression]]\nrule = \"loopback-service\"\nreason = \"meant to be there\"\nuntil = 2027-01-31\n\
                [[suppression]]\nrule = \"old-rule\"\nreason = \"of the last server\"\nuntil = 2026-01-01\n";
    let suppressions = Suppressions::parse("suppressions.toml", text).expect("as written above");
    suppressions.apply(&sample.snapshot, &mut report);
    report
}

pub(crate) fn rules() -> Vec<RuleRow> {
    let rule = |id: &str, pack: &str, severity| RuleRow {
        id: id.into(),
        pack: pack.into(),
        title: format!("title of {id}"),
        severity,
        by_reach: vec![(Reach::Internet, severity), (Reach::Lan, Severity::Medium)],
        confidence: Confidence::High,
        why: "because".into(),
        references: vec!["https://example.org/a".into()],
        file: None,
    };
    vec![
        rule("redis-exposed", "exposure", Severity::Critical),
        rule("replaced-binary", "processes", Severity::Medium),
        rule("loopback-service", "exposure", Severity::Info),
        rule("deleted-binary", "processes", Severity::High),
        rule("nothing-of-this", "exposure", Severity::Low),
    ]
}

/// Runs `body` with the view of everything in `sample`.
pub(crate) fn with_view<T>(sample: &Sample, report: &Report, body: impl FnOnce(&View<'_>) -> T) -> T {
    let (selection, rules) = (sample.everything(), rules());
    let question = Question::EVERYTHING;
    body(&View {
        snapshot: &sample.snapshot,
        report,
        selection: &selection,
        question: &question,
        rules: &rules,
    })
}

pub(crate) fn text(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut bytes = Vec::new();
    write(&mut bytes).expect("as written above");
    String::from_utf8(bytes).expect("output is UTF-8")
}

pub(crate) fn audit(sample: &Sample, report: &Report, format: Format, style: &Style) -> String {
    with_view(sample, report, |view| text(|out| output::audit(out, format, view, style)))
}

pub(crate) fn list(sample: &Sample, columns: &[Column], style: &Style) -> String {
    let options = ListOptions { columns: columns.to_vec(), header: true };
    with_view(sample, &Report::default(), |view| {
        text(|out| output::list(out, Format::Human, view, &options, style))
    })
}

pub(crate) const PIPE: Style = Style { color: false, width: None, verbose: false };

pub(crate) const NASTY: &[u8] =
    b"a\x1b]0;pwn\x07\x1b[2J\r\n::error::x\x7f\xc2\x9b31m\xe2\x80\xae\xff\xfe\x00|`<b>](http://x){0}\"";

pub(crate) fn explained() -> Vec<Explained> {
    let trace = |rule: &str, outcome| Trace {
        rule: rule.into(),
        title: "a title".into(),
        severity: Severity::High,
        outcome,
    };
    let rules = vec![
        trace("redis-exposed", Outcome::Matched),
        trace("deleted-binary", Outcome::Undecided { fields: vec!["process.exe".into()] }),
        trace("root-listener", Outcome::NearMiss { condition: "user = root".into(), found: "redis".into() }),
    ];
    let inquiry = Inquiry { asked: None, ..inquiry("eth0".into()) };
    vec![Explained { socket: SocketIndex(0), inquiry, rules, remedies: vec![remedy()] }]
}

/// A network that is kept out, what would close the rest, and one source of it.
pub(crate) fn inquiry(interface: Text) -> Inquiry {
    let network: AddrRange = "198.51.100.0/24".parse::<ipnet::IpNet>().unwrap().into();
    let refusal = Refusal {
        entry: Entry { netns: NamespaceId(0), interfaces: vec![interface.clone()] },
        destinations: vec!["203.0.113.5/32".parse::<ipnet::IpNet>().unwrap().into()],
        ports: Some(vec![PortRange { first: 6379, last: 6379 }]),
        sources: vec![network],
        because: vec![0],
    };
    let closing = |by, evidence: &[u32], reach, closes| Closing {
        by,
        evidence: evidence.to_vec(),
        reach,
        certain: true,
        closes,
    };
    Inquiry {
        refused: vec![refusal.clone()],
        closing: vec![
            closing(Closer::Absent, &[0], Reach::Lan, false),
            closing(Closer::Loopback, &[], Reach::Host, true),
        ],
        asked: Some(Asked {
            sources: Some(network),
            interface: Some(interface),
            answer: Answer::No,
            paths: Vec::new(),
            refused: vec![refusal],
        }),
    }
}

pub(crate) fn why(sample: &Sample, format: Format, sockets: &[Explained]) -> String {
    let report = report(sample);
    let why = Why { target: "tcp/6379", takeable: true, sockets };
    let selection: Vec<SocketIndex> = sockets.iter().map(|explained| explained.socket).collect();
    let question = Question::EVERYTHING;
    let view = View {
        snapshot: &sample.snapshot,
        report: &report,
        selection: &selection,
        question: &question,
        rules: &[],
    };
    text(|out| output::why(out, format, &view, &why, &PIPE))
}

pub(crate) fn compared(format: Format) -> String {
    let (before, mut after) = (server(), server());
    after.snapshot.sockets.remove(3);
    after.snapshot.sockets[0].exposure.as_mut().expect("judged").reach = Reach::Lan;
    after.listener("0.0.0.0:8443", Reach::Internet, &[80]);
    let (old, new) = (Report::default(), report(&server()));
    let changes = diff((&before.snapshot, &old), (&after.snapshot, &new));
    with_view(&before, &old, |before| {
        with_view(&after, &new, |after| {
            let comparison = Comparison { before: *before, after: *after, changes: &changes };
            text(|out| output::diff(out, format, &comparison, &PIPE))
        })
    })
}

pub(crate) fn doctor(format: Format) -> String {
    let sample = server();
    let ability = |tried, remedy: Option<&str>| Ability {
        id: "owners".into(),
        title: "look into every process".into(),
        tried,
        detail: "3 of 40 refused".into(),
        remedy: remedy.map(str::to_owned),
    };
    let abilities = [ability(Tried::Works, None), ability(Tried::Limited, Some("sudo sockwarden"))];
    let disagreement = Disagreement {
        what: "tcp 0.0.0.0:31337".into(),
        seen_by: vec!["bind probe".into()],
        missed_by: vec!["sock_diag".into(), "/proc/net".into()],
        note: Some("something hides a listener".into()),
    };
    let sources = ["sock_diag".to_owned(), "/proc/net".to_owned(), "bind probe".to_owned()];
    let examination = Examination {
        host: &sample.snapshot.host,
        taken_at: sample.snapshot.taken_at,
        abilities: &abilities,
        sources: &sources,
        disagreements: &[disagreement],
    };
    text(|out| output::doctor(out, format, &examination, &PIPE))
}

/// Everything that a history can hold, as if it had been kept of this machine.
pub(crate) fn recollection(sample: &Sample, format: Format) -> String {
    let at = sample.snapshot.taken_at;
    let doors: Vec<PastDoor> = sample
        .snapshot
        .observations()
        .map(|seen| PastDoor {
            first_seen: at,
            last_seen: at,
            times: 1,
            open: seen.index.0 == 0,
            netns: seen.namespace().name.clone(),
            protocol: seen.socket.protocol,
            local: seen.socket.local.clone(),
            holder: PastHolder::of(&seen),
            reach: seen.socket.exposure.as_ref().map(|exposure| (exposure.reach, exposure.certain)),
        })
        .collect();
    let change = |kind, before: usize, after: usize| PastChange {
        at,
        kind,
        seen_by: "look".into(),
        before: doors.get(before).cloned(),
        after: doors.get(after).cloned(),
        finding: None,
    };
    let found = |kind, finding: &sockwarden::finding::Finding| PastChange {
        at,
        kind,
        seen_by: "start".into(),
        before: None,
        after: None,
        finding: Some(PastFinding {
            fingerprint: finding.fingerprint.clone(),
            rule: finding.rule.clone(),
            title: finding.title.clone(),
            severity: finding.severity,
            message: finding.message.clone(),
        }),
    };
    let mut changes = vec![
        change(ChangeKind::Opened, usize::MAX, 0),
        change(ChangeKind::Closed, 4, usize::MAX),
        change(ChangeKind::Reach, 0, 1),
        change(ChangeKind::Owner, 1, 0),
    ];
    for finding in &report(sample).findings {
        changes.push(found(ChangeKind::Finding, finding));
        changes.push(found(ChangeKind::Cleared, finding));
    }
    let talk = |role, seen: &PastDoor| PastTalk {
        first_seen: at,
        last_seen: at,
        times: 3,
        protocol: seen.protocol,
        role,
        peer: "2001:db8::7".parse().unwrap(),
        port: 443,
        netns: seen.netns.clone(),
        holder: seen.holder.clone(),
    };
    let talks = [Role::Inbound, Role::Outbound, Role::Peer].map(|role| talk(role, &doors[0])).to_vec();
    let mut told = Recollection {
        question: "changes",
        file: sample.snapshot.host.name.clone(),
        since: Some(at),
        until: None,
        watched: vec![Watched { began: at, until: at, version: "0.1.0".into(), lost: 2 }],
        changes,
        doors,
        talks,
    };
    if format == Format::Json {
        return text(|out| output::history(out, format, &told, &PIPE));
    }
    let mut all = String::new();
    for question in ["changes", "seen", "peers"] {
        told.question = question;
        all.push_str(&text(|out| output::history(out, format, &told, &PIPE)));
    }
    all
}

pub(crate) fn rule_list(format: Format) -> String {
    text(|out| output::rules(out, format, &rules(), &PIPE))
}

pub(crate) fn snapshot(sample: &Sample) -> String {
    text(|out| output::snapshot(out, &sample.snapshot))
}

pub(crate) fn inventory(sample: &Sample) -> String {
    let options = ListOptions { columns: Vec::new(), header: true };
    with_view(sample, &Report::default(), |view| {
        text(|out| output::list(out, Format::Json, view, &options, &PIPE))
    })
}

/// Every name that another program can choose, hostile.
pub(crate) fn hostile() -> Sample {
    let mut sample = server();
    make_hostile(&mut sample, NASTY);
    sample
}

pub(crate) fn make_hostile(sample: &mut Sample, bytes: &[u8]) {
    let nasty = || Text::from(bytes);
    let shown = Text::from(bytes).lossy().into_owned();
    let snapshot = &mut sample.snapshot;
    snapshot.host.name = shown.clone();
    snapshot.host.os = shown.clone();
    snapshot.users.iter_mut().for_each(|user| *user = nasty());
    for process in &mut snapshot.processes {
        process.name = nasty();
        for fact in
            [&mut process.exe, &mut process.user, &mut process.unit, &mut process.package, &mut process.cwd]
        {
            *fact = Fact::Known(nasty());
        }
        process.cmdline = Fact::Known(vec!["x".into(), nasty()]);
        process.parents = Fact::Known(vec![sockwarden::model::Ancestor { pid: 1, name: nasty() }]);
        process.container = Fact::Known(Container {
            runtime: shown.clone(),
            id: nasty(),
            name: Some(nasty()),
            image: Some(nasty()),
        });
    }
    for namespace in &mut snapshot.namespaces {
        namespace.name = Some(nasty());
        if let Fact::Known(interfaces) = &mut namespace.interfaces {
            interfaces.iter_mut().for_each(|interface| interface.name = nasty());
        }
    }
    for socket in &mut snapshot.sockets {
        socket.interface = 1;
        socket.groups = vec![nasty()].into();
        socket.activation =
            Some(Box::new(sockwarden::model::Activation { units: vec![nasty()], services: vec![nasty()] }));
        if let Some(access) = &mut socket.access {
            access.users = Users::Named(vec![nasty()]);
        }
        if let Some(exposure) = &mut socket.exposure {
            exposure
                .paths
                .iter_mut()
                .for_each(|path| std::sync::Arc::make_mut(&mut path.entry).interfaces = vec![nasty()]);
        }
    }
    snapshot.sockets[4].local = sockwarden::model::Endpoint::UnixPath(nasty());
    sample.socket(Protocol::Unix, State::Listen, "", &[80]).local =
        sockwarden::model::Endpoint::UnixAbstract(Text::from(bytes));
    let snapshot = &mut sample.snapshot;
    snapshot.evidence[0] = Evidence { place: shown.clone(), handle: None, text: nasty() };
    for gap in &mut snapshot.gaps {
        (gap.what, gap.why, gap.remedy) = (shown.clone(), shown.clone(), Some(shown.clone()));
    }
}
