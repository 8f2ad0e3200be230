//! `list`: one socket a line, the columns of ss(8) first.

use std::io::{self, BufWriter, Write};

use super::paint;
use super::table::{self, Head};
use crate::output::cells;
use crate::output::json::v1::Ids;
use crate::output::{Column, ListOptions, Style, View};

pub(crate) fn list(
    out: &mut dyn Write,
    view: &View<'_>,
    options: &ListOptions,
    style: &Style,
) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, out);
    let heads: Vec<Head> = options.columns.iter().map(|column| head(*column)).collect();
    let ids = Ids::new(view.snapshot);
    let observe = |row: usize| view.snapshot.observe(view.selection[row]);
    table::write(
        &mut out,
        style,
        &heads,
        options.header,
        view.selection.len(),
        |row, column, text| cells::write(text, &ids, &observe(row), options.columns[column]),
        |row, column| match options.columns[column] {
            Column::Reach => {
                observe(row).socket.exposure.as_ref().map(|exposure| paint::reach(exposure.reach))
            }
            Column::Netid
            | Column::State
            | Column::RecvQ
            | Column::SendQ
            | Column::Local
            | Column::Peer
            | Column::Process
            | Column::Unit
            | Column::Container
            | Column::Role
            | Column::User
            | Column::Pid
            | Column::Exe
            | Column::Package
            | Column::Netns
            | Column::Interface
            | Column::Inode
            | Column::Cookie
            | Column::Access
            | Column::Gap
            | Column::Id
            | Column::Port => None,
        },
    )?;
    out.flush()
}

fn head(column: Column) -> Head {
    match column {
        Column::Netid => Head::new("Netid"),
        Column::State => Head::new("State"),
        Column::RecvQ => Head::right("Recv-Q"),
        Column::SendQ => Head::right("Send-Q"),
        Column::Local => Head::shrinks("Local"),
        Column::Peer => Head::shrinks("Peer"),
        Column::Process => Head::shrinks("Process"),
        Column::Reach => Head::new("Reach"),
        Column::Unit => Head::shrinks("Unit"),
        Column::Container => Head::shrinks("Container"),
        Column::Role => Head::new("Role"),
        Column::User => Head::shrinks("User"),
        Column::Pid => Head::shrinks("Pid"),
        Column::Exe => Head::shrinks("Exe"),
        Column::Package => Head::shrinks("Package"),
        Column::Netns => Head::shrinks("Netns"),
        Column::Interface => Head::new("Interface"),
        Column::Inode => Head::right("Inode"),
        Column::Cookie => Head::right("Cookie"),
        Column::Access => Head::shrinks("Access"),
        Column::Gap => Head::new("Gap"),
        Column::Id => Head::shrinks("Id"),
        Column::Port => Head::right("Port"),
    }
}
