//! A host full of sockets that careless tools miss, mistake or leave without owner.
//!
//! Makers open them and say what they are; then `sockwarden list --json` must show every one, with
//! protocol, address, owners or the reason why there is none.

mod held;
mod inet;
mod local;
mod other;
mod place;
mod rivals;
pub(crate) mod sys;
mod want;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::lab::{self, Maker, Need, Netns, Outcome, Program, Stop, cable, maker, sockwarden, trial};
pub(crate) use want::Want;

pub(crate) fn makers() -> Vec<Maker> {
    vec![
        ("awkward-inet", inet::make),
        ("awkward-listener", inet::listener),
        ("awkward-reuseport", inet::reuseport),
        ("awkward-local", local::make),
        ("awkward-across", local::across),
        ("awkward-other", other::make),
        ("awkward-moved-away", place::moved_away),
        ("awkward-nameless", place::nameless),
        ("awkward-own-netns", place::own_netns),
        ("awkward-own-pids", place::own_pids),
        ("awkward-own-users", place::own_users),
        ("awkward-two-ends", place::two_ends),
        ("awkward-half-open", place::half_open),
        ("awkward-thread", held::thread_table),
        ("awkward-leader", held::leader_gone),
        ("awkward-ring", held::ring),
        ("awkward-flight", held::in_flight),
        ("awkward-inherited", held::inherited),
        ("awkward-given", held::given_away),
        ("awkward-shared", held::shared),
        ("awkward-table", held::one_table),
        ("awkward-many", held::many_descriptors),
        ("awkward-users", held::two_users),
        ("awkward-memory", held::from_memory),
        ("awkward-names", held::odd_names),
    ]
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("awkward::every_socket_with_every_owner", &[Need::Root, Need::Tool("ip")], every_socket)]
}

/// Everything that stays until the test is over.
#[derive(Default)]
struct Stage {
    programs: Vec<Program>,
    wants: Vec<Want>,
    /// Lines that a maker said beside its sockets.
    said: Vec<String>,
}

impl Stage {
    fn start(&mut self, command: &mut Command) -> Outcome {
        let mut program = Program::start(command)?;
        for line in program.until_ready()? {
            match serde_json::from_str(&line) {
                Ok(want) => self.wants.push(want),
                Err(_) => self.said.push(line),
            }
        }
        self.programs.push(program);
        Ok(())
    }

    fn make<S: Into<OsString>>(
        &mut self,
        place: &Netns,
        name: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Outcome {
        let mut command = maker(name);
        place.enter(&mut command)?;
        self.start(command.args(args.into_iter().map(Into::into)))
    }
}

fn every_socket() -> Outcome {
    let dir = tempfile::tempdir()?;
    let (home, other, empty) = (Netns::new()?, Netns::new()?, Netns::new()?);
    cable(
        (&home, "eth0", &["192.0.2.1/24", "2001:db8::1/64"]),
        (&other, "eth0", &["192.0.2.2/24", "192.0.2.3/24", "2001:db8::2/64"]),
    )?;
    let mut stage = Stage::default();
    fill(&mut stage, dir.path(), &home, &other, &empty)?;

    rivals::compare(&stage.wants, &[&home, &other, &empty]);
    let shown = lab::output(&mut sockwarden(["list", "--json"]))?;
    let document: Value = serde_json::from_slice(&shown)?;
    let rows = document["sockets"].as_array().ok_or("the document has no sockets")?;
    let wrong: Vec<String> = stage
        .wants
        .iter()
        .filter_map(|want| {
            judge(want, rows).err().map(|why| format!("{}: {why}\n  wanted {want:?}", want.case))
        })
        .collect();
    let total = stage.wants.len();
    for absent in stage.said.iter().filter_map(|line| line.strip_prefix("absent ")) {
        println!("skipped: this kernel has no {absent}");
    }
    println!("sockwarden: {} of {total} right", total - wrong.len());
    if !wrong.is_empty() {
        return Err(Stop::Fail(wrong.join("\n")));
    }
    both_ways(&stage.wants)?;
    rivals::nothing_more_by_netstat2(&home, rows)?;
    rivals::nothing_more_by_netstat2(&other, rows)
}

/// The same owners, whether the kernel tells of all file tables or each is looked for in /proc.
fn both_ways(wants: &[Want]) -> Outcome {
    let abilities: Value = serde_json::from_slice(&lab::output(&mut sockwarden(["doctor", "--json"]))?)?;
    let ability = |ability: &&Value| ability["id"] == "bpf-owners";
    let ability = abilities["abilities"].as_array().and_then(|all| all.iter().find(ability));
    if ability.is_none_or(|ability| ability["outcome"] != "works") {
        println!("skip the program in the kernel: {ability:?}");
        return Ok(());
    }
    let ask = |command: &mut Command| -> Outcome<BTreeMap<u64, Value>> {
        let document: Value = serde_json::from_slice(&lab::output(command)?)?;
        let rows = document["sockets"].as_array().ok_or("the document has no sockets")?;
        let mine = rows.iter().filter_map(|row| {
            let inode =
                row["inode"].as_u64().filter(|inode| wants.iter().any(|want| want.inode == *inode))?;
            Some((inode, json!([row["owners"], row["owner_gap"], row["protocol"], row["state"]])))
        });
        Ok(mine.collect())
    };
    let told = ask(&mut sockwarden(["list", "--json"]))?;
    let walked = ask(lab::without_bpf(&mut sockwarden(["list", "--json"])))?;
    let differ = |inode: &&u64| told.get(*inode) != walked.get(*inode);
    let all: BTreeSet<u64> = told.keys().chain(walked.keys()).copied().collect();
    let different: Vec<String> = all
        .iter()
        .filter(differ)
        .map(|inode| {
            let case = wants.iter().find(|want| want.inode == *inode).map_or("", |want| &want.case);
            format!("{case}:\n  told {:?}\n  walked {:?}", told.get(inode), walked.get(inode))
        })
        .collect();
    println!("{} sockets with the same owners both ways", all.len() - different.len());
    lab::ensure(different.is_empty() && all.len() > 30, || different.join("\n"))
}

fn fill(stage: &mut Stage, dir: &std::path::Path, home: &Netns, other: &Netns, empty: &Netns) -> Outcome {
    home.sysctl("net/ipv4/ping_group_range", "0 2147483647")?;
    for lost in ["192.0.2.3", "192.0.2.77"] {
        home.ip(&format!("neigh replace {lost} lladdr 02:00:00:00:00:99 dev eth0 nud permanent"))?;
    }
    let none: [&str; 0] = [];
    stage.make(home, "awkward-inet", none)?;
    stage.make(home, "awkward-other", none)?;
    let sockets = dir.join("sockets");
    std::fs::create_dir(&sockets)?;
    stage.make(home, "awkward-local", [sockets])?;
    for _ in 0..2 {
        stage.make(home, "awkward-reuseport", ["4711"])?;
    }
    for name in [
        "thread",
        "leader",
        "ring",
        "flight",
        "inherited",
        "given",
        "shared",
        "table",
        "many",
        "users",
        "names",
        "nameless",
        "own-netns",
        "own-pids",
        "own-users",
    ] {
        stage.make(home, &format!("awkward-{name}"), none)?;
    }
    stage.make(home, "awkward-moved-away", [empty.path()])?;
    stage.make(home, "awkward-across", [other.path()])?;
    stage.make(home, "awkward-two-ends", [other.path().into_os_string(), "192.0.2.2".into()])?;
    executables(stage, dir, home)?;
    half_open(stage, home, other)?;
    kernel_socket(stage, empty)
}

/// Programs whose file is deleted, replaced by another, or never was on a disk.
fn executables(stage: &mut Stage, dir: &std::path::Path, home: &Netns) -> Outcome {
    for state in ["deleted", "replaced"] {
        let file = dir.join(state);
        crate::lab::copy_program(std::env::current_exe()?, &file)?;
        let mut command = home.command(&file)?;
        let owner = json!({"exe_state": state, "exe": file.to_string_lossy()}).to_string();
        stage.start(command.args([
            "maker",
            "awkward-listener",
            &format!("TCP of a {state} program"),
            &owner,
        ]))?;
        if state == "replaced" {
            let newer = dir.join("newer");
            std::fs::write(&newer, "another file")?;
            std::fs::rename(newer, &file)?;
        } else {
            std::fs::remove_file(&file)?;
        }
    }
    let owner = json!({"exe_state": "memory"}).to_string();
    stage.make(home, "awkward-memory", ["TCP of a program in memory only", &owner])
}

/// A connection request whose answer never arrives.
fn half_open(stage: &mut Stage, home: &Netns, other: &Netns) -> Outcome {
    stage.make(other, "awkward-half-open", ["192.0.2.3", "192.0.2.1:4711"])?;
    let from = stage.said.iter().find_map(|line| line.strip_prefix("from ")).ok_or("no address said")?;
    let from: std::net::SocketAddr = from.parse()?;
    home.sysctl("net/ipv4/tcp_synack_retries", "10")?;
    stage.wants.push(Want {
        case: "TCP in SYN_RECV".into(),
        inode: 0,
        owners: vec![],
        fields: json!({
            "protocol": "tcp", "state": "syn-recv", "netns": {"inode": home.inode()},
            "local": {"address": "192.0.2.1", "port": 4711},
            "remote": {"address": "192.0.2.3", "port": from.port()},
            "owner_gap": "not-yet-accepted",
        }),
        owner: json!({}),
        peer: None,
    });
    Ok(())
}

/// The kernel's own UDP sockets of a VXLAN link, in a namespace without any process.
fn kernel_socket(stage: &mut Stage, empty: &Netns) -> Outcome {
    empty.ip("link add vx0 type vxlan id 42 dstport 4789")?;
    empty.ip("link set vx0 up")?;
    let inode = empty.run(|| {
        let text = std::fs::read_to_string("/proc/thread-self/net/udp").unwrap_or_default();
        let row = text.lines().find(|line| line.contains(":12B5 "))?; // 4789
        row.split_whitespace().nth(9)?.parse::<u64>().ok()
    })?;
    stage.wants.push(Want {
        case: "UDP of the kernel itself (VXLAN)".into(),
        inode: inode.ok_or("VXLAN has no socket")?,
        owners: vec![],
        fields: json!({
            "protocol": "udp", "local": {"address": "0.0.0.0", "port": 4789},
            "netns": {"inode": empty.inode()}, "owner_gap": "kernel",
        }),
        owner: json!({}),
        peer: None,
    });
    Ok(())
}

/// Whether the document shows this socket, exactly once and rightly.
pub(crate) fn judge(want: &Want, rows: &[Value]) -> Result<(), String> {
    let found: Vec<&Value> = if want.inode == 0 {
        rows.iter()
            .filter(|row| row["inode"].is_null() || row["inode"] == 0)
            .filter(|row| within(&want.fields, row).is_ok())
            .collect()
    } else {
        rows.iter().filter(|row| row["inode"] == want.inode).collect()
    };
    let [row] = found[..] else {
        return Err(format!("{} rows", found.len()));
    };
    within(&want.fields, row).map_err(|why| format!("{why} in {row}"))?;
    let empty = Vec::new();
    let owners = row["owners"].as_array().unwrap_or(&empty);
    let pids: Vec<u32> = owners.iter().filter_map(|owner| owner["pid"].as_u64()?.try_into().ok()).collect();
    if pids != want.owners {
        return Err(format!("owners {pids:?}, not {:?}, in {row}", want.owners));
    }
    for owner in owners {
        within(&want.owner, owner).map_err(|why| format!("{why} in owner {owner}"))?;
    }
    if let Some(peer) = want.peer {
        let shown = rows.iter().find(|other| !row["peer"].is_null() && other["id"] == row["peer"]);
        match shown.map(|other| &other["inode"]) {
            Some(inode) if *inode == peer => {}
            other => return Err(format!("peer has inode {other:?}, not {peer}, in {row}")),
        }
    }
    Ok(())
}

/// Whether every field of `want` is in `got` with that value; objects field by field.
fn within(want: &Value, got: &Value) -> Result<(), String> {
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => want.iter().try_for_each(|(key, value)| {
            within(value, got.get(key).unwrap_or(&Value::Null)).map_err(|why| format!("{key}: {why}"))
        }),
        _ if want == got => Ok(()),
        _ => Err(format!("{got}, not {want}")),
    }
}
