//! What we lack to see more, and how to get it.

#![forbid(unsafe_code)]

use crate::source::Source;

/// Numbers of <linux/capability.h>.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Capability {
    SysPtrace = 19,
    SysAdmin = 21,
}

impl Capability {
    fn name(self) -> &'static str {
        match self {
            Self::SysPtrace => "SYS_PTRACE",
            Self::SysAdmin => "SYS_ADMIN",
        }
    }
}

/// The one thing that helps where this capability was needed.
pub(super) fn remedy(source: &Source, needed: Capability) -> String {
    let status = source.proc_file("thread-self/status").unwrap_or_default();
    let (root, capable) = standing(&String::from_utf8_lossy(&status), needed);
    match (root, capable) {
        (false, false) => "run as root: sudo sockwarden".into(),
        (true, false) => {
            let name = needed.name();
            format!("give it CAP_{name} (docker run --cap-add {name} --pid host …)")
        }
        (_, true) => "run it on the host itself, with every capability that the hidden processes have".into(),
    }
}

/// Whether /proc/PID/status tells of effective user 0, and of the capability.
fn standing(status: &str, needed: Capability) -> (bool, bool) {
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.split_whitespace())
    };
    let root = field("Uid:").and_then(|mut ids| ids.nth(1)) == Some("0");
    let set = field("CapEff:").and_then(|mut words| u64::from_str_radix(words.next()?, 16).ok());
    (root, set.is_some_and(|set| set & 1 << needed as u32 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_read_from_the_effective_set() {
        let root = "Name:\tx\nUid:\t1000\t0\t0\t0\nCapPrm:\t0\nCapEff:\t0000000000080000\n";
        assert_eq!(standing(root, Capability::SysPtrace), (true, true));
        assert_eq!(standing(root, Capability::SysAdmin), (true, false));
        let user = "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\n";
        assert_eq!(standing(user, Capability::SysPtrace), (false, false));
    }
}
