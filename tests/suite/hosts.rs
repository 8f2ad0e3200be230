//! Machines as good administrators keep them, recorded by `tests/live/rules/hosts.rs`: nothing that is
//! said of them may be above low.

use std::path::Path;

use serde_json::Value;

fn report(name: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts").join(name).join("snapshot.json");
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_sockwarden"))
        .args(["audit", "--json", "--fail-on", "none", "--from"])
        .arg(file)
        .output()
        .unwrap();
    assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

#[test]
fn nothing_above_low_is_said_of_good_machines() {
    // The second word is a program that must be in the recording, so that an empty one is no success.
    for (name, program) in [
        ("good-server", "mariadbd"),
        ("good-desktop", "avahi-daemon"),
        ("good-containers", "dockerd"),
        ("good-developer", "jupyter-noteboo"),
    ] {
        let report = report(name);
        let listed = serde_json::to_string(&report["sockets"]).unwrap();
        assert!(listed.contains(program), "{name} has no socket of {program}");
        for found in report["findings"].as_array().unwrap() {
            let severity = found["severity"].as_str().unwrap();
            assert!(matches!(severity, "low" | "info"), "{name}: {severity}: {}", found["message"]);
        }
    }
}
