//! A fact that may be known, known to be absent, or not readable: the three are never mixed up.

use serde::{Deserialize, Serialize};

/// What is known of one fact. `Absent` is an answer ("runs in no container"); `Unknown` is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact<T> {
    Known(T),
    Absent,
    #[default]
    Unknown,
}

impl<T> Fact<T> {
    /// The value, where there is one; absent and unknown look alike here.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent | Self::Unknown => None,
        }
    }

    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }
}

impl<T> From<Option<T>> for Fact<T> {
    /// For a source that was read in full: nothing found means absent.
    fn from(found: Option<T>) -> Self {
        found.map_or(Self::Absent, Self::Known)
    }
}
