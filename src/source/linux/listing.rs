//! Programs that list the rules of the packet filter, for the words that are quoted. They start with
//! fixed arguments, an empty environment and no input, out of folders that only root writes.

use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::source::Listing;

/// Where the programs of a system are.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// A ruleset of 100,000 rules has some 10 MB.
const MOST: u64 = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// What it writes, in the network namespace of the calling thread.
pub(crate) fn listing(listing: Listing) -> io::Result<Vec<u8>> {
    let program = find(listing).ok_or(io::ErrorKind::NotFound)?;
    let mut child = Command::new(program)
        .args(listing.arguments())
        .env_clear()
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let said = read(&mut child);
    if said.is_err() {
        // Gone already, or not to be waited for.
        let _ = child.kill();
    }
    let ended = child.wait()?;
    let said = said?;
    if ended.success() { Ok(said) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// All that it writes, if it is not too much and comes in time.
fn read(child: &mut Child) -> io::Result<Vec<u8>> {
    let out = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let (done, wait) = mpsc::sync_channel(1);
    std::thread::Builder::new().spawn(move || {
        let mut bytes = Vec::new();
        let result = out.take(MOST + 1).read_to_end(&mut bytes);
        // Nobody waits any more: then nobody wants it.
        let _ = done.send(result.map(|_| bytes));
    })?;
    let bytes = wait.recv_timeout(PATIENCE).map_err(|_| io::ErrorKind::TimedOut)??;
    if bytes.len() as u64 > MOST { Err(io::ErrorKind::InvalidData.into()) } else { Ok(bytes) }
}

fn find(listing: Listing) -> Option<PathBuf> {
    let places = listing.programs().iter().flat_map(|name| FOLDERS.iter().map(move |folder| (folder, name)));
    places.map(|(folder, name)| Path::new(folder).join(name)).find(|path| trusted(path))
}

/// A program of root's that nobody else can change.
fn trusted(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| {
        found.is_file() && found.uid() == 0 && found.mode() & 0o022 == 0 && found.mode() & 0o111 != 0
    })
}
