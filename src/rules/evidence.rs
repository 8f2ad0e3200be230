//! What a hit says: one sentence, and the facts that decided; what an undecided rule lacks.

use super::condition::{Cond, Group, HolderCond, Leaf};
use super::facts::{self, View};
use super::matcher::{Scan, unheld};
use super::pattern::Truth;
use super::reader::shorten;
use super::schema::Key;
use crate::model::{Endpoint, Observation, Owner, OwnerGap, Protocol, Reach, Role, Socket, Users};

impl<'s> Scan<'s> {
    /// The facts because of which a condition holds, each once, in the order of the rule.
    pub(super) fn deciding(&self, cond: &Cond, observation: Observation<'s>) -> Vec<String> {
        let mut found = Vec::new();
        self.why(cond, View { observation, owner: None }, Truth::True, &mut found);
        found
    }

    /// The facts because of which a condition does not hold.
    pub(super) fn refuting(&self, cond: &Cond, observation: Observation<'s>) -> Vec<String> {
        let mut found = Vec::new();
        self.why(cond, View { observation, owner: None }, Truth::False, &mut found);
        found
    }

    /// Names of the facts that are unknown and on which the answer hangs.
    pub(super) fn missing(&self, cond: &Cond, observation: Observation<'s>) -> Vec<String> {
        let mut found = Vec::new();
        self.why(cond, View { observation, owner: None }, Truth::Undecided, &mut found);
        found
    }

    /// Like `refuting`, for a part of a condition.
    pub(super) fn refuted(&self, cond: &Cond, view: View<'s>, found: &mut Vec<String>) {
        self.why(cond, view, Truth::False, found);
    }

    pub(super) fn refuted_group(&self, group: &Group, view: View<'s>, found: &mut Vec<String>) {
        self.why_group(group, view, Truth::False, found);
    }

    /// Follows those parts of a condition that made it what it is.
    fn why(&self, cond: &Cond, view: View<'s>, truth: Truth, found: &mut Vec<String>) {
        match cond {
            Cond::All(parts) | Cond::Any(parts) => {
                // One false part refutes an `all`, one true part proves an `any`; else all count.
                let enough =
                    matches!((cond, truth), (Cond::All(_), Truth::False) | (Cond::Any(_), Truth::True));
                // What all parts agree in needs no second look.
                let agreed =
                    matches!((cond, truth), (Cond::All(_), Truth::True) | (Cond::Any(_), Truth::False));
                for part in parts.iter().filter(|part| agreed || self.cond(part, view) == truth) {
                    self.why(part, view, truth, found);
                    if enough {
                        return;
                    }
                }
            }
            Cond::Not(inner) => self.why(inner, view, truth.not(), found),
            Cond::Leaf(leaf) => self.say(leaf, view, truth, found),
            Cond::Holder(holder) => self.why_holder(holder, view.observation, truth, found),
            Cond::Group(group) => self.why_group(group, view, truth, found),
        }
    }

    fn say(&self, leaf: &Leaf, view: View<'s>, truth: Truth, found: &mut Vec<String>) {
        let name = leaf.key.full_name();
        let line = match truth {
            Truth::Undecided => name,
            Truth::True | Truth::False => {
                let value = facts::show(leaf.key, &view.value(leaf.key));
                format!("{name} = {}", if leaf.key == Key::Cmdline { clip(&value) } else { value })
            }
        };
        push(found, line);
    }

    fn why_holder(
        &self,
        holder: &HolderCond,
        observation: Observation<'s>,
        truth: Truth,
        found: &mut Vec<String>,
    ) {
        if observation.socket.holders.len == 0 {
            if unheld(observation.socket) == Truth::Undecided {
                push(found, "process".to_owned());
            } else {
                self.gap(observation.socket, found);
            }
            return;
        }
        let owner = observation.owners().find(|owner| self.owner(holder, observation, *owner) == truth);
        let Some(owner) = owner else { return };
        let view = View { observation, owner: Some(owner) };
        if let Some(process) = &holder.process
            && self.cond(process, view) == truth
        {
            self.why(process, view, truth, found);
        }
        for group in holder.others.iter().filter(|group| self.group(group, view) == truth) {
            self.why_group(group, view, truth, found);
        }
    }

    fn gap(&self, socket: &Socket, found: &mut Vec<String>) {
        let gap = socket.owner_gap.map_or("none", OwnerGap::name);
        push(found, format!("owner_gap = {gap}"));
    }

    fn why_group(&self, group: &Group, view: View<'s>, truth: Truth, found: &mut Vec<String>) {
        let name = group.kind.name();
        if truth == Truth::Undecided {
            return push(found, name.to_owned());
        }
        let (first, count) = self.members(group, view, 3);
        let shown: Vec<String> = first.iter().map(|each| outline(*each)).collect();
        let more = count.saturating_sub(shown.len() as u64);
        push(
            found,
            match (shown.is_empty(), more) {
                (true, _) => format!("{name} = 0"),
                (false, 0) => format!("{name} = {count} ({})", shown.join(", ")),
                (false, more) => format!("{name} = {count} ({}, and {more} more)", shown.join(", ")),
            },
        );
    }
}

/// One sentence that names program, address and reach.
pub(super) fn message(observation: Observation<'_>, owner: Option<Owner<'_>>) -> String {
    let socket = observation.socket;
    let who = program(observation, owner);
    let protocol = socket.protocol.name();
    let (local, remote) = (place(observation, &socket.local), place(observation, &socket.remote));
    let reached = reached(socket);
    match socket.role {
        Role::Listener | Role::Receiver
            if !local.is_empty() && !matches!(socket.protocol, Protocol::Packet) =>
        {
            let verb = if socket.role == Role::Listener { "listens on" } else { "receives on" };
            format!("{who} {verb} {local} ({protocol}){reached}")
        }
        Role::Published => {
            let to = observation.targets().first().map_or_else(String::new, |first| format!(" to {first}"));
            format!("port {local} ({protocol}) is published by address translation{to}{reached}")
        }
        Role::Inbound => format!("{who} holds a {protocol} connection from {remote} to {local}"),
        Role::Outbound => format!("{who} holds a {protocol} connection to {remote}"),
        Role::Peer if !remote.is_empty() => format!("{who} is connected to {remote} ({protocol}){reached}"),
        Role::Listener | Role::Receiver | Role::Peer | Role::Idle => {
            let on = if local.is_empty() { String::new() } else { format!(" on {local}") };
            format!("{who} holds a {protocol} socket{on}{reached}")
        }
    }
}

fn program(observation: Observation<'_>, owner: Option<Owner<'_>>) -> String {
    if let Some(owner) = owner.or_else(|| observation.owners().next()) {
        return owner.process.name.to_string();
    }
    match observation.socket.owner_gap {
        Some(OwnerGap::Kernel) => "the kernel".to_owned(),
        Some(OwnerGap::Hidden) | None => "a program that could not be seen".to_owned(),
        Some(OwnerGap::TimeWait | OwnerGap::NotYetAccepted | OwnerGap::InFlight | OwnerGap::Gone) => {
            "no program".to_owned()
        }
    }
}

/// Ends the sentence with who gets in.
fn reached(socket: &Socket) -> String {
    let Some(exposure) = &socket.exposure else { return String::new() };
    let can = if exposure.certain { "can" } else { "may" };
    let whom = match exposure.reach {
        Reach::None => return "; nobody can reach it".to_owned(),
        Reach::Unknown => return "; who can reach it could not be told, so the internet may".to_owned(),
        Reach::Process => "only the holder of its other end",
        Reach::Host => match socket.access.as_ref().map(|access| &access.users) {
            Some(Users::Everyone) => "every user of this computer",
            Some(Users::Named(_) | Users::Unknown) | None => "programs of this computer",
        },
        Reach::Container => "containers and programs of this computer",
        Reach::Link => "the attached network segment",
        Reach::Lan => "the local network",
        Reach::Internet => "the internet",
    };
    format!("; {whom} {can} reach it")
}

/// One end as a person writes it; empty for none.
fn place(observation: Observation<'_>, endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::None => String::new(),
        Endpoint::Inet(address, 0) => address.to_string(),
        Endpoint::Inet(address, port) => std::net::SocketAddr::new(*address, *port).to_string(),
        Endpoint::UnixPath(path) => path.to_string(),
        Endpoint::UnixAbstract(name) => format!("@{name}"),
        Endpoint::Vsock { cid: u32::MAX, port } => format!("any:{port}"),
        Endpoint::Vsock { cid, port } => format!("{cid}:{port}"),
        Endpoint::Interface(0) => "every interface".to_owned(),
        Endpoint::Interface(index) => {
            facts::interface(observation).map_or_else(|| format!("interface {index}"), ToString::to_string)
        }
    }
}

/// A socket in a few words: `tcp 10.0.0.1:22 -> 10.0.0.9:50000`.
fn outline(observation: Observation<'_>) -> String {
    let socket = observation.socket;
    let (local, remote) = (place(observation, &socket.local), place(observation, &socket.remote));
    let protocol = socket.protocol.name();
    match (local.is_empty(), remote.is_empty()) {
        (_, false) => format!("{protocol} {local} -> {remote}"),
        (false, true) => format!("{protocol} {local}"),
        (true, true) => protocol.into_owned(),
    }
}

fn clip(text: &str) -> String {
    if text.chars().count() > 160 {
        format!("{}…", text.chars().take(160).collect::<String>())
    } else {
        text.to_owned()
    }
}

fn push(found: &mut Vec<String>, line: String) {
    let line = if line.len() > 1000 { shorten(&line) } else { line };
    if !found.contains(&line) {
        found.push(line);
    }
}
