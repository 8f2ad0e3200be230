//! Finds conditions that can never hold, so that a rule that says nothing is an error and no silence.

use std::ops::Range;

use super::condition::{Cond, Group, Leaf};
use super::pattern::{Pattern, Test};
use super::reader::{Reader, shorten};
use super::schema::{Fact, GroupKind, Key, protocol_code};
use crate::model::{Protocol, Reach, Role, State};

/// Longest `comm` (proc_pid_comm(5)): TASK_COMM_LEN without its NUL.
const COMM: usize = 15;

/// Brings the values of one condition into the form in which they are compared, and tells those
/// that no value of this fact can match.
pub(super) fn normal(reader: &mut Reader, fact: &Fact, mut test: Test, span: Range<usize>) -> Test {
    if test.no.contains(&Pattern::Any) {
        test.no.retain(|pattern| *pattern != Pattern::Any);
        test.yes.push(Pattern::None);
    }
    if test.no.contains(&Pattern::None) {
        test.no.retain(|pattern| *pattern != Pattern::None);
        test.yes.push(Pattern::Any);
    }
    for pattern in test.yes.iter_mut().chain(&mut test.no) {
        text(reader, fact, pattern, &span);
    }
    let wanted = Test { yes: test.yes.clone(), no: Vec::new() };
    let refused = Test { yes: test.no.clone(), no: Vec::new() };
    if !test.no.is_empty() && refused.covers(&wanted) {
        reader.say(span, format!("`{}` names only values that it also excludes", fact.name));
    }
    test
}

fn text(reader: &mut Reader, fact: &Fact, pattern: &mut Pattern, span: &Range<usize>) {
    let name = fact.name;
    let words: Vec<Vec<u8>> = match pattern {
        Pattern::Words(words) => {
            if fact.key == Key::Name {
                for word in words.iter_mut().filter(|word| word.len() > COMM) {
                    *word = word[..COMM].into();
                }
                words.sort();
                words.dedup();
            }
            words.iter().map(|word| word.to_vec()).collect()
        }
        Pattern::Glob(glob) => {
            if fact.key == Key::Name && glob.shortest() > COMM {
                let message = format!("a process name has at most {COMM} bytes, this pattern needs more");
                reader.say(span.clone(), message);
            }
            vec![glob.prefix()]
        }
        Pattern::Any
        | Pattern::None
        | Pattern::Code(_)
        | Pattern::Number(..)
        | Pattern::Address(_)
        | Pattern::Class(_)
        | Pattern::Row(_)
        | Pattern::Bits(_)
        | Pattern::ThisSocket
        | Pattern::Socket => return,
    };
    let whole = matches!(pattern, Pattern::Words(_));
    for word in &words {
        let shown = shorten(&String::from_utf8_lossy(word));
        let first = word.first().copied();
        let key = fact.key;
        if matches!(key, Key::Exe | Key::Cwd) && first.is_some_and(|byte| byte != b'/') {
            let help = format!("did you mean `program = \"{shown}\"` or `{name} = \"*/{shown}\"`?");
            reader.advise(span.clone(), format!("`{name}` is a whole path, `{shown}` is none"), help);
        } else if key == Key::Program && word.contains(&b'/') {
            reader.advise(span.clone(), format!("`{name}` has no `/`"), "did you mean `exe`?");
        } else if key == Key::Unit && whole && !word.contains(&b'.') {
            let help = format!("did you mean \"{shown}.service\"?");
            reader.advise(span.clone(), format!("`{shown}` is no name of a unit: it has no suffix"), help);
        } else if key == Key::Abstract && first == Some(b'@') {
            let help = format!("did you mean \"{}\"?", shown.trim_start_matches('@'));
            reader.advise(span.clone(), "an abstract name is written without `@`", help);
        }
    }
}

/// Looks for contradictions along every branch.
pub(super) fn check(reader: &mut Reader, when: &Cond) {
    branch(reader, when, &Path::default());
}

/// What is already required on the way to a branch, of the socket and of its process.
#[derive(Clone, Default)]
struct Path<'c> {
    leaves: Vec<&'c Leaf>,
}

fn branch<'c>(reader: &mut Reader, cond: &'c Cond, path: &Path<'c>) {
    let mut path = path.clone();
    let mut rest = Vec::new();
    gather(cond, &mut path.leaves, &mut rest);
    if !agree(reader, &path.leaves) {
        return;
    }
    for part in rest {
        match part {
            Cond::Any(branches) => branches.iter().for_each(|each| branch(reader, each, &path)),
            Cond::Not(inner) => negated(reader, inner, &path),
            Cond::Holder(holder) => {
                unowned(reader, &path, &cond_span(part));
                if let Some(process) = &holder.process {
                    branch(reader, process, &path);
                }
                holder.others.iter().for_each(|group| inside(reader, group, &path));
            }
            Cond::Group(group) => inside(reader, group, &path),
            Cond::All(_) | Cond::Leaf(_) => {}
        }
    }
}

/// Splits what is required at once into single lines and the rest.
fn gather<'c>(cond: &'c Cond, leaves: &mut Vec<&'c Leaf>, rest: &mut Vec<&'c Cond>) {
    match cond {
        Cond::Leaf(leaf) => leaves.push(leaf),
        Cond::All(parts) => parts.iter().for_each(|part| gather(part, leaves, rest)),
        Cond::Any(_) | Cond::Not(_) | Cond::Holder(_) | Cond::Group(_) => rest.push(cond),
    }
}

/// Whether the lines can hold together; the first pair that cannot is told.
fn agree(reader: &mut Reader, leaves: &[&Leaf]) -> bool {
    for (index, leaf) in leaves.iter().enumerate() {
        let clash = leaves[..index]
            .iter()
            .find(|other| other.key == leaf.key && !leaf.key.is_many() && !other.test.meets(&leaf.test));
        if let Some(other) = clash {
            let help = format!("the other is `{}`", source_of(reader, other));
            let message = format!(
                "these values of `{}` and those it must also have exclude each other",
                leaf.key.full_name()
            );
            reader.advise(leaf.span.clone(), message, help);
            return false;
        }
    }
    protocols(reader, leaves) && roles(reader, leaves)
}

/// Whether some protocol that is left has every fact that is asked for.
fn protocols(reader: &mut Reader, leaves: &[&Leaf]) -> bool {
    let wanted: Vec<&&Leaf> = leaves.iter().filter(|leaf| leaf.key == Key::Protocol).collect();
    let Some(first) = wanted.first() else { return true };
    let left: Vec<Protocol> = Protocol::NAMED
        .into_iter()
        .filter(|protocol| wanted.iter().all(|leaf| admits(leaf, protocol_code(*protocol))))
        .collect();
    if left.is_empty() {
        return true; // Protocols without a name: nothing is known of their facts.
    }
    let names = |list: &[Protocol]| list.iter().map(|each| each.name()).collect::<Vec<_>>().join(", ");
    for leaf in leaves.iter().filter(|leaf| !wants_none(leaf)) {
        if !left.iter().any(|protocol| leaf.key.fits(*protocol)) {
            let message = format!(
                "a socket of protocol {} has no `{}`: this can never hold",
                names(&left),
                leaf.key.full_name()
            );
            reader.advise(
                leaf.span.clone(),
                message,
                format!("the protocol is `{}`", source_of(reader, first)),
            );
            return false;
        }
        let local = left.iter().all(|each| matches!(each, Protocol::Unix | Protocol::Vsock));
        let classes = [Reach::None, Reach::Process, Reach::Host];
        if leaf.key == Key::Reach && local && !classes.iter().any(|class| admits(leaf, *class as u32)) {
            let message = format!("a {} socket is never reached from farther than `host`", names(&left));
            reader.say(leaf.span.clone(), message);
            return false;
        }
        if leaf.key == Key::State
            && !left.iter().any(|each| listens(*each))
            && State::ALL.iter().all(|state| *state == State::Listen || !admits(leaf, *state as u32))
        {
            let message = format!("{} has no state `listen`: this can never hold", names(&left));
            reader.advise(leaf.span.clone(), message, "did you mean `role = \"receiver\"`?");
            return false;
        }
    }
    true
}

/// Protocols with listen(2).
fn listens(protocol: Protocol) -> bool {
    use Protocol as P;
    matches!(
        protocol,
        P::Tcp
            | P::Mptcp
            | P::Sctp
            | P::Dccp
            | P::Unix
            | P::Vsock
            | P::Tipc
            | P::Bluetooth
            | P::Smc
            | P::Other(_)
    ) || protocol == P::Alg // accept(2) on it makes the working sockets (af_alg)
}

/// What role and state exclude.
fn roles(reader: &mut Reader, leaves: &[&Leaf]) -> bool {
    let all = |key, code| leaves.iter().filter(|leaf| leaf.key == key).all(|leaf| admits(leaf, code));
    let any = |key| leaves.iter().any(|leaf| leaf.key == key);
    let roles: Vec<Role> = Role::ALL.iter().copied().filter(|role| all(Key::Role, *role as u32)).collect();
    let states: Vec<State> =
        State::ALL.iter().copied().filter(|state| all(Key::State, *state as u32)).collect();
    let listens = any(Key::State) && states == [State::Listen];
    for leaf in leaves {
        let (key, connections) = (leaf.key, [Role::Inbound, Role::Outbound]);
        let message = if key == Key::Role && listens && !roles.contains(&Role::Listener) {
            "a socket in state `listen` has the role `listener`"
        } else if matches!(key, Key::Rport | Key::Remote) && listens && !wants_none(leaf) {
            "a socket that listens has no other end"
        } else if matches!(key, Key::Reach | Key::Certain)
            && any(Key::Role)
            && !roles.is_empty()
            && roles.iter().all(|role| connections.contains(role))
        {
            "a connection has no `reach`, since nobody new gets in"
        } else {
            continue;
        };
        reader.say(leaf.span.clone(), format!("{message}: this can never hold"));
        return false;
    }
    true
}

/// A condition on a process, where nobody may hold the socket.
fn unowned(reader: &mut Reader, path: &Path<'_>, span: &Range<usize>) {
    let never = path.leaves.iter().find(|leaf| {
        leaf.key == Key::Owned && !admits(leaf, 1) || leaf.key == Key::OwnerGap && !wants_none(leaf)
    });
    if let Some(leaf) = never {
        let help = format!("the other is `{}`", source_of(reader, leaf));
        reader.advise(span.clone(), "a socket that nobody holds has no process: this can never hold", help);
    }
}

/// A negation that takes away all that is left.
fn negated<'c>(reader: &mut Reader, inner: &'c Cond, path: &Path<'c>) {
    let (mut leaves, mut rest) = (Vec::new(), Vec::new());
    gather(inner, &mut leaves, &mut rest);
    let excluded = rest.is_empty()
        && leaves.iter().all(|leaf| {
            !leaf.key.is_many()
                && path.leaves.iter().any(|other| other.key == leaf.key && leaf.test.covers(&other.test))
        });
    if excluded && let Some(leaf) = leaves.first() {
        let message = format!("`not` excludes every `{}` that the rule asks for", leaf.key.full_name());
        return reader.say(leaf.span.clone(), message);
    }
    branch(reader, inner, &Path::default());
}

fn inside(reader: &mut Reader, group: &Group, path: &Path<'_>) {
    let takes = |leaf: &&&Leaf| {
        let wanted = [Role::Listener, Role::Receiver];
        leaf.key == Key::Role && !wanted.iter().any(|role| admits(leaf, *role as u32))
    };
    if group.kind == GroupKind::Accepted && path.leaves.iter().any(|leaf| takes(&leaf)) {
        reader.say(group.span.clone(), "only a listener takes connections: this can never hold");
    }
    if let Some(cond) = &group.cond {
        branch(reader, cond, &Path::default());
    }
}

/// Classes of reach that the lines at the top of a condition let in.
pub(super) fn reaches(when: &Cond) -> Vec<Reach> {
    let (mut leaves, mut rest) = (Vec::new(), Vec::new());
    gather(when, &mut leaves, &mut rest);
    Reach::ALL
        .iter()
        .copied()
        .filter(|class| {
            leaves.iter().filter(|leaf| leaf.key == Key::Reach).all(|leaf| admits(leaf, *class as u32))
        })
        .collect()
}

fn admits(leaf: &Leaf, code: u32) -> bool {
    let hit = |pattern: &Pattern| *pattern == Pattern::Any || *pattern == Pattern::Code(code);
    (leaf.test.yes.is_empty() || leaf.test.yes.iter().any(hit)) && !leaf.test.no.iter().any(hit)
}

fn wants_none(leaf: &Leaf) -> bool {
    leaf.test.yes.contains(&Pattern::None)
}

/// Some place within a condition, for a message about all of it.
fn cond_span(cond: &Cond) -> Range<usize> {
    match cond {
        Cond::Leaf(leaf) => leaf.span.clone(),
        Cond::Group(group) => group.span.clone(),
        Cond::Not(inner) => cond_span(inner),
        Cond::All(parts) | Cond::Any(parts) => parts.first().map_or(0..0, cond_span),
        Cond::Holder(holder) => match (&holder.process, holder.others.first()) {
            (Some(process), _) => cond_span(process),
            (None, Some(group)) => group.span.clone(),
            (None, None) => 0..0,
        },
    }
}

/// The line of a condition as its author wrote it.
fn source_of(reader: &Reader, leaf: &Leaf) -> String {
    let value = reader.source.get(leaf.span.clone()).unwrap_or_default();
    format!("{} = {}", leaf.key.full_name(), shorten(&value.split_whitespace().collect::<Vec<_>>().join(" ")))
}
