//! Rulesets that nobody generated: real programs and hands write them, each in a box of its own, and
//! every answer of sockwarden is compared with what the kernel did.
//!
//! `SOCKWARDEN_RECORD=tests/rulesets SOCKWARDEN_TIER=long cargo test --test live -- shapes::` keeps
//! each of them as a recorded case, which `tests/suite` judges again without any right.

mod bans;
mod docker;
mod firewalld;
mod hand;
mod iptables;
mod kube;
mod probe;
mod published;
mod record;
mod scene;
mod translated;
mod ufw;

use std::ffi::OsString;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use libtest_mimic::Trial;

use crate::lab::{self, Maker, Outcome, Stop, trial};
use scene::{Shape, play};

fn shapes() -> Vec<Shape> {
    [
        hand::shapes(),
        iptables::shapes(),
        ufw::shapes(),
        firewalld::shapes(),
        docker::shapes(),
        published::shapes(),
        kube::shapes(),
        bans::shapes(),
    ]
    .concat()
}

pub(crate) fn trials() -> Vec<Trial> {
    let slow = shapes().iter().filter(|shape| shape.slow).count();
    let mut turn = 0;
    let each = |shape: Shape| {
        let now = turn;
        turn += usize::from(shape.slow);
        trial(&format!("shapes::{}", shape.name), shape.needs, move || {
            if shape.slow && !due(now, slow) {
                return Err(Stop::Skip(
                    "slow, and another one's turn; SOCKWARDEN_TIER=long runs all".to_owned(),
                ));
            }
            in_its_box(&["shape", shape.name])
        })
    };
    let mut found: Vec<Trial> = shapes().into_iter().map(each).collect();
    found.push(trial("shapes::firewalld_closes_and_opens", firewalld::NEEDS, || {
        in_its_box(&["firewalld-remedy"])
    }));
    found.extend(translated::trials());
    found
}

/// Slow ones take turns by the hour; in the longer tiers all have theirs.
fn due(turn: usize, of: usize) -> bool {
    let tier = std::env::var("SOCKWARDEN_TIER").unwrap_or_default();
    let hours = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 3600);
    ["long", "soak"].contains(&tier.as_str()) || hours % (of as u64) == turn as u64
}

fn in_its_box(words: &[&str]) -> Outcome {
    let done = lab::maker(words[0]).args(&words[1..]).output()?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    if let Some(why) = said.lines().find_map(|line| line.strip_prefix("skip ")) {
        return Err(Stop::Skip(why.to_owned()));
    }
    print!("{said}");
    let complaint = String::from_utf8_lossy(&done.stderr).into_owned();
    if done.status.success() { Ok(()) } else { Err(Stop::Fail(format!("{}: {complaint}", done.status))) }
}

pub(crate) fn makers() -> Vec<Maker> {
    vec![
        ("shape", play_one),
        ("translated", translated::play),
        ("routed", translated::play_routed),
        ("firewalld-remedy", |_| boxed(firewalld::closes)),
    ]
}

fn play_one(args: &[OsString]) -> io::Result<()> {
    let shape = shapes().into_iter().find(|shape| args.first().is_some_and(|name| name == shape.name));
    let shape = shape.ok_or(io::ErrorKind::NotFound)?;
    boxed(|| play(&shape))
}

fn boxed(play: impl FnOnce() -> Outcome<String>) -> io::Result<()> {
    lab::in_box(|| match play() {
        Ok(line) => {
            println!("{line}");
            Ok(())
        }
        Err(Stop::Skip(why)) => {
            println!("skip {why}");
            Ok(())
        }
        Err(Stop::Fail(why)) => Err(io::Error::other(why)),
    })
}
