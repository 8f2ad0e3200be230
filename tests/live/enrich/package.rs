//! Which package a program comes from, beside what dpkg and rpm themselves say.

use std::fs::{self};
use std::path::Path;
use std::process::Command;

use sockwarden::model::{ExeState, Fact, Text};

use super::{Running, ensure_exe, facts, open_folder, sleep_program, wait_for_exe};
use crate::lab::{self, Outcome, Stop, ensure};

pub(super) fn package_of_a_program() -> Outcome {
    let sleep = sleep_program()?;
    if !Path::new("/var/lib/dpkg/info").exists() {
        return Err(Stop::Skip("needs a system with dpkg".into()));
    }
    let running = Running::start(Command::new(&sleep).arg("1000"))?;
    let process = ensure_exe(running.pid(), &sleep, ExeState::Present)?;
    let mut told = None;
    for name in [sleep.to_string_lossy().into_owned(), sleep.to_string_lossy().replacen("/usr", "", 1)] {
        if let Ok(answer) = lab::output(Command::new("dpkg").args(["-S", &name])) {
            told = String::from_utf8_lossy(&answer).split(':').next().map(str::to_owned);
            break;
        }
    }
    let told = told.ok_or("dpkg does not know sleep")?;
    ensure(process.package == Fact::Known(told.as_str().into()), || {
        format!("dpkg says {told}, we {:?}", process.package)
    })
}

/// A package of one program, built by rpmbuild itself.
const SPEC: &str = "\
Name: sockwarden-NAME
Version: 1.2
Release: 3
Summary: a program in /opt/NAME
License: MIT
%description
%{summary}
%install
mkdir -p %{buildroot}/opt/NAME
cp /bin/busybox %{buildroot}/opt/NAME/busybox-keeper
%files
/opt/NAME
";

/// Two packages with a program of the same name each, installed by rpm into a folder that is the
/// programs' root; a copy of the program belongs to none.
pub(super) fn package_of_rpm() -> Outcome {
    let dir = open_folder()?;
    let root = dir.path().join("root");
    fs::create_dir(&root)?;
    for name in ["one", "two"] {
        let spec = dir.path().join(format!("{name}.spec"));
        fs::write(&spec, SPEC.replace("NAME", name))?;
        let define = |key: &str, value: &str| ["--define".to_owned(), format!("{key} {value}")];
        let top = dir.path().to_string_lossy().into_owned();
        let mut build = Command::new("rpmbuild");
        build.args(["--quiet", "-bb"]).args(define("_topdir", &top)).args(define("_rpmdir", &top));
        build.args(define("_build_id_links", "none")).args(define("debug_package", "%{nil}"));
        lab::output(build.args(define("__os_install_post", "%{nil}")).arg(&spec))?;
        let made =
            lab::output(Command::new("find").arg(dir.path()).args(["-name", &format!("*-{name}-*.rpm")]))?;
        let made = String::from_utf8_lossy(&made).trim().to_owned();
        let mut install = Command::new("rpm");
        install.arg("--root").arg(&root).args(["--dbpath", "/var/lib/rpm", "-i", "--nodeps", &made]);
        lab::output(&mut install)?;
    }
    crate::lab::copy_program(root.join("opt/one/busybox-keeper"), root.join("opt/busybox-keeper"))?;
    let wanted = [
        ("/opt/one/busybox-keeper", Fact::Known("sockwarden-one".into())),
        ("/opt/two/busybox-keeper", Fact::Known("sockwarden-two".into())),
        ("/opt/busybox-keeper", Fact::Absent),
    ];
    for (path, package) in wanted {
        let (found, _) = kept(&root, path)?;
        ensure(found == package, || format!("{path}: {found:?}, not {package:?}"))?;
    }

    // An older kind of data base.
    let base = root.join("var/lib/rpm");
    fs::remove_dir_all(&base)?;
    fs::create_dir(&base)?;
    fs::write(base.join("Packages"), "Berkeley DB")?;
    let (found, gaps) = kept(&root, "/opt/one/busybox-keeper")?;
    ensure(found == Fact::Unknown && gaps.iter().any(|id| id == "packages-rpm"), || {
        format!("{found:?}, {gaps:?}")
    })
}

/// The package of a program that runs in a root of its own, and the gaps.
fn kept(root: &Path, path: &str) -> Outcome<(Fact<Text>, Vec<String>)> {
    let running = Running::start(Command::new("chroot").arg(root).args([path, "sleep", "1000"]))?;
    wait_for_exe(running.pid(), &root.join(path.trim_start_matches('/')))?;
    let (process, snapshot) = facts(running.pid())?;
    Ok((process.package, snapshot.gaps.iter().map(|gap| gap.id.to_string()).collect()))
}
