//! Real kernel objects and real programs.
//!
//! Each module has `pub(crate) fn trials() -> Vec<Trial>`, made with [`lab::trial`], which says what a
//! test needs; a test that cannot run here is shown as ignored, with the reason. With `CI=true` a
//! missing right or program is a failure; an ability that this kernel lacks stays a skip.
//!
//! The programs that hold awkward sockets are this binary itself: `live maker NAME ARGS…` runs the
//! maker of that name from a module's `pub(crate) fn makers()`.

#![allow(unsafe_code, reason = "makes kernel objects that no safe interface offers")]
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "this is a test")]

#[cfg(target_os = "linux")]
mod alert;
#[cfg(target_os = "linux")]
mod awkward;
#[cfg(target_os = "linux")]
mod blind;
#[cfg(target_os = "linux")]
mod churn;
#[cfg(target_os = "linux")]
mod cli;
#[cfg(target_os = "linux")]
mod enrich;
#[cfg(all(target_os = "linux", feature = "history"))]
mod history;
#[cfg(target_os = "linux")]
mod lab;
#[cfg(target_os = "linux")]
mod published;
#[cfg(target_os = "linux")]
mod quoted;
#[cfg(target_os = "linux")]
mod reach;
#[cfg(target_os = "linux")]
mod reverse;
#[cfg(target_os = "linux")]
mod ruled;
#[cfg(target_os = "linux")]
mod ruled_xt;
#[cfg(target_os = "linux")]
mod rules;
#[cfg(target_os = "linux")]
mod shapes;
#[cfg(target_os = "linux")]
mod suggest;
mod told;
#[cfg(target_os = "linux")]
mod watch;
#[cfg(target_os = "linux")]
mod whys;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    let makers: Vec<lab::Maker> = [
        lab::makers(),
        awkward::makers(),
        blind::makers(),
        churn::makers(),
        enrich::makers(),
        whys::makers(),
        published::makers(),
        shapes::makers(),
        watch::makers(),
        // one line a module
    ]
    .concat();
    if let Some(code) = lab::run_maker(&makers) {
        return code;
    }
    lab::prepare();
    let trials = [
        lab::trials(),
        awkward::trials(),
        blind::trials(),
        churn::trials(),
        cli::trials(),
        rules::trials(),
        reach::trials(),
        ruled::trials(),
        quoted::trials(),
        ruled_xt::trials(),
        suggest::trials(),
        whys::trials(),
        published::trials(),
        reverse::trials(),
        enrich::trials(),
        shapes::trials(),
        watch::trials(),
        #[cfg(feature = "history")]
        history::trials(),
        alert::trials(),
        // one line a module
    ];
    let trials = trials.into_iter().flatten().collect();
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), trials).exit_code()
}

#[cfg(not(target_os = "linux"))]
fn main() {}
