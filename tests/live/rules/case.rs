//! What a case is: a program, how it is set up badly, and in which way its rule's remedy is to be followed.

use crate::lab::Need::{self, Root};

/// Which end of the cable.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Here,
    There,
}

/// What tells that a program has taken up its place.
#[derive(Clone, Copy)]
pub(super) enum Ready {
    Tcp(u16),
    Udp(u16),
    File(&'static str),
    /// Nothing of its own; the findings are asked for until they show it.
    Asked,
}

/// How the remedy is followed.
#[derive(Clone, Copy)]
pub(super) enum Fix {
    /// Its commands, which ask for this unit to be restarted; then the undo, which brings it back.
    Service(&'static str),
    /// Its commands, to the running program.
    Commands,
    /// Its commands; started again, the program finds that it may not.
    Refused,
    /// Its first command is the new command line, with this in the place of PROGRAM.
    Again(&'static str),
    /// Its commands, which ask for this unit to be ended; started all the same, it is back.
    Stopped(&'static str),
    /// Its commands, which ask for this unit to be restarted and change nothing else.
    Restarted(&'static str),
    /// It names this option, which stands in the new command line.
    Option { said: &'static str, start: &'static str },
}

pub(super) type Helper = (Side, &'static str, Ready);

#[derive(Clone, Copy)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) rule: &'static str,
    pub(super) needs: &'static [Need],
    pub(super) severity: &'static str,
    /// Of this computer, on a network of 24 bits.
    pub(super) address: &'static str,
    /// Makes the configuration bad.
    pub(super) prepare: &'static str,
    /// Run before the program and through the whole case.
    pub(super) before: &'static [Helper],
    /// The program, as its unit starts it.
    pub(super) start: &'static str,
    pub(super) ready: Ready,
    /// Run after each start of the program.
    pub(super) after: &'static [Helper],
    pub(super) fix: Fix,
    /// What tells that the program is there after the fix, when that is something else than before.
    pub(super) fixed: &'static [Ready],
}

/// What most cases have: a computer in a local network.
pub(super) const LAN: Case = Case {
    name: "",
    rule: "",
    needs: &[Root],
    severity: "",
    address: "10.77.0.1",
    prepare: "",
    before: &[],
    start: "",
    ready: Ready::Asked,
    after: &[],
    fix: Fix::Commands,
    fixed: &[],
};
