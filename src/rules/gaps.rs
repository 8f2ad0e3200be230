//! Which gap of a snapshot is why a fact is unknown.

use crate::model::Snapshot;

/// Facts by their full names, or by the tables they stand in, the narrower first; then the gaps that
/// can hide them, the likeliest first.
const HIDE: &[(&str, &[&str])] = &[
    ("process.package", &["packages-unread", "packages-rpm", "process-facts", "root-unread"]),
    ("process.container", &["container-state", "process-facts"]),
    ("process.unit", &["unit-files", "process-facts"]),
    ("process", &["owners-hidden", "process-facts", "processes-unread", "root-unread", "process-ended"]),
    ("user", &["owners-hidden", "process-facts", "root-unread", "process-ended"]),
    ("owned", &["owners-hidden", "processes-unread", "inode-ambiguous"]),
    ("others", &["owners-hidden", "table-unread", "netns-unread", "netns-unseen"]),
    ("accepted", &["owners-hidden", "table-unread"]),
    ("same_port", &["table-unread", "owners-hidden"]),
    ("peer", &["table-unread", "netns-unread", "netns-unseen", "owners-hidden"]),
    ("access", &["access-unread", "access-moved", "root-unread"]),
    ("reach", &["filter-unread", "bound-interface-unread", "interfaces-unread", "netns-unread"]),
    ("certain", &["filter-unread", "bound-interface-unread", "interfaces-unread", "netns-unread"]),
    ("interface", &["bound-interface-unread", "interfaces-unread"]),
    ("host.filter", &["filter-unread"]),
    ("host", &["interfaces-unread", "netns-unread"]),
    ("ephemeral", &["netns-unread"]),
    ("filtered", &["table-unread"]),
];

/// The id of that gap, where the snapshot has one of them.
pub(super) fn behind(snapshot: &Snapshot, field: &str) -> Option<String> {
    let is_of =
        |key: &str| field.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let (_, hide) = HIDE.iter().find(|(key, _)| is_of(key))?;
    hide.iter().find(|id| snapshot.gaps.iter().any(|gap| gap.id == **id)).map(|id| (*id).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Gap;

    fn of(ids: &[&'static str]) -> Snapshot {
        let gap = |id: &&'static str| Gap {
            id: (*id).into(),
            what: String::new(),
            why: String::new(),
            remedy: None,
            count: 1,
            unlisted: None,
        };
        Snapshot { gaps: ids.iter().map(gap).collect(), ..Snapshot::default() }
    }

    #[test]
    fn the_gap_that_hides_the_very_fact_is_named() {
        let all = of(&["owners-hidden", "packages-unread", "access-unread", "filter-unread"]);
        let named = |field: &str| behind(&all, field);
        assert_eq!(named("process.package").as_deref(), Some("packages-unread"));
        assert_eq!(named("process.cmdline").as_deref(), Some("owners-hidden"));
        assert_eq!(named("access.users").as_deref(), Some("access-unread"));
        assert_eq!(named("reach").as_deref(), Some("filter-unread"));
        // Not every name that begins alike, and no gap that has nothing to do with it.
        assert_eq!(named("owner_gap"), None);
        assert_eq!(behind(&of(&["access-unread"]), "process.exe"), None);
    }

    #[test]
    fn no_key_is_hidden_by_an_earlier_one() {
        for (at, (key, _)) in HIDE.iter().enumerate() {
            let earlier =
                HIDE[..at].iter().find(|(other, _)| key.starts_with(&format!("{other}.")) || key == other);
            assert!(earlier.is_none(), "{key} comes after {earlier:?}");
        }
    }
}
