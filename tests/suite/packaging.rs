//! What is shipped beside the program is in order.

#![cfg(target_os = "linux")]

use std::process::Command;

/// systemd's own opinion of our units (`systemd-analyze verify`, and at most 3.0 of `security`).
#[test]
fn the_units_are_in_order_and_confined() {
    let folder = tempfile::tempdir().unwrap();
    let analyze = |words: &[&str]| Command::new("systemd-analyze").args(words).output();
    if analyze(&["--version"]).is_err() {
        println!("skipped: needs the program systemd-analyze");
        return;
    }
    for (name, scope) in [("sockwarden-watch", "--system"), ("sockwarden-alert", "--user")] {
        let shipped = format!("{}/packaging/systemd/{name}.service", env!("CARGO_MANIFEST_DIR"));
        // The program need not be installed where the unit will find it.
        let text = std::fs::read_to_string(&shipped).unwrap();
        let text = text.replace("/usr/bin/sockwarden", env!("CARGO_BIN_EXE_sockwarden"));
        let file = folder.path().join(format!("{name}.service"));
        std::fs::write(&file, text).unwrap();
        let done = analyze(&["verify", scope, "--man=no", file.to_str().unwrap()]).unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("sockwarden")).collect();
        assert!(ours.is_empty(), "{ours:#?}");
    }
    let unit = folder.path().join("sockwarden-watch.service");
    let words = ["security", "--offline=true", "--threshold=30", unit.to_str().unwrap()];
    let done = analyze(&words).unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    if said.contains("unrecognized option") {
        println!("skipped: this systemd-analyze looks at no unit that is not loaded");
        return;
    }
    assert!(done.status.success(), "more than 3.0: {said}");
}
