//! `config check|show`: are the files in order, and which value comes from where.

use std::io::{self, Write};

use clap::{Args as ClapArgs, Subcommand};

use super::args::{Ground, Manner};
use super::errors::Faults;
use super::exit::Exit;
use super::session::Session;
use super::settings::{Settings, shown};

#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Reads every configuration file and says what is wrong with it
    Check(Common),
    /// The settings in force and where each value comes from
    Show(Common),
}

#[derive(ClapArgs, Debug)]
struct Common {
    #[command(flatten)]
    ground: Ground,
    #[command(flatten)]
    manner: Manner,
}

type Writer = fn(&Settings, &mut dyn Write) -> io::Result<()>;

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let (common, write, check): (_, Writer, _) = match args.command {
        Command::Check(common) => (common, checked, true),
        Command::Show(common) => (common, show, false),
    };
    let session = Session::open(&common.manner, &common.ground)?;
    let rules = session.rules()?;
    let suppressions = session.suppressions()?;
    if check {
        let known: Vec<&str> = rules.ids().collect();
        let unknown = suppressions.unknown_rules(&known);
        if !unknown.is_empty() {
            return Err(Faults(unknown).into());
        }
    }
    session.console.answer(|out| write(&session.settings, out))?;
    Ok(Exit::Clean)
}

fn places(settings: &Settings) -> impl Iterator<Item = String> {
    let all = settings.files.iter().chain(&settings.rules).chain(&settings.suppressions);
    all.map(|place| shown(place))
}

fn checked(settings: &Settings, out: &mut dyn Write) -> io::Result<()> {
    let places: Vec<_> = places(settings).collect();
    if places.is_empty() {
        return writeln!(out, "no configuration: every setting has its default");
    }
    places.iter().try_for_each(|place| writeln!(out, "{place}: in order"))
}

/// TOML that could be read again, each value with where it comes from.
fn show(settings: &Settings, out: &mut dyn Write) -> io::Result<()> {
    let mut section = "";
    for (setting, set) in settings.shown() {
        let (head, key) = setting.name.split_once('.').unwrap_or(("", setting.name));
        if head != section {
            writeln!(out, "{}[{head}]", if section.is_empty() { "" } else { "\n" })?;
            section = head;
        }
        let value = set.map(|set| set.value.as_str()).or(setting.default);
        let quoted = |value: &str| match value {
            "true" | "false" => value.to_owned(),
            _ => format!("\"{value}\""),
        };
        let line = match value {
            Some(value) => format!("{key} = {}", quoted(value)),
            None => format!("# {key} is not set"),
        };
        let from = set.map_or("default", |set| &set.from);
        writeln!(out, "{line:<28} # {from}: {}", setting.says)?;
    }
    let folders = |name: &str, list: &[std::path::PathBuf], out: &mut dyn Write| {
        list.iter().try_for_each(|folder| writeln!(out, "# {name} from {}", shown(folder)))
    };
    writeln!(out)?;
    folders("rules", &settings.rules, out)?;
    folders("suppressions", &settings.suppressions, out)?;
    writeln!(out, "# rules built in")
}
