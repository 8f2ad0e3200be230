//! Where programs hang in the kernel: for each purpose the best hook first, and what does when the
//! kernel refuses it.

#![forbid(unsafe_code)]

/// One program of `events.bpf.c`, known by where it hangs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Hook {
    /// The tracepoint of TCP's states, with types that the verifier knows (Linux 5.12).
    TcpState,
    /// The same without: neither path nor arguments are read (Linux 5.8).
    TcpStatePlain,
    /// Granted binds of IPv4, at the root of the control groups (Linux 5.12).
    Bind4,
    /// Those of IPv6.
    Bind6,
    /// Ends of sockets that were bound there.
    Release,
}

impl Hook {
    pub const ALL: [Self; 5] = [Self::TcpState, Self::TcpStatePlain, Self::Bind4, Self::Bind6, Self::Release];

    /// The section of the object, in the words of the kernel's own documentation.
    pub fn name(self) -> &'static str {
        match self {
            Self::TcpState => "tp_btf/inet_sock_set_state",
            Self::TcpStatePlain => "raw_tp/inet_sock_set_state",
            Self::Bind4 => "cgroup/post_bind4",
            Self::Bind6 => "cgroup/post_bind6",
            Self::Release => "cgroup/sock_release",
        }
    }

    /// What it is called in the object.
    #[cfg_attr(not(feature = "bpf"), expect(dead_code, reason = "the loader alone looks for it"))]
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::TcpState => "listening",
            Self::TcpStatePlain => "listening_plain",
            Self::Bind4 => "binding4",
            Self::Bind6 => "binding6",
            Self::Release => "releasing",
        }
    }
}

/// What programs are for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Purpose {
    Listen,
    Bind4,
    Bind6,
    Release,
}

impl Purpose {
    pub const ALL: [Self; 4] = [Self::Listen, Self::Bind4, Self::Bind6, Self::Release];

    /// Best first.
    pub fn hooks(self) -> &'static [Hook] {
        match self {
            Self::Listen => &[Hook::TcpState, Hook::TcpStatePlain],
            Self::Bind4 => &[Hook::Bind4],
            Self::Bind6 => &[Hook::Bind6],
            Self::Release => &[Hook::Release],
        }
    }
}

/// Hooks that shall not be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Without(u32);

impl Without {
    /// Every hook of that name; `None` for a name that there is not.
    #[must_use]
    pub fn and(self, name: &str) -> Option<Self> {
        let named = |hook: &&Hook| name == "all" || hook.name() == name;
        let bits = Hook::ALL.iter().filter(named).fold(0, |bits, hook| bits | 1 << (*hook as u32));
        (bits != 0).then_some(Self(self.0 | bits))
    }

    pub fn has(self, hook: Hook) -> bool {
        self.0 & (1 << (hook as u32)) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hook_serves_one_purpose_and_has_its_own_name() {
        for hook in Hook::ALL {
            let serves = Purpose::ALL.iter().filter(|purpose| purpose.hooks().contains(&hook));
            assert_eq!(serves.count(), 1, "{}", hook.name());
            let alike = Hook::ALL.iter().filter(|other| other.name() == hook.name());
            assert_eq!(alike.count(), 1, "{}", hook.name());
        }
    }

    #[test]
    fn hooks_are_left_out_by_name() {
        let none = Without::default();
        assert!(!Hook::ALL.iter().any(|hook| none.has(*hook)));
        let one = none.and("cgroup/post_bind4").unwrap();
        assert!(one.has(Hook::Bind4) && !one.has(Hook::Bind6) && !one.has(Hook::TcpState));
        let all = one.and("all").unwrap();
        assert!(Hook::ALL.iter().all(|hook| all.has(*hook)));
        assert_eq!(none.and("post_bind"), None);
    }
}
