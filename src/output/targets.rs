//! Where a published port leads, in words.

use super::cells;
use crate::model::{Observation, PublishedTarget};

/// More targets than these are counted.
const MOST: usize = 3;

/// `172.17.0.2:80 in web, nginx (pid 12)`
fn told(each: &Observation<'_>, target: &PublishedTarget) -> String {
    let Some(netns) = target.netns else { return format!("{target} elsewhere") };
    let namespace = each.snapshot.namespace(netns);
    let there = match &namespace.name {
        _ if netns == each.socket.netns => "here".to_owned(),
        Some(name) => format!("in {name}"),
        None => format!("in netns {}", namespace.inode),
    };
    match target.socket {
        Some(socket) => {
            let other = each.snapshot.observe(socket);
            let container = other.owners().find_map(|owner| cells::container(owner.process));
            let container = container.map_or_else(String::new, |name| format!(", container {name}"));
            format!("{target} {there}, {}{container}", cells::who(&other))
        }
        None => format!("{target} {there}, where nobody listens"),
    }
}

/// All of them on one line.
pub(crate) fn sent_on(each: &Observation<'_>) -> String {
    let targets = each.targets();
    let mut words: Vec<String> = targets.iter().take(MOST).map(|target| told(each, target)).collect();
    if targets.len() > MOST {
        words.push(format!("{} more", targets.len() - MOST));
    }
    format!("nobody here; sent on to {}", words.join("; "))
}
