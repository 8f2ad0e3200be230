//! Settings: what they are, where they come from, and who may be believed.
//!
//! `/etc/sockwarden/config.toml`, then, for ordinary users only, `~/.config/sockwarden/config.toml`;
//! `--config FILE` is read instead of both, and the command line wins over all. Root never reads
//! below $HOME: a rule or suppression there would let a user change what root is told.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::errors::{Faults, nearest};
use super::exit::Threshold;
use super::trust::{self, Trust};
use crate::model::{Problem, Text, Upstream};

const SYSTEM: &str = "/etc/sockwarden";

/// Every setting, with its allowed values, its default, and what it means.
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) values: &'static [&'static str],
    /// `None`: no value of its own until somebody sets it.
    pub(crate) default: Option<&'static str>,
    pub(crate) says: &'static str,
}

/// Allowed values of a setting that is a length of time.
pub(crate) const DURATION: &[&str] = &["a length of time such as 500ms, 60s, 5m or 90d"];

/// Allowed values of a setting that is a number of bytes.
pub(crate) const SIZE: &[&str] = &["a size from 1M to 1T, such as 128M or 2G"];

pub(crate) const SETTINGS: [Setting; 10] = [
    Setting {
        name: "host.upstream",
        values: &["direct", "router", "one-to-one"],
        default: None,
        says: "whether the world can address this computer; guessed when unset",
    },
    Setting {
        name: "audit.fail-on",
        values: &Threshold::NAMES,
        default: Some("high"),
        says: "severity from which `audit` exits with 1",
    },
    Setting {
        name: "scan.netns",
        values: &["all", "current"],
        default: Some("all"),
        says: "network namespaces that are looked into",
    },
    Setting {
        name: "scan.strict",
        values: &["true", "false"],
        default: Some("false"),
        says: "exit with 3 when the view is incomplete",
    },
    Setting {
        name: "watch.every",
        values: DURATION,
        default: Some("60s"),
        says: "from one full scan of `watch` to the next",
    },
    Setting {
        name: "watch.dwell",
        values: DURATION,
        default: Some("5s"),
        says: "how long something must be away for `watch` to call it closed",
    },
    Setting {
        name: "history.age",
        values: DURATION,
        default: Some("90d"),
        says: "what is older is taken from the history",
    },
    Setting {
        name: "history.size",
        values: SIZE,
        default: Some("128M"),
        says: "bytes that the history may take, without its log; the oldest goes",
    },
    Setting {
        name: "alert.least",
        values: &["info", "low", "medium", "high", "critical"],
        default: Some("high"),
        says: "severity from which findings are shown on the desktop",
    },
    Setting {
        name: "output.color",
        values: &["auto", "always", "never"],
        default: Some("auto"),
        says: "colour in human output",
    },
];

/// A value that somebody set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) value: String,
    /// File and line.
    pub(crate) from: String,
}

/// The settings in force, and the folders that belong to them.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// In the order of `SETTINGS`.
    set: [Option<Set>; SETTINGS.len()],
    /// Configuration files that were read.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) rules: Vec<PathBuf>,
    pub(crate) suppressions: Vec<PathBuf>,
    /// What is there but was not read, for the notices.
    pub(crate) skipped: Vec<String>,
}

impl Settings {
    /// Reads what this user's runs go by. `named` is `--config`, `extra` are the `--rules` folders.
    pub(crate) fn load(named: Option<&Path>, extra: &[PathBuf]) -> anyhow::Result<Self> {
        let trust = Trust::of_this_user();
        Self::from_places(&places(&trust), &trust, named, extra)
    }

    /// `places` in the order in which they are read, each with whom its files may belong to.
    fn from_places(
        places: &[(PathBuf, Trust)],
        trust: &Trust,
        named: Option<&Path>,
        extra: &[PathBuf],
    ) -> anyhow::Result<Self> {
        let mut settings = Self::default();
        let mut problems = Vec::new();
        match named {
            Some(file) => settings.read(file, trust, &mut problems),
            None => {
                for (folder, trust) in places {
                    settings.read_if_there(&folder.join("config.toml"), trust, &mut problems);
                }
            }
        }
        for (folder, trust) in places {
            settings.adopt(&folder.join("rules"), trust, &mut problems, |c| &mut c.rules);
            settings.adopt(&folder.join("suppressions"), trust, &mut problems, |c| &mut c.suppressions);
        }
        for folder in extra {
            problems.extend(trust.check_tree(folder).err().into_iter().flatten());
            settings.rules.push(folder.clone());
        }
        // Files in one folder share what is wrong with the folder.
        let mut told = Vec::with_capacity(problems.len());
        problems.retain(|problem: &Problem| {
            let new = !told.contains(problem);
            told.extend(new.then(|| problem.clone()));
            new
        });
        if problems.is_empty() { Ok(settings) } else { Err(Faults(problems).into()) }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let at = SETTINGS.iter().position(|each| each.name == name)?;
        self.set[at].as_ref().map(|set| set.value.as_str()).or(SETTINGS[at].default)
    }

    /// A setting that is a length of time; its default is always there.
    pub(crate) fn duration(&self, name: &str) -> Duration {
        self.get(name).and_then(|text| duration(text).ok()).unwrap_or_default()
    }

    /// A setting that is a number of bytes; its default is always there.
    #[cfg(feature = "history")]
    pub(crate) fn size(&self, name: &str) -> u64 {
        self.get(name).and_then(size).unwrap_or_default()
    }

    /// Everything on disk that has a say, or would have one if it were there.
    pub(crate) fn on_disk(&self) -> Vec<PathBuf> {
        let folders = places(&Trust::of_this_user()).into_iter().map(|(folder, _)| folder);
        let read = self.files.iter().chain(&self.rules).chain(&self.suppressions).cloned();
        folders.chain(read).collect()
    }

    /// Every setting with what was set, for `config show`.
    pub(crate) fn shown(&self) -> impl Iterator<Item = (&'static Setting, Option<&Set>)> {
        SETTINGS.iter().zip(self.set.iter().map(Option::as_ref))
    }

    pub(crate) fn upstream(&self) -> Option<Upstream> {
        match self.get("host.upstream")? {
            "direct" => Some(Upstream::Direct),
            "router" => Some(Upstream::Router),
            "one-to-one" => Some(Upstream::OneToOne),
            _ => None,
        }
    }

    pub(crate) fn fail_on(&self) -> Option<Threshold> {
        self.get("audit.fail-on").and_then(Threshold::from_name)
    }

    fn read_if_there(&mut self, file: &Path, trust: &Trust, problems: &mut Vec<Problem>) {
        match std::fs::symlink_metadata(file) {
            Ok(_) => self.read(file, trust, problems),
            Err(error) => self.note(file, &error),
        }
    }

    /// A folder nobody made is nothing to speak of; one that may not be looked into is.
    fn note(&mut self, place: &Path, error: &std::io::Error) {
        if !matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) {
            self.skipped.push(format!("{} was not read: {error}", shown(place)));
        }
    }

    fn read(&mut self, file: &Path, trust: &Trust, problems: &mut Vec<Problem>) {
        match trust.read(file) {
            Ok(text) => {
                self.understand(file, &text.into(), problems);
                self.files.push(file.to_owned());
            }
            Err(trust::Refusal::Unreadable(error))
                if error.kind() == std::io::ErrorKind::PermissionDenied && !trust.is_root() =>
            {
                self.note(file, &error);
            }
            Err(refusal) => problems.push(refusal.into_problem(file)),
        }
    }

    fn adopt(
        &mut self,
        folder: &Path,
        trust: &Trust,
        problems: &mut Vec<Problem>,
        list: fn(&mut Self) -> &mut Vec<PathBuf>,
    ) {
        match std::fs::read_dir(folder) {
            Ok(_) => {
                problems.extend(trust.check_tree(folder).err().into_iter().flatten());
                list(self).push(folder.to_owned());
            }
            Err(error) => self.note(folder, &error),
        }
    }

    /// Takes the values of one file; later files win.
    fn understand(&mut self, file: &Path, source: &Arc<str>, problems: &mut Vec<Problem>) {
        let mut say = |span: Option<std::ops::Range<usize>>, message: String, help: Option<String>| {
            problems.push(Problem { file: shown(file), source: Arc::clone(source), span, message, help });
        };
        let (document, errors) = DeTable::parse_recoverable(source);
        for error in errors {
            say(error.span(), error.message().to_owned(), None);
        }
        for (section, content) in document.get_ref() {
            let sections = || SETTINGS.iter().filter_map(|each| each.name.split_once('.')).map(|(a, _)| a);
            let name = section.get_ref();
            if !sections().any(|known| known == name) {
                let help = nearest(name, sections()).map(|near| format!("did you mean `{near}`?"));
                say(Some(section.span()), format!("unknown section `{}`", Text::from(&**name)), help);
                continue;
            }
            let DeValue::Table(table) = content.get_ref() else {
                say(Some(content.span()), format!("`{name}` is a section"), Some(format!("write [{name}]")));
                continue;
            };
            for (key, value) in table {
                match setting(name, key, value) {
                    Ok((at, value_text)) => {
                        let from = format!("{}:{}", shown(file), line(source, key.span().start));
                        self.set[at] = Some(Set { value: value_text, from });
                    }
                    Err((span, message, help)) => say(Some(span), message, help),
                }
            }
        }
    }
}

type Fault = (std::ops::Range<usize>, String, Option<String>);

/// Which setting a key is, and its value as text.
fn setting(
    section: &str,
    key: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
) -> Result<(usize, String), Fault> {
    let name = key.get_ref();
    let Some(at) = SETTINGS.iter().position(|each| each.name.split_once('.') == Some((section, name))) else {
        let keys = SETTINGS.iter().filter_map(|each| each.name.strip_prefix(section)?.strip_prefix('.'));
        let help = nearest(name, keys).map(|near| format!("did you mean `{near}`?"));
        return Err((key.span(), format!("unknown key `{}` in [{section}]", Text::from(&**name)), help));
    };
    let text = match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => String::new(),
    };
    let wants_truth = SETTINGS[at].values == ["true", "false"];
    let is_truth = matches!(value.get_ref(), DeValue::Boolean(_));
    let allowed = if SETTINGS[at].values == DURATION {
        duration(&text).is_ok()
    } else if SETTINGS[at].values == SIZE {
        size(&text).is_some()
    } else {
        SETTINGS[at].values.contains(&text.as_str())
    };
    if wants_truth == is_truth && allowed {
        return Ok((at, text));
    }
    let help = nearest(&text, SETTINGS[at].values.iter().copied())
        .filter(|_| wants_truth == is_truth)
        .map(|near| format!("did you mean \"{near}\"?"));
    Err((value.span(), format!("`{name}` is one of {}", SETTINGS[at].values.join(", ")), help))
}

/// `1M` to `1T`: bytes, in powers of 1024.
pub(crate) fn size(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let shift = match unit {
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    let number: u64 = number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())??;
    number.checked_mul(1 << shift).filter(|bytes| (1 << 20..=1 << 40).contains(bytes))
}

/// `500ms`, `60s`, `5m`, `1h 30m`, `90d`; a day is 24 hours.
///
/// # Errors
/// What is wrong with it, for the one who wrote it.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("not {}", DURATION.concat());
    let parsed: jiff::Span = text.parse().map_err(|_| wrong())?;
    let parsed = parsed.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    let parsed = Duration::try_from(parsed).map_err(|_| wrong())?;
    const LONGEST: Duration = Duration::from_secs(400 * 24 * 3600);
    if parsed > LONGEST { Err("longer than 400 days".to_owned()) } else { Ok(parsed) }
}

fn line(source: &str, at: usize) -> usize {
    source.as_bytes()[..at.min(source.len())].iter().filter(|&&byte| byte == b'\n').count() + 1
}

/// A path as a person would read it, harmless.
pub(crate) fn shown(path: &Path) -> String {
    Text::from(path.as_os_str().as_encoded_bytes()).to_string()
}

/// The folders that configuration may stand in; root has none at home.
fn places(trust: &Trust) -> Vec<(PathBuf, Trust)> {
    let mut places = vec![(PathBuf::from(SYSTEM), Trust::system())];
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    if let Some(home) = home.filter(|_| !trust.is_root()) {
        places.push((home.join(".config/sockwarden"), trust.clone()));
    }
    places
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn write(file: &Path, text: &str) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// Whoever runs the tests owns the files.
    fn load(folder: &Path) -> anyhow::Result<Settings> {
        let trust = Trust::of_this_user();
        let places = ["etc", "home"].map(|name| (folder.join(name), trust.clone()));
        Settings::from_places(&places, &trust, None, &[])
    }

    fn problems(folder: &Path) -> Vec<Problem> {
        load(folder).unwrap_err().downcast::<Faults>().unwrap().0
    }

    #[test]
    fn the_users_file_wins_over_the_systems_and_both_say_where() {
        let folder = tempfile::tempdir().unwrap();
        write(
            &folder.path().join("etc/config.toml"),
            "[host]\nupstream = \"direct\"\n[scan]\nstrict = true\n",
        );
        write(&folder.path().join("home/config.toml"), "\n[host]\nupstream = \"router\"\n");
        let settings = load(folder.path()).unwrap();
        assert_eq!(settings.upstream(), Some(Upstream::Router));
        let (_, set) = settings.shown().next().unwrap();
        assert!(set.unwrap().from.ends_with("home/config.toml:3"), "{set:?}");
        assert_eq!(settings.get("scan.strict"), Some("true"));
        assert_eq!(settings.get("output.color"), Some("auto"));
    }

    #[test]
    fn every_fault_is_told_at_once_at_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[hots]\nx = 1\n[host]\nupstrem = \"direct\"\n[scan]\nstrict = \"true\"\nnetns = \"al\"\n";
        write(&folder.path().join("etc/config.toml"), text);
        let told = problems(folder.path());
        let mut said: Vec<_> = told
            .iter()
            .map(|each| (&text[each.span.clone().unwrap()], each.help.as_deref().unwrap_or("-")))
            .collect();
        said.sort_unstable();
        assert_eq!(
            said,
            [
                ("\"al\"", "did you mean \"all\"?"),
                ("\"true\"", "-"),
                ("hots", "did you mean `host`?"),
                ("upstrem", "did you mean `upstream`?"),
            ]
        );
    }

    #[test]
    fn a_folder_that_others_may_write_is_one_fault_however_much_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let etc = folder.path().join("etc");
        write(&etc.join("config.toml"), "[scan]\nstrict = true\n");
        fs::create_dir_all(etc.join("rules")).unwrap();
        fs::set_permissions(&etc, fs::Permissions::from_mode(0o777)).unwrap();
        let told = problems(folder.path());
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].file.ends_with("etc"), "{told:?}");
    }

    #[test]
    fn a_file_that_others_may_write_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("etc/config.toml");
        write(&file, "[host]\nupstream = \"direct\"\n");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        let told = problems(folder.path());
        assert_eq!(told.len(), 1);
        assert!(told[0].file.ends_with("etc/config.toml") && told[0].message.contains("written by others"));
    }

    #[test]
    fn a_rule_folder_with_a_foreign_hand_in_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("etc/rules/good.toml"), "");
        assert_eq!(load(folder.path()).unwrap().rules, [folder.path().join("etc/rules")]);
        let bad = folder.path().join("etc/rules/deep/bad.toml");
        write(&bad, "");
        fs::set_permissions(&bad, fs::Permissions::from_mode(0o646)).unwrap();
        assert!(problems(folder.path())[0].file.ends_with("bad.toml"));
    }

    #[test]
    fn root_has_no_folder_at_home() {
        let trust = Trust::of_this_user();
        let at_home = places(&trust).iter().any(|(folder, _)| folder.ends_with(".config/sockwarden"));
        assert_eq!(at_home, !trust.is_root() && std::env::var_os("HOME").is_some());
    }

    #[test]
    fn every_default_is_one_of_its_values() {
        for setting in &SETTINGS {
            let fits =
                |value| setting.values.contains(&value) || duration(value).is_ok() || size(value).is_some();
            assert!(setting.default.is_none_or(fits), "{}", setting.name);
            assert!(setting.name.split_once('.').is_some() && !setting.says.is_empty());
        }
    }

    #[test]
    fn a_length_of_time_has_a_unit_and_an_end() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("90d"), Ok(Duration::from_secs(90 * 86_400)));
        for bad in ["", "60", "-5s", "5 parsecs", "9999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("etc/config.toml"), "[watch]\nevery = \"10s\"\ndwell = \"soon\"\n");
        let told = problems(folder.path());
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].message.contains("`dwell` is one of a length of time"), "{told:?}");
    }

    #[test]
    fn a_size_has_a_unit_and_bounds() {
        assert_eq!(size("128M"), Some(128 << 20));
        assert_eq!(size("1T"), Some(1 << 40));
        for bad in ["", "M", "128", "0M", "+1M", "1k", "2000T", "99999999999999999999M", "1µ"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn no_file_at_all_is_fine() {
        let folder = tempfile::tempdir().unwrap();
        let settings = load(folder.path()).unwrap();
        assert_eq!(settings.fail_on(), Threshold::from_name("high"));
        assert!(settings.rules.is_empty() && settings.skipped.is_empty());
    }
}
