//! Whole rules, from text to verdict.

use std::sync::Arc;

use proptest::prelude::{ProptestConfig, proptest};

use super::{Outcome, Rule, RuleSet, compile};
use crate::finding::{Hit, Severity, Undecided};
use crate::model::sample::{Sample, endpoint};
use crate::model::{Exposure, Fact, OwnerGap, Problem, Protocol, Reach, Role, SocketIndex, State};

/// The rule that the page about the format shows.
fn page() -> String {
    let text = include_str!("../../rules/README.md");
    text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap().to_owned()
}

fn rule(text: &str) -> Result<Rule, Vec<Problem>> {
    compile("rules/a-rule.toml", Arc::from(text), true)
}

/// The service that the page about the format shows.
fn service() -> String {
    let text = include_str!("../../rules/README.md");
    text.split("```toml\n").nth(2).unwrap().split("```").next().unwrap().to_owned()
}

/// A rule with this condition, whose severity is one word.
fn when(when: &str) -> Result<Rule, Vec<Problem>> {
    rule(&format!("title = \"t\"\nseverity = \"low\"\nconfidence = \"high\"\nwhy = \"w\"\n[when]\n{when}\n"))
}

fn told(found: Result<Rule, Vec<Problem>>) -> String {
    let Err(problems) = found else { return "no problem".to_owned() };
    problems
        .iter()
        .map(|problem| {
            let at = problem.span.as_ref().map_or("", |span| &problem.source[span.clone()]);
            let help = problem.help.as_ref().map_or(String::new(), |help| format!(" ({help})"));
            format!("[{at}] {}{help}", problem.message)
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_rule_on_the_page_about_the_format_is_sound() {
    let rule = rule(&page()).unwrap();
    let set = RuleSet::from(vec![rule]);
    let verified = set.verify();
    assert_eq!(verified.failures, []);
    assert_eq!(verified.examples, 2);
}

#[test]
fn the_service_on_the_page_is_sound_and_every_condition_is_tried_both_ways() {
    let set = RuleSet::from(vec![rule(&service()).unwrap()]);
    let verified = set.verify();
    assert_eq!(verified.failures, []);
    assert_eq!(verified.uncovered, []);
    assert!(verified.examples > 20, "only {}", verified.examples);
    let table = include_str!("../../rules/README.md");
    for each in super::service::SENSITIVITIES {
        let of = |slot: usize| each.severities[slot].map_or("quiet", Severity::name);
        let middle = if of(1) == of(2) { of(1).to_owned() } else { format!("{}, {}", of(1), of(2)) };
        let row =
            format!("| `{}` | {} | {} | {middle} | {} | {} |", each.name, each.words, of(0), of(3), of(4));
        assert!(table.contains(&row), "the page lacks {row}");
    }
}

/// Two services that share a port, one of which has another port to itself.
fn two() -> RuleSet {
    let of = |name: &str, ports: &str, shared: bool| {
        let text = format!(
            "service = \"{name}\"\ntcp = {ports}\nshared_port = {shared}\nprograms = \"{name}\"\nsensitivity = \"data\"\nwhy = \"w\"\n\
             [[fires]]\nname = \"f\"\nsocket = {{ local = \"0.0.0.0:1\", reach = \"lan\" }}\nprocess.program = \"{name}\"\n\
             [[quiet]]\nname = \"q\"\nchange.process.program = \"x\"\nchange.process.name = \"x\"\n"
        );
        compile(&format!("rules/{name}.toml"), text.into(), false).unwrap_or_else(|found| panic!("{found:?}"))
    };
    RuleSet::from(vec![of("alpha", "[8080]", true), of("beta", "[8080]", true), of("gamma", "[7001]", false)])
}

#[test]
fn a_program_beats_a_port_and_a_port_names_all_who_have_it() {
    let set = two();
    assert_eq!(set.verify().failures, []);
    let mut sample = Sample::new();
    sample.process(50, "/usr/bin/beta");
    sample.process(51, "/usr/bin/docker-proxy");
    sample.process(52, "/usr/bin/nginx");
    for (port, pid) in [(8080, 50), (8080, 51), (8080, 52), (7001, 52), (7002, 52)] {
        sample.listener(&format!("0.0.0.0:{port}"), Reach::Internet, &[pid]);
    }
    sample.listener("0.0.0.0:8080", Reach::Internet, &[]).owner_gap = Some(OwnerGap::Hidden);
    sample.listener("0.0.0.0:9999", Reach::Internet, &[]).owner_gap = Some(OwnerGap::Hidden);
    let (hits, undecided) = set.check(&sample.snapshot);
    let told: Vec<(u32, &str, &str, &str)> = hits
        .iter()
        .map(|hit| (hit.socket.0, hit.words.rule.as_str(), hit.severity.name(), hit.words.confidence.name()))
        .collect();
    assert_eq!(
        told,
        [
            (0, "beta", "critical", "high"),
            (1, "alpha", "low", "low"),
            (3, "gamma", "medium", "medium"),
            (5, "alpha", "low", "low"),
        ]
    );
    assert_eq!(
        hits[1].words.title,
        "Probably alpha, or another service of this port, can be reached from other computers"
    );
    assert_eq!(hits[1].evidence.last().unwrap(), "rules of other services on this port: beta");
    assert_eq!(undecided.len(), 0, "a hidden program on a port of no service is told once, as a gap");
}

/// The rule alone, asked about a host.
fn ask(rule: Rule, sample: &Sample) -> (Vec<Hit>, Vec<Undecided>) {
    RuleSet::from(vec![rule]).check(&sample.snapshot)
}

/// Whether this condition holds for the first socket: yes, no, or the facts that are missing.
fn holds(condition: &str, sample: &Sample) -> String {
    let (hits, undecided) = ask(when(condition).unwrap(), sample);
    let first = SocketIndex(0);
    match (hits.iter().any(|hit| hit.socket == first), undecided.first()) {
        (true, _) => "yes".to_owned(),
        (false, Some(undecided)) if undecided.sockets.contains(&first) => undecided.fields.join(" "),
        (false, _) => "no".to_owned(),
    }
}

/// A web server on every address, with a client and an outward connection.
fn server() -> Sample {
    let mut sample = Sample::new();
    let process = sample.process(50, "/usr/sbin/nginx");
    process.cmdline = Fact::Known(vec!["nginx:".into(), "master process".into()]);
    process.capabilities = Fact::Known(1 << 10 | 1 << 13);
    process.unit = Fact::Known("nginx.service".into());
    sample.listener("0.0.0.0:80", Reach::Internet, &[50]);
    for (local, remote, role) in [
        ("203.0.113.5:80", "198.51.100.7:5000", Role::Inbound),
        ("203.0.113.5:40000", "198.51.100.9:443", Role::Outbound),
    ] {
        let socket = sample.socket(Protocol::Tcp, State::Established, local, &[50]);
        socket.role = role;
        socket.remote = endpoint(remote);
    }
    sample
}

#[test]
fn every_kind_of_value_matches_as_the_page_says() {
    let sample = server();
    for (condition, answer) in [
        ("port = 80", "yes"),
        ("port = [22, \"79-81\"]", "yes"),
        ("port = \">= 1024\"", "no"),
        ("port = [\"!80\", \"!81\"]", "no"),
        ("protocol = \"!udp\"", "yes"),
        ("address = \"wildcard\"", "yes"),
        ("address = \"0.0.0.0/8\"", "yes"),
        ("rport = \"any\"", "no"),
        ("rport = \"none\"", "yes"),
        ("not.rport = \"any\"", "yes"),
        ("reach = \">= lan\"", "yes"),
        ("reach = \"<= host\"", "no"),
        ("ephemeral = false", "yes"),
        ("user = \"root\"", "yes"),
        ("host = { filter = false, forwarding = false, unprivileged_port_start = \">= 1024\" }", "yes"),
        ("host.upstream = \"direct\"", "host.upstream"),
        ("process.name = \"nginx\"", "yes"),
        ("process = { program = \"ng*x\", unit = \"nginx.service\" }", "yes"),
        ("process = { program = \"nginx\", unit = \"apache2.service\" }", "no"),
        ("process.cmdline = \"master process\"", "yes"),
        ("process.cmdline = \"nginx: master\"", "yes"),
        ("process.cmdline = \"nginx: worker\"", "no"),
        ("process.capabilities = [\"net_raw\", \"sys_admin\"]", "yes"),
        ("process.capabilities = \"sys_admin\"", "no"),
        ("process.container = \"none\"", "yes"),
        ("process.stdin = \"this-socket\"", "process.stdin"),
        ("process.parents = \"systemd\"", "yes"),
        ("others = { role = \"outbound\", remote = \"!local\" }", "yes"),
        ("others = { count = 2 }", "yes"),
        ("others = { count = \"> 2\" }", "no"),
        ("others = { count = 0, protocol = \"udp\" }", "yes"),
        ("accepted = { remote = \"global\" }", "yes"),
        ("accepted = { remote = \"loopback\" }", "no"),
        ("accepted = [{ count = 1 }, { count = 0, remote = \"loopback\" }]", "yes"),
        ("peer = { count = 0 }", "yes"),
        ("any = [{ port = 81 }, { process.name = \"nginx\" }]", "yes"),
        ("not = [{ port = 81 }, { process.name = \"apache2\" }]", "yes"),
    ] {
        assert_eq!(holds(condition, &sample), answer, "{condition}");
    }
}

#[test]
fn facts_of_a_process_are_asked_of_one_and_the_same() {
    let mut sample = Sample::new();
    sample.process(50, "/usr/sbin/nginx").unit = Fact::Known("nginx.service".into());
    sample.process(51, "/usr/bin/python3").unit = Fact::Known("app.service".into());
    sample.listener("0.0.0.0:80", Reach::Internet, &[50, 51]);
    assert_eq!(holds("process = { program = \"python3\", unit = \"app.service\" }", &sample), "yes");
    assert_eq!(holds("process = { program = \"nginx\", unit = \"app.service\" }", &sample), "no");
    assert_eq!(holds("process = { program = \"nginx\", not.unit = \"app.service\" }", &sample), "yes");
    assert_eq!(holds("not.process.program = \"nginx\"", &sample), "no");
}

#[test]
fn what_could_not_be_read_leaves_a_rule_undecided_and_no_more() {
    let mut sample = Sample::new();
    let socket = sample.listener("0.0.0.0:80", Reach::Internet, &[]);
    socket.owner_gap = Some(OwnerGap::Hidden);
    assert_eq!(holds("port = 80\nprocess.name = \"nginx\"", &sample), "process");
    assert_eq!(holds("port = 81\nprocess.name = \"nginx\"", &sample), "no", "the answer does not hang on it");
    assert_eq!(holds("any = [{ port = 80 }, { process.name = \"nginx\" }]", &sample), "yes");
    sample.snapshot.sockets[0].owner_gap = Some(OwnerGap::Kernel);
    assert_eq!(holds("process.name = \"nginx\"", &sample), "no");

    let mut sample = server();
    sample.snapshot.processes[0].exe = Fact::Unknown;
    assert_eq!(holds("process.program = \"nginx\"", &sample), "process.program");
    assert_eq!(holds("process = { name = \"nginx\", not.exe = \"/tmp/*\" }", &sample), "process.exe");

    let unknown = Exposure { reach: Reach::Unknown, certain: false, paths: Vec::new() };
    sample.snapshot.sockets[0].exposure = Some(Box::new(unknown));
    assert_eq!(holds("reach = \">= lan\"", &sample), "yes", "doubt never lowers a finding");
    assert_eq!(holds("reach = \"internet\"", &sample), "yes");
    assert_eq!(holds("reach = \"<= host\"", &sample), "reach");
}

#[test]
fn two_users_on_one_port() {
    let mut sample = Sample::new();
    sample.process(50, "/usr/sbin/named");
    sample.process(51, "/home/x/thief");
    for (pid, uid) in [(50, 0), (51, 1000)] {
        let socket = sample.socket(Protocol::Udp, State::Unconnected, "0.0.0.0:5300", &[pid]);
        socket.role = Role::Receiver;
        socket.uid = Some(uid);
    }
    let stolen = "same_port = { differs = [\"user\", \"exe\"] }";
    assert_eq!(holds(stolen, &sample), "yes");
    sample.snapshot.sockets[1].uid = None;
    sample.snapshot.sockets[1].user = None;
    assert_eq!(holds(stolen, &sample), "same_port");
    sample.snapshot.sockets[1].uid = Some(0);
    assert_eq!(holds(stolen, &sample), "no");
    sample.snapshot.sockets[1].netns = sample.snapshot.sockets[0].netns;
    assert_eq!(holds("same_port = { count = 1 }", &sample), "yes");
}

#[test]
fn a_hit_names_program_address_and_reach_and_fills_its_remedies() {
    let text = page();
    let mut sample = Sample::new();
    sample.process(60, "/usr/bin/redis-server").unit = Fact::Known("redis-server.service".into());
    sample.listener("0.0.0.0:6379", Reach::Lan, &[60]);
    sample.listener("127.0.0.1:6379", Reach::Host, &[60]);
    let (hits, undecided) = ask(rule(&text).unwrap(), &sample);
    assert_eq!((hits.len(), undecided.len()), (1, 0));
    let hit = &hits[0];
    assert_eq!(hit.message, "redis-server listens on 0.0.0.0:6379 (tcp); the local network can reach it");
    assert_eq!(hit.severity, Severity::High);
    assert_eq!(
        hit.evidence,
        ["protocol = tcp", "state = listen", "reach = lan", "process.name = redis-server"]
    );
    assert_eq!(hit.remedies[0].verify.as_deref(), Some("ss -ltn 'sport = :6379'"));

    sample.snapshot.sockets[0].exposure.as_mut().unwrap().certain = false;
    let (hits, _) = ask(rule(&text).unwrap(), &sample);
    assert!(hits[0].message.ends_with("the local network may reach it"), "{}", hits[0].message);
}

#[test]
fn a_near_miss_names_the_one_fact() {
    let set = RuleSet::from(vec![rule(&page()).unwrap()]);
    let mut sample = Sample::new();
    sample.process(60, "/usr/bin/redis-server");
    sample.process(61, "/usr/sbin/nginx");
    sample.listener("127.0.0.1:6379", Reach::Host, &[60]);
    sample.listener("0.0.0.0:80", Reach::Internet, &[61]);
    let of = |index| set.explain(sample.snapshot.observe(SocketIndex(index)));
    let near = Outcome::Near { found: "reach = host".to_owned(), wanted: "reach = \">= lan\"".to_owned() };
    assert_eq!(of(0).into_iter().map(|each| each.outcome).collect::<Vec<_>>(), [near]);
    assert!(of(1).is_empty(), "another program is no near miss");
}

#[test]
fn severity_follows_the_reach() {
    let rule = |table: &str, reach: &str| {
        let text = format!(
            "title = \"t\"\nseverity = {table}\nconfidence = \"high\"\nwhy = \"w\"\n[when]\nport = 1\n{reach}\n"
        );
        rule(&text)
    };
    let three = rule("{ internet = \"critical\", lan = \"high\", host = \"low\" }", "").unwrap();
    let of = |reach| three.severity(Some(reach)).name();
    assert_eq!(
        [of(Reach::Internet), of(Reach::Unknown), of(Reach::Lan), of(Reach::Link)],
        ["critical", "critical", "high", "high"]
    );
    assert_eq!([of(Reach::Container), of(Reach::Host), of(Reach::None)], ["low"; 3]);
    assert_eq!(three.severity(None), Severity::Low);
    assert_eq!(three.worst(), Severity::Critical);
    let link = rule("{ internet = \"critical\", lan = \"high\" }", "reach = \">= link\"").unwrap();
    assert_eq!(link.severity(Some(Reach::Link)), Severity::High);
    assert!(told(rule("{ internet = \"high\" }", "")).contains("what these classes of reach are: host, lan"));
    assert!(
        told(rule("{ internet = \"high\", host = \"low\", lan = \"low\" }", "reach = \">= lan\""))
            .contains("lets no socket")
    );
    assert!(
        told(rule("{ internet = \"high\", wan = \"low\" }", "reach = \">= lan\""))
            .contains("no class of reach (did you mean `lan`?)")
    );
}

#[test]
fn a_misspelt_rule_is_an_error_with_advice() {
    for (condition, problem) in [
        ("port = 70000", "[70000] `port` is a number from 0 to 65535"),
        ("port = \"9000-8000\"", "[\"9000-8000\"] no number is in `9000-8000` (did you mean \"8000-9000\"?)"),
        ("port = -1", "[-1] `port` is a number from 0 to 65535"),
        ("port = \"< 0\"", "[\"< 0\"] no number is in `< 0`"),
        ("port = 22.5", "[22.5] `port` must be a number, \"8000-9000\" or \">= 1024\", this is a float"),
        (
            "port = []",
            "[[]] the list of `port` is empty: nothing could match it (name at least one value, or remove the line)",
        ),
        (
            "process = {}",
            "[{}] this condition is empty: it would hold for everything (name a fact, or remove it)",
        ),
        ("reach = \"wan\"", "[\"wan\"] `wan` is no value of `reach` (did you mean `lan`?)"),
        (
            "address = \"10.0.0.0/33\"",
            "[\"10.0.0.0/33\"] `10.0.0.0/33` is no address, CIDR, range or class of addresses (one of: wildcard, loopback, private, cgnat, link-local, multicast, global, local, overlay, container)",
        ),
        ("v6only = \"true\"", "[\"true\"] `v6only` must be `true` or `false`"),
        ("access.mode = \"o+z\"", "[\"o+z\"] `o+z` is no permission (write \"o+w\", \"g+rw\")"),
        (
            "process.unit = \"ssh\"",
            "[\"ssh\"] `ssh` is no name of a unit: it has no suffix (did you mean \"ssh.service\"?)",
        ),
        ("abstract = \"@x\"", "[\"@x\"] an abstract name is written without `@` (did you mean \"x\"?)"),
        (
            "process.name = [\"a\", \"!a\"]",
            "[[\"a\", \"!a\"]] `name` names only values that it also excludes",
        ),
        (
            "protocol = \"unix\"\nreach = \">= lan\"",
            "[\">= lan\"] a unix socket is never reached from farther than `host`",
        ),
        (
            "protocol = \"packet\"\nreach = \"lan\"",
            "[\"lan\"] a socket of protocol packet has no `reach`: this can never hold (the protocol is `protocol = \"packet\"`)",
        ),
        (
            "state = \"listen\"\nremote = \"10.0.0.0/8\"",
            "[\"10.0.0.0/8\"] a socket that listens has no other end: this can never hold",
        ),
        ("others = { count = \">= 0\" }", "[{ count = \">= 0\" }] this count holds for every number"),
        (
            "others = { others = { port = 1 } }",
            "[others] `others` counts sockets and cannot stand within another count",
        ),
        (
            "same_port = { differs = \"usr\" }",
            "[\"usr\"] `usr` is no fact that sockets of one port can differ in (did you mean `user`?)",
        ),
    ] {
        assert_eq!(told(when(condition)), problem, "{condition}");
    }
}

#[test]
fn hostile_rule_files_end_soon_with_an_error() {
    let long = "x".repeat(1_000_000);
    let deep = format!("{}port = 1{}", "not = { ".repeat(500), " }".repeat(500));
    let deep_but_legal = format!("{}port = 1{}", "not = { ".repeat(20), " }".repeat(20));
    let many = format!("port = [{}]", "1,".repeat(20_000));
    let keys: String = (0..9000).map(|n| format!("k{n} = 1\n")).collect();
    let start = std::time::Instant::now();
    for text in [
        format!("process.name = \"{long}\""),
        long.clone(),
        deep,
        deep_but_legal,
        many,
        keys,
        "[".repeat(100_000),
    ] {
        let found = when(&text);
        let problems = found.expect_err("is refused");
        assert!(!problems.is_empty() && problems.len() <= 100);
        assert!(problems.iter().all(|problem| problem.message.len() < 1000));
    }
    assert!(start.elapsed().as_secs() < 20, "took {:?}", start.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_a_rule_file_panic(text in "\\PC{0,200}") {
        let _ = rule(&text);
    }

    /// Lines of a sound rule, shuffled, cut and repeated.
    #[test]
    fn no_mixture_of_a_rule_panics(picks in proptest::collection::vec((0usize..200, 0usize..120), 0..40)) {
        let page = page();
        let lines: Vec<&str> = page.lines().collect();
        let text: Vec<&str> = picks
            .iter()
            .map(|(line, cut)| {
                let line = lines[line % lines.len()];
                line.get(..line.len().saturating_sub(cut % 60)).unwrap_or(line)
            })
            .collect();
        if let Ok(rule) = rule(&text.join("\n")) {
            let _ = RuleSet::from(vec![rule]).verify();
        }
    }
}
