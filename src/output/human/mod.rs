//! Text for a person: on a terminal it fits the terminal, in a pipe nothing is shortened. Names
//! of other programs reach it only through `model::Text` or `Clean`.

mod asked;
mod audit;
mod event;
mod history;
mod list;
mod paint;
mod proof;
mod screens;
mod table;
mod ways;
mod why;

pub(crate) use audit::audit;
pub(crate) use event::event;
pub(crate) use history::history;
pub(crate) use list::list;
pub(crate) use proof::step;
pub(crate) use screens::{diff, doctor, gaps, rules};
pub(crate) use why::why;

/// Sockets that nobody new can speak to have no reach; a packet socket is no door, it looks on.
fn without_reach(packets_only: bool) -> &'static str {
    if packets_only { "reads what passes its interface" } else { "takes nothing from strangers" }
}
