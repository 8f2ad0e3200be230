//! A door that no careful admin would leave as it is, and that harms nobody: a program in a temporary
//! folder that waits for connections from this computer and answers none.

use std::io;
use std::path::Path;

use tempfile::TempDir;

use super::{Actor, copy};

/// Folders that anybody may write to; from some of them nothing may be executed.
const PLACES: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];
/// What the program is called.
const NAME: &str = "sw-self-test";

/// Open until it is dropped.
#[derive(Debug)]
pub struct Door {
    // Ended before its folder is taken away.
    actor: Actor,
    folder: TempDir,
}

impl Door {
    /// Opens it; the program listens once this returns.
    ///
    /// # Errors
    /// When no temporary folder takes a program, or none of them lets it run.
    pub fn open() -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for place in PLACES {
            match Self::open_in(Path::new(place)) {
                Ok(door) => return Ok(door),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn open_in(place: &Path) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("sockwarden-self-test-").tempdir_in(place)?;
        let program = copy(folder.path(), NAME)?;
        let actor = Actor::start(&program, &["door".as_ref()])?;
        Ok(Self { actor, folder })
    }

    pub fn pid(&self) -> u32 {
        self.actor.0.id()
    }

    /// Where its program lies; it goes with the door.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}
