//! The file of a history: made, locked, checked, and set aside where it is not ours or damaged.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::Error;
use super::schema::{APPLICATION, TABLES, VERSION};

/// How long a reader may be in the way.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether an error says that the file itself is bad, and not that the world is in the way.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Why a file cannot be gone on with.
pub(super) enum Unfit {
    /// What stands there is this instead of a history.
    Not(&'static str),
    Error(Error),
}

impl Unfit {
    pub(super) fn into_error(self, path: &Path) -> Error {
        match self {
            Self::Not("foreign") => Error::Foreign(path.to_owned()),
            Self::Not(_) => Error::Damaged(path.to_owned()),
            Self::Error(error) => error,
        }
    }
}

pub(super) fn connect(path: &Path) -> Result<Connection, Unfit> {
    let of_file = |source| Unfit::Error(Error::Io { path: path.to_owned(), source });
    make(path).map_err(of_file)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let check = || -> rusqlite::Result<Result<Connection, &'static str>> {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(PATIENCE)?;
        harden(&connection)?;
        let (application, version) = identity(&connection)?;
        let tables: i64 = connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get(0))?;
        match (application, version, tables) {
            (0, 0, 0) => {
                connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; VACUUM;")?;
            }
            (APPLICATION, VERSION, _) => {
                let answer: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
                if answer != "ok" {
                    return Ok(Err("damaged"));
                }
            }
            _ => return Ok(Err("foreign")),
        }
        Ok(Ok(connection))
    };
    let checked = |connection: Connection| {
        // SQLite gives its log the mode of the file.
        set_mode(path).map_err(of_file)?;
        let write = || -> rusqlite::Result<()> {
            connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")?;
            connection.pragma_update(None, "journal_size_limit", 4 << 20)?;
            if identity(&connection)?.0 == 0 {
                connection.execute_batch(&format!(
                    "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION};
                     PRAGMA user_version = {VERSION}; COMMIT"
                ))?;
            }
            Ok(())
        };
        write().map_err(|source| Unfit::Error(Error::Database { path: path.to_owned(), source }))?;
        Ok(connection)
    };
    match check() {
        Ok(Ok(connection)) => checked(connection),
        Ok(Err(why)) => Err(Unfit::Not(why)),
        Err(error) if is_damage(&error) => Err(Unfit::Not("damaged")),
        Err(source) => Err(Unfit::Error(Error::Database { path: path.to_owned(), source })),
    }
}

/// A file that somebody made to hurt us finds nothing to call (sqlite.org/security.html).
pub(super) fn harden(connection: &Connection) -> rusqlite::Result<()> {
    use rusqlite::config::DbConfig;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    connection.execute_batch("PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0;")
}

pub(super) fn identity(connection: &Connection) -> rusqlite::Result<(i32, i32)> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get(0));
    Ok((number("application_id")?, number("user_version")?))
}

/// Makes an empty file where there is none.
fn make(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    private(&mut options).open(path).map(drop)
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.mode(0o640)
}

/// Whatever the umask took away or somebody added.
#[cfg(unix)]
fn set_mode(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o640))
}

#[cfg(not(unix))]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

#[cfg(not(unix))]
fn set_mode(_: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Makes sure that the place is fit, and that no other watch writes there. The lock is a file of
/// its own: SQLite's locks on the history would go when we closed another descriptor of it
/// (fcntl(2)).
pub(super) fn lock(path: &Path) -> Result<File, Error> {
    if path.extension().is_none_or(|end| end != "db") {
        return Err(Error::Name(path.to_owned()));
    }
    let of_file = |source| Error::Io { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        make_folder(folder).map_err(of_file)?;
    }
    if fs::symlink_metadata(path).is_ok_and(|about| !about.is_file()) {
        return Err(Error::NoFile(path.to_owned()));
    }
    let beside = path.with_extension("lock");
    if fs::symlink_metadata(&beside).is_ok_and(|about| !about.is_file()) {
        return Err(Error::NoFile(beside));
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = private(&mut options).open(&beside).map_err(of_file)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Busy(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(of_file(source)),
    }
}

#[cfg(unix)]
fn make_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)
}

#[cfg(not(unix))]
fn make_folder(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)
}

/// Gives the file and its log another name, under which they stay.
pub(super) fn set_aside(path: &Path, why: &str) -> Result<String, Error> {
    let of_file = |source| Error::Io { path: path.to_owned(), source };
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{why}-{now}"));
    let mut number = 1;
    let mut aside = PathBuf::from(&name);
    while fs::symlink_metadata(&aside).is_ok() {
        number += 1;
        let mut next = name.clone();
        next.push(format!("-{number}"));
        aside = next.into();
    }
    let beside = |path: &Path, end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    // The log first: it belongs to the file whose name it bears.
    for end in ["-wal", "-shm", ""] {
        match fs::rename(beside(path, end), beside(&aside, end)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(of_file(error)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(format!(
        "{} was {}; it is now {}, and a new history begins",
        super::shown(path),
        if why == "foreign" { "no history of sockwarden" } else { "damaged" },
        super::shown(&aside)
    ))
}
