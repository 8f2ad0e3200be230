//! Why programs are not in use, and what helps.

#![forbid(unsafe_code)]

use std::fmt;

/// Why programs are not in use.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(not(feature = "bpf"), expect(dead_code, reason = "the loader alone meets the kernel"))]
pub(crate) enum Refusal {
    /// Nobody has asked for them.
    NotLoaded,
    /// Whoever runs us wants to do without.
    Unwanted,
    /// Left out of this build.
    NotBuilt,
    /// Pids that programs see would mean other processes here.
    Foreign,
    /// It numbers processes or their starts otherwise than /proc does.
    Otherwise,
    /// The kernel does not describe its types.
    Types(String),
    /// For want of rights.
    Denied(String),
    /// For any other reason.
    Kernel(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLoaded => formatter.write_str("they are not loaded"),
            Self::Unwanted => formatter.write_str("not wanted"),
            Self::NotBuilt => formatter.write_str("this build has none"),
            Self::Foreign => formatter.write_str("not every process of the machine is shown here"),
            Self::Otherwise => formatter.write_str("what it tells of ourselves is not what /proc says"),
            Self::Types(why) => write!(formatter, "the kernel does not describe its types: {why}"),
            Self::Denied(why) => write!(formatter, "the kernel does not let us: {why}"),
            Self::Kernel(why) => write!(formatter, "the kernel refused them: {why}"),
        }
    }
}

impl Refusal {
    /// Whether it is for want of rights.
    pub(crate) fn is_for_rights(&self) -> bool {
        match self {
            Self::Foreign | Self::Denied(_) => true,
            Self::NotLoaded
            | Self::Unwanted
            | Self::NotBuilt
            | Self::Otherwise
            | Self::Types(_)
            | Self::Kernel(_) => false,
        }
    }

    /// What helps, where anything does.
    pub(crate) fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::NotBuilt => Some("cargo build --features bpf"),
            Self::Foreign => Some("run it on the host, or with --pid=host and a /proc without hidepid"),
            Self::Denied(_) => Some("sudo sockwarden, or give it CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"),
            Self::NotLoaded | Self::Unwanted | Self::Otherwise | Self::Types(_) | Self::Kernel(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_rights_names_what_helps_and_what_nothing_helps_names_nothing() {
        let denied = Refusal::Denied("EPERM".to_owned());
        assert!(denied.is_for_rights() && denied.remedy().is_some_and(|text| text.contains("CAP_BPF")));
        assert!(Refusal::Foreign.is_for_rights() && Refusal::Foreign.remedy().is_some());
        let types = Refusal::Types("no such file".to_owned());
        assert!(!types.is_for_rights() && types.remedy().is_none());
        assert!(types.to_string().ends_with("no such file"));
    }
}
