//! `alert`: the desktop half of the watch, in the user's session and without rights.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;

use super::args::{Ground, Manner};
use super::errors::Usage;
use super::exit::Exit;
use super::listeners::{options, say};
use super::session::Session;
use crate::alert::{Item, Memory, Running};
use crate::finding::Severity;
use crate::output::Clean;
use crate::watch::publish;

/// Longest line that is taken; a longer one is none of ours.
const LONGEST: u64 = 4 << 20;
/// From one try to reach the watch to the next.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    /// Where the watch publishes
    #[arg(long, value_name = "PATH", default_value = publish::USUAL, value_hint = clap::ValueHint::FilePath)]
    socket: PathBuf,
    /// Findings from this severity on: info, low, medium, high, critical [default: alert.least]
    #[arg(long, value_name = "SEVERITY", value_parser = severity)]
    least: Option<Severity>,
    /// List what waits for an answer, and end
    #[arg(long)]
    review: bool,
    /// With --review: the commands that would close it, and what takes them back
    #[arg(long, requires = "review")]
    fix: bool,
    /// With --review: this program alone
    #[arg(long, value_name = "NAME", requires = "review")]
    program: Option<String>,
    #[command(flatten)]
    manner: Manner,
}

fn severity(name: &str) -> Result<Severity, String> {
    Severity::from_name(name).ok_or_else(|| "one of info, low, medium, high, critical".to_owned())
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let session = Session::open(&args.manner, &Ground::default())?;
    if args.review {
        let waiting: Vec<Item> = Memory::open(Memory::usual_place()).waiting();
        let of_program = |item: &&Item| args.program.as_ref().is_none_or(|name| item.program == *name);
        let waiting: Vec<&Item> = waiting.iter().filter(of_program).collect();
        session.console.answer(|out| review(out, &waiting, args.fix))?;
        return Ok(Exit::Clean);
    }
    let options = options(&session, args.least);
    let running = Running::start(&options, true, say)?;
    let mut pause = RETRY.0;
    loop {
        match publish::subscribe(&args.socket) {
            Ok(stream) => {
                session.console.detail("connected to the watch");
                pause = RETRY.0;
                follow(BufReader::new(stream), &running);
                session.console.notice("the watch has ended; waiting for it to come back");
            }
            // Somebody else's socket is no watch, and never becomes one by waiting.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let what = format!("{}: {error}", super::settings::shown(&args.socket));
                return Err(Usage::new(what).help("only a watch that root runs is believed").into());
            }
            Err(error) => session.console.detail(&format!("no watch yet: {error}")),
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(RETRY.1);
    }
}

fn follow(mut watch: BufReader<std::os::unix::net::UnixStream>, running: &Running) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match watch.by_ref().take(LONGEST).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => running.tell(String::from_utf8_lossy(&line).into_owned()),
        }
    }
}

fn review(out: &mut dyn io::Write, waiting: &[&Item], fix: bool) -> io::Result<()> {
    if waiting.is_empty() {
        return writeln!(out, "nothing waits for an answer");
    }
    for item in waiting {
        writeln!(out, "{:<8}  {}  {}", item.severity.name(), Clean(&item.name), Clean(&item.title))?;
        writeln!(out, "          {}", Clean(&item.text))?;
        if let Some(target) = &item.target {
            writeln!(out, "          sockwarden why {}", Clean(target))?;
        }
        if fix {
            item.fix.iter().try_for_each(|line| writeln!(out, "          {}", Clean(line)))?;
        }
    }
    Ok(())
}
