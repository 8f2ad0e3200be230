//! A panic is a bug of ours: told shortly, and told apart from every other way to end.

use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook};

use super::exit::Exit;
use crate::model::Text;

/// Replaces the report of the standard library, which shows messages as they are.
pub(crate) fn install() {
    set_hook(Box::new(|info| {
        // Nothing can be done about a standard error that does not take it.
        let _ = io::stderr().lock().write_all(report(info).as_bytes());
    }));
}

fn report(info: &PanicHookInfo<'_>) -> String {
    let said = info.payload_as_str().unwrap_or("no message");
    let place = info.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
    format!(
        "sockwarden {}: this is a bug: {}{place}\nPlease report it with the command that you ran.\n",
        env!("CARGO_PKG_VERSION"),
        Text::from(said),
    )
}

/// Runs the program; a panic in it becomes an exit code of its own.
pub(crate) fn guard(run: impl FnOnce() -> Exit) -> Exit {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or(Exit::Bug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_with_the_code_of_a_bug() {
        assert_eq!(guard(|| panic!("for the test")), Exit::Bug);
        assert_eq!(guard(|| Exit::Clean), Exit::Clean);
    }
}
