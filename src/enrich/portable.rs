//! Facts of processes where there is no /proc: through sysinfo.
//!
//! What it cannot tell (units, containers, packages, capabilities, namespaces, standard streams)
//! does not exist on those systems in that form, or stays unknown.

use std::collections::BTreeMap;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind, Users};

use crate::model::{Ancestor, ExeState, Fact, Process, Text};

/// Fills what the system tells. Counts the processes whose executable it does not.
pub(super) fn fill(processes: &mut [Process]) -> u64 {
    let once = UpdateKind::OnlyIfNotSet;
    let wanted = ProcessRefreshKind::nothing().with_exe(once).with_cmd(once).with_cwd(once).with_user(once);
    let (Ok(mut system), Ok(users)) = (System::new(), Users::new_with_refreshed_list()) else {
        return processes.len() as u64;
    };
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, wanted);
    let mut names: BTreeMap<String, Text> = BTreeMap::new();
    for user in &users {
        names.insert(user.id().to_string(), user.name().into());
    }
    let mut unread = 0;
    for process in processes {
        let Some(seen) = system.process(Pid::from_u32(process.pid)) else {
            unread += 1;
            continue;
        };
        process.start_time = i64::try_from(seen.start_time())
            .map_or(Fact::Unknown, |seconds| Fact::Known(seconds.saturating_mul(1_000_000_000)));
        if let Some(exe) = seen.exe() {
            process.exe = Fact::Known(bytes(exe.as_os_str()));
            process.exe_state = match std::fs::exists(exe) {
                Ok(true) => ExeState::Present,
                Ok(false) => ExeState::Deleted,
                Err(_) => ExeState::Unknown,
            };
        }
        unread += u64::from(seen.exe().is_none());
        if !seen.cmd().is_empty() {
            process.cmdline = Fact::Known(seen.cmd().iter().map(|word| bytes(word)).collect());
        }
        if let Some(cwd) = seen.cwd() {
            process.cwd = Fact::Known(bytes(cwd.as_os_str()));
        }
        let owner = seen.effective_user_id().or(seen.user_id());
        process.uid = number(seen.user_id());
        process.euid = number(owner);
        if let Some(name) = owner.and_then(|id| names.get(&id.to_string())) {
            process.user = Fact::Known(name.clone());
        }
        process.parents = parents(&system, seen);
        process.unit = Fact::Absent;
        process.container = Fact::Absent;
    }
    unread
}

/// Windows has no numbers for users: there it stays unknown.
fn number(id: Option<&sysinfo::Uid>) -> Fact<u32> {
    id.and_then(|id| id.to_string().parse().ok()).map_or(Fact::Unknown, Fact::Known)
}

fn parents(system: &System, process: &sysinfo::Process) -> Fact<Vec<Ancestor>> {
    let mut chain: Vec<Ancestor> = Vec::new();
    let mut child = process;
    while let Some(pid) = child.parent().filter(|pid| pid.as_u32() != 0 && chain.len() < 64) {
        let Some(parent) = system.process(pid) else { return Fact::Unknown };
        if parent.start_time() > child.start_time() {
            return Fact::Unknown; // the parent ended, and a newer process has its pid
        }
        chain.push(Ancestor { pid: pid.as_u32(), name: bytes(parent.name()) });
        child = parent;
    }
    Fact::Known(chain)
}

fn bytes(text: &std::ffi::OsStr) -> Text {
    text.as_encoded_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_of_this_very_process() {
        let mut me = [Process::new(std::process::id(), 0, "x".into(), 0)];
        assert_eq!(fill(&mut me), 0);
        let exe = std::env::current_exe().expect("a program");
        assert_eq!(me[0].exe, Fact::Known(bytes(exe.as_os_str())));
        assert_eq!(me[0].exe_state, ExeState::Present);
        assert!(!me[0].user.is_unknown() && !me[0].start_time.is_unknown());
    }
}
