//! Words that may stand in a command.

/// A word as a POSIX shell reads it back. `None` for what no command should hold: nothing, control
/// characters, what is not UTF-8, and a leading `-`, which would be taken for an option.
pub(super) fn shell(word: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(word).ok()?;
    if text.is_empty() || text.starts_with('-') || text.chars().any(char::is_control) {
        return None;
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if text.chars().all(plain) {
        return Some(text.to_owned());
    }
    Some(format!("'{}'", text.replace('\'', r"'\''")))
}

/// A systemd unit of one of these kinds, by the characters that a unit name may have
/// (systemd.unit(5)).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Unit(String);

impl Unit {
    pub(super) fn service(name: &[u8]) -> Option<Self> {
        Self::of_kind(name, ".service")
    }

    pub(super) fn socket(name: &[u8]) -> Option<Self> {
        Self::of_kind(name, ".socket")
    }

    fn of_kind(name: &[u8], kind: &str) -> Option<Self> {
        let text = std::str::from_utf8(name).ok()?;
        let good = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        let stem = text.strip_suffix(kind)?;
        let fine =
            text.len() < 256 && !stem.is_empty() && !stem.starts_with(['-', '.']) && stem.chars().all(good);
        fine.then(|| Self(text.to_owned()))
    }

    /// As a shell reads it; a unit name may hold backslashes.
    pub(super) fn word(&self) -> String {
        shell(self.0.as_bytes()).unwrap_or_else(|| format!("'{}'", self.0))
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::proptest;
    use proptest::{prop_assert_eq, test_runner::Config};

    proptest! {
        #![proptest_config(Config { failure_persistence: None, cases: 64, ..Config::default() })]
        #[test]
        fn a_shell_reads_back_the_same_word(text in "\\PC{1,20}") {
            if let Some(word) = shell(text.as_bytes()) {
                let script = format!("printf %s {word}");
                let read = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
                prop_assert_eq!(read.stdout, text.as_bytes());
            }
        }
    }

    #[test]
    fn what_no_command_should_hold_is_refused() {
        for bad in [&b""[..], b"-rf", b"a\nb", b"a\x1b[2J", b"\xff"] {
            assert_eq!(shell(bad), None);
        }
        for bad in ["a b.service", "$(id).service", ".service", "x.socket", "../x.service", "a/b.service"] {
            assert_eq!(Unit::service(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(Unit::service(br"dev-disk\x2d1.service").unwrap().word(), r"'dev-disk\x2d1.service'");
    }
}
