//! What this user has been told, and has answered: one small file that survives logins.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::line::Item;
use crate::finding::Severity;

/// Entries of each kind; the oldest give way.
const ENTRIES: usize = 10_000;
/// A larger file is none of ours.
const LARGEST: u64 = 32 << 20;
/// Seconds for which something that comes back after it had gone is no news.
const COOL: i64 = 3_600;
/// How long "It's fine" holds, in seconds.
pub const FINE_FOR: i64 = 90 * 24 * 3_600;

/// Times are seconds since the epoch.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// What was told, and when it was last there.
    told: BTreeMap<String, Told>,
    /// What this user called fine: until when, and why.
    fine: BTreeMap<String, Fine>,
    /// What waits for an answer.
    pub(crate) waiting: Vec<Waiting>,
    #[serde(skip)]
    place: Option<PathBuf>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Told {
    severity: Severity,
    at: i64,
    /// When it had gone, if it has.
    gone: Option<i64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Fine {
    until: i64,
    reason: String,
}

/// An item as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Waiting {
    key: String,
    program: String,
    pub(crate) name: String,
    pub(crate) severity: Severity,
    pub(crate) title: String,
    pub(crate) text: String,
    pub(crate) target: Option<String>,
    pub(crate) fix: Vec<String>,
}

impl From<&Item> for Waiting {
    fn from(item: &Item) -> Self {
        let Item { key, program, name, severity, title, text, target, fix } = item.clone();
        Self { key, program, name, severity, title, text, target, fix }
    }
}

impl From<Waiting> for Item {
    fn from(kept: Waiting) -> Self {
        let Waiting { key, program, name, severity, title, text, target, fix } = kept;
        Self { key, program, name, severity, title, text, target, fix }
    }
}

impl Memory {
    /// Reads what was kept; whatever else stands there counts as nothing, and is written over.
    pub fn open(place: Option<PathBuf>) -> Self {
        let read = |file: &Path| {
            let about =
                std::fs::metadata(file).ok().filter(|about| about.is_file() && about.len() <= LARGEST);
            about.and_then(|_| serde_json::from_slice(&std::fs::read(file).ok()?).ok())
        };
        let kept: Self = place.as_deref().and_then(read).unwrap_or_default();
        Self { place, ..kept }
    }

    /// Where it is kept for this user; `None` where there is no place.
    pub fn usual_place() -> Option<PathBuf> {
        let absolute =
            |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
        Some(state.join("sockwarden/alerts.json"))
    }

    /// Whether nothing has been told yet.
    pub fn is_new(&self) -> bool {
        self.told.is_empty()
    }

    /// What waited for an answer when this was written.
    pub fn waiting(&self) -> Vec<Item> {
        self.waiting.iter().cloned().map(Item::from).collect()
    }

    /// Notes that something is there; whether that is news to this user.
    pub fn meet(&mut self, now: i64, item: &Item) -> bool {
        if self.fine.get(&item.key).is_some_and(|fine| now < fine.until) {
            return false;
        }
        self.fine.remove(&item.key);
        let known = self.told.get(&item.key);
        let back = known.is_some_and(|told| {
            told.gone.is_none_or(|gone| now - gone < COOL) && told.severity >= item.severity
        });
        self.told.insert(item.key.clone(), Told { severity: item.severity, at: now, gone: None });
        while self.told.len() > ENTRIES {
            let oldest = self.told.iter().min_by_key(|(_, told)| told.at).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            self.told.remove(&oldest);
        }
        !back
    }

    /// A finding has gone. A listener is told of once, however often it comes.
    pub fn gone(&mut self, now: i64, key: &str) {
        if key.starts_with("listener ") {
            return;
        }
        if let Some(told) = self.told.get_mut(key) {
            told.gone.get_or_insert(now);
        }
    }

    /// "It's fine": no alert about these for a while; the service still counts them.
    pub fn fine(&mut self, now: i64, items: &[Item]) {
        for item in items.iter().take(ENTRIES) {
            let reason = "called fine on the desktop".to_owned();
            self.fine.insert(item.key.clone(), Fine { until: now + FINE_FOR, reason });
        }
        self.fine.retain(|_, fine| now < fine.until);
        while self.fine.len() > ENTRIES {
            self.fine.pop_first();
        }
    }

    /// Writes everything, whole or not at all, for nobody else to read.
    ///
    /// # Errors
    /// As creating and renaming a file.
    pub fn save<'i>(&mut self, waiting: impl Iterator<Item = &'i Item>) -> io::Result<()> {
        self.waiting = waiting.take(ENTRIES).map(Waiting::from).collect();
        let Some(place) = &self.place else { return Ok(()) };
        let folder = place.parent().ok_or(io::ErrorKind::InvalidInput)?;
        make_private(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut file, self)?;
        file.flush()?;
        file.persist(place).map_err(|failed| failed.error)?;
        Ok(())
    }
}

fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(key: &str, severity: Severity) -> Item {
        Item {
            key: key.to_owned(),
            program: "p".to_owned(),
            name: "p".to_owned(),
            severity,
            title: "t".to_owned(),
            text: "x".to_owned(),
            target: None,
            fix: vec!["systemctl stop p".to_owned()],
        }
    }

    #[test]
    fn everything_is_told_once_worse_is_told_again() {
        let mut memory = Memory::open(None);
        assert!(memory.is_new() && memory.meet(0, &item("f", Severity::High)));
        assert!(!memory.meet(10, &item("f", Severity::High)));
        assert!(memory.meet(20, &item("f", Severity::Critical)));
        memory.gone(30, "f");
        assert!(!memory.meet(40, &item("f", Severity::Critical)), "it only flickered");
        memory.gone(50, "f");
        assert!(memory.meet(60 + COOL, &item("f", Severity::Critical)), "it has come back");
        assert!(memory.meet(0, &item("listener p tcp 80", Severity::Low)));
        memory.gone(1, "listener p tcp 80");
        assert!(!memory.meet(10 * COOL, &item("listener p tcp 80", Severity::Low)), "once each");
    }

    #[test]
    fn fine_ends_by_itself() {
        let mut memory = Memory::open(None);
        memory.fine(0, &[item("f", Severity::High)]);
        assert!(!memory.meet(FINE_FOR - 1, &item("f", Severity::High)));
        assert!(memory.meet(FINE_FOR, &item("f", Severity::High)));
    }

    #[test]
    fn it_survives_a_login_and_rubbish_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("deep/alerts.json");
        let mut memory = Memory::open(Some(place.clone()));
        memory.meet(0, &item("f", Severity::High));
        memory.save([item("f", Severity::High)].iter()).unwrap();
        let mut again = Memory::open(Some(place.clone()));
        assert!(!again.meet(1, &item("f", Severity::High)));
        assert_eq!(again.waiting[0].fix, ["systemctl stop p"]);
        std::fs::write(&place, "{\"told\": 7").unwrap();
        assert!(Memory::open(Some(place.clone())).is_new());
        std::fs::remove_file(&place).unwrap();
        std::fs::create_dir(&place).unwrap();
        assert!(Memory::open(Some(place)).is_new());
    }

    #[test]
    fn memory_is_bounded() {
        let mut memory = Memory::open(None);
        for number in 0..ENTRIES as i64 + 50 {
            memory.meet(number, &item(&number.to_string(), Severity::High));
        }
        assert_eq!(memory.told.len(), ENTRIES);
        assert!(!memory.meet(99_999, &item("10000", Severity::High)), "the youngest are kept");
    }
}
