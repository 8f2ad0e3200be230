//! `snapshot`: the whole view with its inputs in one file, or the kernel's own bytes in a folder.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args as ClapArgs, ValueHint};

use super::args::{Ground, Manner, Sight};
use super::exit::Exit;
use super::interrupt::Pending;
use super::session::Session;
use super::settings::shown;
use crate::finding::Report;
use crate::model::Wants;
use crate::output;

#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    /// Write the snapshot to FILE (mode 0600); - is standard output
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath, required_unless_present = "raw")]
    output: Option<PathBuf>,
    /// Keep all that was read of the machine in DIR, which must be new or empty
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "from")]
    raw: Option<PathBuf>,
    #[command(flatten)]
    sight: Sight,
    #[command(flatten)]
    ground: Ground,
    #[command(flatten)]
    manner: Manner,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let session = Session::open(&args.manner, &args.ground)?;
    let sight = session.sight(&args.sight);
    let wants = sight.wants(Wants { texts: true, ..Wants::EVERYTHING });
    let mut subject = match &args.raw {
        Some(dir) => session.look_and_record(wants, dir)?,
        None => session.look(&sight, wants)?,
    };
    session.expose(&mut subject);
    let selection = subject.select(&sight, |_| true);
    let (report, question) = (Report::default(), sight.question());
    let view = subject.view(&report, &selection, &question, &[]);
    match args.output.as_deref() {
        Some(file) if file.as_os_str() == OsStr::new("-") => {
            session.console.answer(|out| output::snapshot(out, &subject.snapshot))?;
        }
        Some(file) => write_whole(file, |out| output::snapshot(out, &subject.snapshot))
            .with_context(|| format!("cannot write {}", shown(file)))?,
        None => {}
    }
    Ok(session.end(&view, None, sight.strict))
}

/// The whole file or none of it: a new file beside it takes its place at the end. The command
/// lines in it may hold passwords, so nobody else may read it.
fn write_whole(file: &Path, write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> io::Result<()> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    if std::fs::metadata(file).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is there and is not a regular file"));
    }
    // tempfile makes it with mode 0600.
    let new = tempfile::Builder::new().prefix(".sockwarden-").tempfile_in(folder);
    // The name of the new file, which tempfile's error carries, means nothing to the user.
    let mut new = new.map_err(|error| io::Error::from(error.kind()))?;
    let path = new.path().to_owned();
    let _pending = Pending::new(move || drop(std::fs::remove_file(path)));
    let mut out = io::BufWriter::with_capacity(1 << 16, new.as_file_mut());
    write(&mut out)?;
    out.flush()?;
    drop(out);
    new.as_file().sync_all()?;
    new.persist(file).map_err(|error| error.error)?;
    Ok(())
}
