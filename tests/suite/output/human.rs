//! Text for a person, in full: side by side with the machine that it is about.

use sockwarden::finding::Report;
use sockwarden::model::sample::Sample;
use sockwarden::model::{Gap, OwnerGap, Reach};
use sockwarden::output::{self, Column, Format, ListOptions, SortKey, Style};

use super::{
    PIPE, audit, compared, doctor, explained, list, report, rule_list, server, text, why, with_view,
};

#[test]
fn an_audit_is_a_screenful() {
    let sample = server();
    insta::assert_snapshot!(audit(&sample, &report(&sample), Format::Human, &PIPE), @r#"
    web1  7 sockets, 6 listeners, reachable: 3 internet, 1 lan; findings: 1 critical, 1 medium, 1 low, 1 suppressed

    CRITICAL  Redis takes commands from the internet  [redis-exposed]
      what   redis-server takes commands on 0.0.0.0:6379 from the internet
      who    redis-server (pid 1200), redis.service, user redis, package redis-server
      reach  internet
      fix    Bind redis to loopback
               sed -i 's/^bind .*/bind 127.0.0.1/' /etc/redis/redis.conf
               systemctl restart redis
             1 more, wider: -v shows them

    MEDIUM    A running program was replaced on disk  [replaced-binary]
      what   nginx runs an old file
      where  2 sockets: tcp 0.0.0.0:80, tcp *:443
      who    nginx (pid 80), nginx.service, user root
      reach  internet
      fix    Bind redis to loopback
               sed -i 's/^bind .*/bind 127.0.0.1/' /etc/redis/redis.conf
               systemctl restart redis
             1 more, wider: -v shows them

    LOW       the suppression at suppressions.toml:5 (rule old-rule) ended on 2026-01-01; nothing of what it covered is left [suppression-expired]

    Reach     Proto  Address        Who                      Unit
    internet  tcp    0.0.0.0:6379   redis-server (pid 1200)  redis.service
    internet  tcp    0.0.0.0:80     nginx (pid 80)           nginx.service
    internet  tcp    *:443          nginx (pid 80)           nginx.service
    lan       tcp    10.0.0.5:5432  (hidden), user root      -

    Undecided: 1 rule for want of process.exe_state.

    Out of sight:
      3      processes of other users: permission denied on /proc/PID/fd
             lift it: sudo sockwarden
    "#);
}

#[test]
fn a_narrow_terminal_is_fitted_and_verbose_says_everything() {
    let sample = server();
    let style = Style { color: false, width: Some(60), verbose: true };
    let shown = audit(&sample, &report(&sample), Format::Human, &style);
    insta::assert_snapshot!(shown, @r#"
    web1  7 sockets, 6 listeners, reachable: 3 internet, 1 lan; findings: 1 critical, 1 medium, 1 low, 1 suppressed

    CRITICAL  Redis takes commands from the internet  [redis-exposed]
      what   redis-server takes commands on 0.0.0.0:6379 from
             the internet
      who    redis-server (pid 1200), redis.service, user redis,
             package redis-server
      reach  internet
      why    Whoever reaches it reads and writes everything, and
             can run programs.
      fact   reach = internet
      fact   process.name = redis-server
      fix    Bind redis to loopback
               sed -i 's/^bind .*/bind 127.0.0.1/' /etc/redis/redis.conf
               systemctl restart redis
      undo   takes it back:
               systemctl restart redis
      check  ss -tln sport = 6379
      fix    Drop it
               sed -i 's/^bind .*/bind 127.0.0.1/' /etc/redis/redis.conf
               systemctl restart redis
      undo   takes it back:
               systemctl restart redis
      check  ss -tln sport = 6379
      see    https://redis.io/docs/security/
      id     06d3f4dac577453cbbd5d251365c06b1

    MEDIUM    A running program was replaced on disk  [replaced-binary]
      what   nginx runs an old file
      where  2 sockets: tcp 0.0.0.0:80, tcp *:443
      who    nginx (pid 80), nginx.service, user root
      reach  internet
      why    Whoever reaches it reads and writes everything, and
             can run programs.
      fact   reach = internet
      fact   process.name = redis-server
      fix    Bind redis to loopback
               sed -i 's/^bind .*/bind 127.0.0.1/' /etc/redis/redis.conf
               systemctl restart redis
      undo   takes it back:
               systemctl restart redis
      check  ss -tln sport = 6379
      fix    Drop it
               sed -i 's/^bind .*/bind 127.0.0.1/' /etc/redis/redis.conf
               systemctl restart redis
      undo   takes it back:
               systemctl restart redis
      check  ss -tln sport = 6379
      see    https://redis.io/docs/security/
      id     4df4a4f1340bc5eadd5cbdee58856600

    LOW       A suppression is past its day  [suppression-expired]
      what   the suppression at suppressions.toml:5 (rule
             old-rule) ended on 2026-01-01; nothing of what it
             covered is left
      why    A suppression that hides nothing, or no longer may,
             hides the next thing that fits it without anybody
             having decided so.
      fact   until = 2026-01-01
      fact   reason = of the last server
      id     1f6859e01c0f23ad03386cccfd8c8238

    INFO      A service on loopback  [loopback-service]
      what   server listens on loopback
      who    server (pid 4242), user root, container docker:shop
      reach  host
      quiet  meant to be there, until 2027-01-31, by
             suppressions.toml:1
      why    Whoever reaches it reads and writes everything, and
             can run programs.
      fact   reach = internet
      fact   process.name = redis-server
      fix    Bind redis to loopback
               sed -i 's/^bind .*/bind 127.0.0.1/' /etc/redis/redis.conf
               systemctl restart redis
      undo   takes it back:
               systemctl restart redis
      check  ss -tln sport = 6379
      fix    Drop it
               sed -i 's/^bind .*/bind 127.0.0.1/' /etc/redis/redis.conf
               systemctl restart redis
      undo   takes it back:
               systemctl restart redis
      check  ss -tln sport = 6379
      see    https://redis.io/docs/security/
      id     94c9f9713f47a7307f295d82e307de34

    Reach     Proto  Address        Who            Unit
    internet  tcp    0.0.0.0:6379   redis-server…  redis.service
    internet  tcp    0.0.0.0:80     nginx (pid 8…  nginx.service
    internet  tcp    *:443          nginx (pid 8…  nginx.service
    lan       tcp    10.0.0.5:5432  (hidden), us…  -

    undecided  deleted-binary for 1 socket: could not read process.exe_state

    Out of sight:
      3      processes of other users: permission denied on
             /proc/PID/fd
             lift it: sudo sockwarden
    "#);
}

#[test]
fn a_quiet_machine_says_so() {
    let mut sample = Sample::new();
    sample.process(10, "/usr/bin/app");
    sample.listener("127.0.0.1:8080", Reach::Host, &[10]);
    insta::assert_snapshot!(audit(&sample, &Report::default(), Format::Human, &PIPE), @r#"web1  1 socket, 1 listener, none reachable from beyond this computer; findings: none"#);
}

#[test]
fn a_list_has_the_columns_of_ss_and_ours() {
    insta::assert_snapshot!(list(&server(), &Column::usual(true), &PIPE), @r#"
    Netid  State      Recv-Q  Send-Q  Local           Peer                Process                                 Reach     Unit           Container
    tcp    LISTEN          0     128  0.0.0.0:6379    *:*                 users:(("redis-server",pid=1200,fd=3))  internet  redis.service  -
    tcp    LISTEN          0     128  0.0.0.0:80      *:*                 users:(("nginx",pid=80,fd=3))           internet  nginx.service  -
    tcp    LISTEN          0     128  *:443           *:*                 users:(("nginx",pid=80,fd=3))           internet  nginx.service  -
    tcp    LISTEN          0     128  127.0.0.1:9000  *:*                 users:(("server",pid=4242,fd=3))        host      -              docker:shop
    u_str  LISTEN          0     128  /run/shop.sock  *                   users:(("server",pid=4242,fd=3))        -         -              docker:shop
    tcp    TIME-WAIT       0       0  203.0.113.5:80  198.51.100.9:50000  (time-wait)                             -         -              -
    tcp    LISTEN          0     128  10.0.0.5:5432   *:*                 (hidden)                                lan       -              -
    "#);
}

#[test]
fn a_terminal_is_fitted_and_a_pipe_is_not() {
    let sample = server();
    let columns = Column::usual(true);
    let fitted = list(&sample, &columns, &Style { width: Some(100), ..PIPE });
    assert!(fitted.lines().all(|line| line.chars().count() <= 100), "{fitted}");
    assert!(fitted.contains('…'), "{fitted}");
    assert!(!list(&sample, &columns, &PIPE).contains('…'));
}

#[test]
fn no_header_with_h_and_colour_only_when_told() {
    let sample = server();
    let options = ListOptions { columns: vec![Column::Local, Column::Reach], header: false };
    let shown = |style: Style| {
        with_view(&sample, &Report::default(), |view| {
            text(|out| output::list(out, Format::Human, view, &options, &style))
        })
    };
    assert!(!shown(PIPE).contains("Local"));
    assert!(!shown(PIPE).contains('\x1b'));
    assert!(shown(Style { color: true, ..PIPE }).contains("\x1b[31minternet"));
}

#[test]
fn a_list_is_sorted_by_value_not_by_text() {
    let mut sample = Sample::new();
    sample.process(10, "/usr/bin/app");
    for port in [9000, 80, 443] {
        sample.listener(&format!("10.0.0.1:{port}"), Reach::Lan, &[10]);
    }
    sample.listener("9.0.0.1:1", Reach::Internet, &[10]);
    let sorted = |words: &[&str]| {
        let keys: Vec<SortKey> = words.iter().map(|word| SortKey::from_name(word).unwrap()).collect();
        let mut selection = sample.everything();
        output::sort(&sample.snapshot, &mut selection, &keys);
        selection.into_iter().map(|at| at.0).collect::<Vec<_>>()
    };
    assert_eq!(sorted(&["local"]), [3, 1, 2, 0]);
    assert_eq!(sorted(&["-local"]), [0, 2, 1, 3]);
    assert_eq!(sorted(&["-reach", "local"]), [3, 1, 2, 0]);
    assert!(SortKey::from_name("nonsense").is_none());
}

#[test]
fn why_tells_holder_ways_rules_and_remedies() {
    insta::assert_snapshot!(why(&server(), Format::Human, &explained()), @r#"
    tcp 0.0.0.0:6379 LISTEN
      held   redis-server (pid 1200, fd 3) as redis, since 2026-11-18T08:20:00Z
      exe    /usr/bin/redis-server
      args   /usr/bin/redis-server
      from   systemd (1)
      of     unit redis.service, package redis-server
      reach  internet
      way    in through eth0: everybody to any address port 6379
      shut   through eth0: 198.51.100.0/24 to 203.0.113.5 port 6379; inet filter/input handle 7: tcp dport 80 accept
      if     the rule at inet filter/input handle 7 were absent: fewer could, reach lan
      if     it were bound to loopback: closed to all but this computer
      CRITICAL redis-server takes commands on 0.0.0.0:6379 from the internet [redis-exposed]
      near   root-listener would say more if user = root; here redis
      ?      undecided, for want of process.exe: deleted-binary
      fix    Bind redis to loopback
               sed -i 's/^bind .*/bind 127.0.0.1/' /etc/redis/redis.conf
               systemctl restart redis

    Out of sight, without bearing on this answer: 1 gap (-v lists it)
    "#);
}

#[test]
fn gaps_without_bearing_are_listed_for_the_curious_and_none_is_counted_twice() {
    let mut sample = Sample::new();
    sample.listener("0.0.0.0:22", Reach::Lan, &[]);
    for (what, count) in [("4 processes could not be looked into", 4), ("processes of other users", 3)] {
        sample.snapshot.gaps.push(Gap {
            id: what.into(),
            what: what.to_owned(),
            why: "permission denied".to_owned(),
            remedy: None,
            count,
            unlisted: None,
        });
    }
    let told = |verbose| {
        let style = Style { verbose, ..PIPE };
        with_view(&sample, &Report::default(), |view| text(|out| output::gaps(out, view, &style)))
    };
    assert_eq!(told(false), "\nOut of sight, without bearing on this answer: 2 gaps (-v lists them)\n");
    insta::assert_snapshot!(told(true), @r"

    Out of sight, without bearing on this answer:
             4 processes could not be looked into: permission denied
      3      processes of other users: permission denied
    ");
}

#[test]
fn the_user_of_a_hidden_holder_is_named() {
    let mut sample = Sample::new();
    let socket = sample.listener("0.0.0.0:22", Reach::Lan, &[]);
    (socket.owner_gap, socket.uid, socket.user) = (Some(OwnerGap::Hidden), Some(70), None);
    let shown = |sample: &Sample| audit(sample, &Report::default(), Format::Human, &PIPE);
    assert!(shown(&sample).contains("(hidden), user 70  "), "{}", shown(&sample));
    sample.snapshot.sockets[0].user = Some(0);
    sample.snapshot.users = vec!["postgres".into()];
    assert!(shown(&sample).contains("(hidden), user postgres  "), "{}", shown(&sample));
}

#[test]
fn a_free_port_is_called_free() {
    let mut sample = server();
    sample.snapshot.gaps.clear();
    assert_eq!(why(&sample, Format::Human, &[]), "tcp/6379: free, nothing has it\n");
}

#[test]
fn a_diff_names_what_came_what_went_and_what_changed() {
    insta::assert_snapshot!(compared(Format::Human), @r#"
    ~ reach    tcp 0.0.0.0:6379  internet -> lan
    + opened   tcp 0.0.0.0:8443  nginx (pid 80)  internet
    - closed   tcp 127.0.0.1:9000  server (pid 4242)  host
    + finding  critical redis-server takes commands on 0.0.0.0:6379 from the internet [redis-exposed]
    + finding  medium nginx runs an old file (2 sockets of this program: tcp 0.0.0.0:80, tcp [::]:443) [replaced-binary]
    + finding  low the suppression at suppressions.toml:5 (rule old-rule) ended on 2026-01-01; nothing of what it covered is left [suppression-expired]

    Out of sight in the first:
      3      processes of other users: permission denied on /proc/PID/fd
             lift it: sudo sockwarden

    Out of sight in the second:
      3      processes of other users: permission denied on /proc/PID/fd
             lift it: sudo sockwarden
    "#);
}

#[test]
fn doctor_names_each_ability_and_each_disagreement() {
    insta::assert_snapshot!(doctor(Format::Human), @r#"
    works    look into every process
             3 of 40 refused
    limited  look into every process
             3 of 40 refused
      lift   sudo sockwarden

    Compared: sock_diag, /proc/net, bind probe
    tcp 0.0.0.0:31337: seen by bind probe; missed by sock_diag, /proc/net
             something hides a listener
    "#);
}

#[test]
fn rules_are_a_table() {
    insta::assert_snapshot!(rule_list(Format::Human), @r#"
    Rule              Pack       Severity  Sure  Title
    redis-exposed     exposure   critical  high  title of redis-exposed
    replaced-binary   processes  medium    high  title of replaced-binary
    loopback-service  exposure   info      high  title of loopback-service
    deleted-binary    processes  high      high  title of deleted-binary
    nothing-of-this   exposure   low       high  title of nothing-of-this
    "#);
}

#[test]
fn github_commands_and_markdown() {
    let sample = server();
    let report = report(&sample);
    insta::assert_snapshot!(audit(&sample, &report, Format::Github, &PIPE), @r#"
    ::error title=redis-exposed%3A Redis takes commands from the internet::redis-server takes commands on 0.0.0.0:6379 from the internet [critical] Fix: Bind redis to loopback. (06d3f4dac577453cbbd5d251365c06b1)
    ::warning title=replaced-binary%3A A running program was replaced on disk::nginx runs an old file (2 sockets of this program: tcp 0.0.0.0:80, tcp [::]:443) [medium] Fix: Bind redis to loopback. (4df4a4f1340bc5eadd5cbdee58856600)
    ::notice title=suppression-expired%3A A suppression is past its day::the suppression at suppressions.toml:5 (rule old-rule) ended on 2026-01-01; nothing of what it covered is left [low] (1f6859e01c0f23ad03386cccfd8c8238)
    ::warning title=sockwarden%3A out of sight::processes of other users (3): permission denied on /proc/PID/fd; lift it: sudo sockwarden
    "#);
    insta::assert_snapshot!(audit(&sample, &report, Format::Markdown, &PIPE), @r#"
    # Open sockets of web1

    | sockets | critical | high | medium | low | info |
    | ---: | ---: | ---: | ---: | ---: | ---: |
    | 7 | 1 | 0 | 1 | 1 | 0 |

    ## critical: Redis takes commands from the internet (`redis-exposed`)

    redis-server takes commands on 0.0.0.0:6379 from the internet

    - `tcp 0.0.0.0:6379` held by redis-server \(pid 1200\)

    Whoever reaches it reads and writes everything, and can run programs.

    **Bind redis to loopback**

        sed -i 's/^bind .*/bind 127.0.0.1/' /etc/redis/redis.conf
        systemctl restart redis

    Takes it back:

        systemctl restart redis

    Check: `ss -tln sport = 6379`

    **Drop it**

        sed -i 's/^bind .*/bind 127.0.0.1/' /etc/redis/redis.conf
        systemctl restart redis

    Takes it back:

        systemctl restart redis

    Check: `ss -tln sport = 6379`

    See https://redis.io/docs/security/

    Fingerprint `06d3f4dac577453cbbd5d251365c06b1`

    ## medium: A running program was replaced on disk (`replaced-binary`)

    nginx runs an old file \(2 sockets of this program: tcp 0.0.0.0:80, tcp \[::\]:443\)

    - `tcp 0.0.0.0:80` held by nginx \(pid 80\)
    - `tcp *:443` held by nginx \(pid 80\)

    Whoever reaches it reads and writes everything, and can run programs.

    **Bind redis to loopback**

        sed -i 's/^bind .*/bind 127.0.0.1/' /etc/redis/redis.conf
        systemctl restart redis

    Takes it back:

        systemctl restart redis

    Check: `ss -tln sport = 6379`

    **Drop it**

        sed -i 's/^bind .*/bind 127.0.0.1/' /etc/redis/redis.conf
        systemctl restart redis

    Takes it back:

        systemctl restart redis

    Check: `ss -tln sport = 6379`

    See https://redis.io/docs/security/

    Fingerprint `4df4a4f1340bc5eadd5cbdee58856600`

    ## low: A suppression is past its day (`suppression-expired`)

    the suppression at suppressions.toml:5 \(rule old-rule\) ended on 2026-01-01; nothing of what it covered is left


    A suppression that hides nothing, or no longer may, hides the next thing that fits it without anybody having decided so.

    Fingerprint `1f6859e01c0f23ad03386cccfd8c8238`

    ## info: A service on loopback (`loopback-service`)

    server listens on loopback

    *Suppressed until 2027-01-31: meant to be there (suppressions.toml:1)*

    - `tcp 127.0.0.1:9000` held by server \(pid 4242\)

    Whoever reaches it reads and writes everything, and can run programs.

    **Bind redis to loopback**

        sed -i 's/^bind .*/bind 127.0.0.1/' /etc/redis/redis.conf
        systemctl restart redis

    Takes it back:

        systemctl restart redis

    Check: `ss -tln sport = 6379`

    **Drop it**

        sed -i 's/^bind .*/bind 127.0.0.1/' /etc/redis/redis.conf
        systemctl restart redis

    Takes it back:

        systemctl restart redis

    Check: `ss -tln sport = 6379`

    See https://redis.io/docs/security/

    Fingerprint `94c9f9713f47a7307f295d82e307de34`

    ## Undecided

    - `deleted-binary` for 1 socket(s): could not read process.exe\_state

    ## Out of sight

    - processes of other users (3): permission denied on /proc/PID/fd; lift it: `sudo sockwarden`
    "#);
}
