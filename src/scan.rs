//! The program on one screen: collect, enrich, expose, match.

#![forbid(unsafe_code)]

use crate::finding::{Report, Suppressions, group};
use crate::model::{Snapshot, Upstream, Wants};
use crate::rules::RuleSet;
use crate::source::Source;
use crate::{collect, enrich, firewall};

/// Everything that is read of the machine, once.
pub fn gather(source: &Source, wants: &Wants) -> Snapshot {
    let mut snapshot = collect::sockets(source, wants);
    enrich::context(&mut snapshot, source, wants);
    source.let_go();
    if wants.places {
        firewall::ask(&mut snapshot, source);
        if wants.texts {
            firewall::quote(&mut snapshot, source);
        }
    }
    snapshot
}

/// What can be said at once of a socket that has just come: of its own holders what is read soonest, and
/// who reaches it by what the last scan knew of interfaces and filters, which must be in the snapshot.
pub fn glimpse(source: &Source, snapshot: &mut Snapshot, upstream: Option<Upstream>) {
    enrich::context(snapshot, source, &Wants { processes: true, units: true, ..Wants::NOTHING });
    firewall::expose(snapshot, upstream);
}

/// Everything that follows from what was read; nothing is read here.
pub fn judge(
    snapshot: &mut Snapshot,
    upstream: Option<Upstream>,
    rules: &RuleSet,
    suppressions: &Suppressions,
) -> Report {
    firewall::expose(snapshot, upstream);
    let (hits, undecided) = rules.check(snapshot);
    let mut report = Report { findings: group(snapshot, hits), undecided };
    for finding in &mut report.findings {
        finding.remedies.extend(firewall::suggest::remedies(snapshot, &finding.sockets));
    }
    suppressions.apply(snapshot, &mut report);
    report
}
