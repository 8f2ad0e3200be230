//! What a ruleset does to every packet that could come to one gate, at once. Two sets come out: what
//! may be accepted and what may be dropped. Whatever is in doubt goes into both, so that a packet is
//! certain to get in only where it is in the first and not in the second, and certain not to where
//! it is not in the first.

mod arithmetic;
mod condition;
mod connection;
mod member;
mod record;
mod step;

use self::condition::{Condition, split};
use self::record::At;
pub(crate) use self::record::{Decider, Decision, reasons};
use self::step::{Byte, bytes};
use super::place::{Gate, Place, Side as GateSide};
use super::ranges::{Family, Ranges};
use super::region::Region;
use super::ruleset::{Chain, Hook, Ruleset, Step, Table, TableFamily, Target, Verdict};

/// More blocks than this, and nothing is said any more.
const MOST_BLOCKS: usize = 4_000;
/// The kernel's own limit of jumps (`NFT_JUMP_STACK_SIZE`).
const MOST_JUMPS: usize = 16;

/// What the rules make of everything that comes to a gate.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Judged {
    pub(crate) may_accept: Region,
    pub(crate) may_drop: Region,
    /// Who decided so, in the order in which packets meet them.
    pub(crate) decisions: Vec<Decision>,
}

/// What is asked: new packets of one protocol at one gate; with `answered`, the answer must find its
/// way back through the rules too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Question {
    pub(crate) family: Family,
    pub(crate) protocol: Option<u8>,
    pub(crate) answered: bool,
    /// Sent by a program of this computer on a network, and come back from there: broadcasts and
    /// groups.
    pub(crate) echoed: bool,
}

impl Judged {
    /// For packets that may have come either way.
    pub(crate) fn either(&self, other: &Self) -> Self {
        let mut sum = self.clone();
        sum.may_accept.add(other.may_accept.clone());
        sum.may_drop.add(other.may_drop.clone());
        sum.decisions.extend_from_slice(&other.decisions);
        sum
    }
}

pub(crate) fn judge(place: &Place, ruleset: &Ruleset, gate: &Gate, question: Question) -> Judged {
    let ports = Ranges::new(vec![(0, u16::MAX.into())]);
    let all = Region::one([question.family.all(), question.family.all(), ports]);
    let doubt = || Judged { may_accept: all.clone(), may_drop: all.clone(), decisions: Vec::new() };
    let strange = ruleset.tables.iter().any(|table| {
        let bridged = gate.bridge && table.family == TableFamily::Bridge;
        let based = |hook| {
            table.chains.values().any(|chain| chain.base.as_ref().is_some_and(|base| hook == base.hook))
        };
        !table.dormant && ((bridged || table.family == TableFamily::Netdev) && based(Hook::Other))
    });
    if strange {
        return doubt();
    }
    let mut passing = all.clone();
    let mut may_drop = Region::default();
    let mut decisions = Vec::new();
    for (hook, packet) in stations(gate.side == GateSide::Loopback || question.echoed, question.answered) {
        let reply = packet == Packet::Answer;
        let mut walk = Walk {
            place,
            ruleset,
            gate,
            question,
            hook,
            packet,
            reply,
            tracking: Tracking::Untold,
            blocks: 0,
            lost: false,
            at: At::default(),
            pieces: 0,
            decisions: Vec::new(),
        };
        let (accepted, dropped) = walk.hook(passing);
        if walk.lost {
            return doubt();
        }
        passing = accepted;
        may_drop.add(dropped);
        decisions.append(&mut walk.decisions);
        if may_drop.0.len() + passing.0.len() > MOST_BLOCKS {
            return doubt();
        }
    }
    Judged { may_accept: passing, may_drop, decisions }
}

/// Which packet of a flow is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Packet {
    First,
    Answer,
    /// The third of a handshake: only with it has the listener a connection.
    Third,
}

/// The hooks that the packets of a flow pass. What a program of this computer sends passes its
/// output hooks first, and comes back in by loopback.
fn stations(loopback: bool, answered: bool) -> Vec<(Hook, Packet)> {
    use Hook::{Ingress, Input, Output, Postrouting, Prerouting};
    let packets = [Packet::First, Packet::Answer, Packet::Third];
    let mut found = Vec::new();
    for packet in packets.into_iter().take(if answered { 3 } else { 1 }) {
        let leaves = loopback || packet == Packet::Answer;
        let comes = loopback || packet != Packet::Answer;
        let out = [Output, Postrouting].into_iter().filter(|_| leaves);
        found.extend(
            out.chain([Ingress, Prerouting, Input].into_iter().filter(|_| comes)).map(|hook| (hook, packet)),
        );
    }
    found
}

/// Whether connection tracking has seen a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tracking {
    Unseen,
    Seen,
    /// The hook of tracking has the same priority.
    Untold,
}

struct Walk<'a> {
    place: &'a Place,
    ruleset: &'a Ruleset,
    gate: &'a Gate,
    question: Question,
    hook: Hook,
    packet: Packet,
    reply: bool,
    tracking: Tracking,
    blocks: usize,
    lost: bool,
    at: At<'a>,
    /// Blocks in `decisions`.
    pieces: usize,
    decisions: Vec<Decision>,
}

/// What becomes of packets in a chain.
#[derive(Default)]
struct Fate {
    accepted: Region,
    dropped: Region,
    /// Came to the end, or back.
    rest: Region,
}

impl<'a> Walk<'a> {
    /// Through all base chains of the hook. Each can drop for good; accepting ends only itself, so
    /// their order makes no difference without translation.
    fn hook(&mut self, mut passing: Region) -> (Region, Region) {
        let mut dropped = Region::default();
        for (number, table) in self.ruleset.tables.iter().enumerate() {
            if table.dormant || !table.family.sees(self.question.family) {
                continue;
            }
            for (name, chain) in &table.chains {
                let Some(base) = chain.base.as_ref().filter(|base| base.hook == self.hook) else { continue };
                let elsewhere =
                    base.hook == Hook::Ingress && !base.devices.contains(&self.gate.name.as_bytes().to_vec());
                // Translation looks at the first packet of a flow only.
                if elsewhere || (base.nat && self.packet != Packet::First) {
                    continue;
                }
                self.tracking = self.tracked(base.priority);
                self.at.table = number;
                let fate = self.chain(table, name, chain, passing, 0);
                // A new source, which later rules see.
                self.lost |= base.nat && !fate.accepted.is_empty();
                dropped.add(fate.dropped);
                passing = fate.accepted;
                self.at = At { table: number, chain: name, handle: None };
                self.decided(!base.drop_policy, &fate.rest);
                if base.drop_policy {
                    dropped.add(fate.rest);
                } else {
                    passing.add(fate.rest);
                }
            }
        }
        (passing, dropped)
    }

    fn tracked(&self, priority: i32) -> Tracking {
        /// `NF_IP_PRI_CONNTRACK`
        const CONNTRACK: i32 = -200;
        let first = match self.hook {
            Hook::Ingress => !self.loopback(),
            Hook::Prerouting if self.loopback() => false,
            Hook::Prerouting | Hook::Output if priority == CONNTRACK => return Tracking::Untold,
            Hook::Prerouting | Hook::Output => priority < CONNTRACK,
            Hook::Input | Hook::Forward | Hook::Postrouting | Hook::Other => false,
        };
        if first { Tracking::Unseen } else { Tracking::Seen }
    }

    fn chain(
        &mut self,
        table: &'a Table,
        name: &'a [u8],
        chain: &'a Chain,
        entering: Region,
        depth: usize,
    ) -> Fate {
        let mut fate = Fate { rest: entering, ..Fate::default() };
        let mut returned = Region::default();
        for rule in &chain.rules {
            if fate.rest.is_empty() || self.lost {
                break;
            }
            let here = std::mem::take(&mut fate.rest);
            self.at = At { chain: name, handle: Some(rule.handle), ..self.at };
            self.rule(table, &rule.steps, here, &mut fate, &mut returned, depth);
            self.blocks = self.blocks.max(fate.rest.0.len() + fate.accepted.0.len() + fate.dropped.0.len());
            if self.blocks > MOST_BLOCKS || depth > MOST_JUMPS {
                self.lost = true;
            }
        }
        fate.rest.add(returned);
        fate
    }

    fn rule(
        &mut self,
        table: &'a Table,
        steps: &'a [Step],
        mut here: Region,
        fate: &mut Fate,
        returned: &mut Region,
        depth: usize,
    ) {
        let mut registers = [Byte::Unknown; 64];
        // What a rule for unusual packets drops says nothing of the ordinary ones.
        let mut spared: Option<(Region, usize)> = None;
        for step in steps {
            if here.is_empty() {
                break;
            }
            let condition = match step {
                // Marks and zones are told once for the whole ruleset.
                Step::Nothing | Step::Set { .. } | Step::Untrack => continue,
                Step::Payload { .. }
                | Step::Meta { .. }
                | Step::CtState { .. }
                | Step::AddressType { .. }
                | Step::Load { .. }
                | Step::Connection { .. }
                | Step::Bitwise { .. }
                | Step::Shift { .. }
                | Step::Combine { .. }
                | Step::Swap { .. }
                | Step::Constant { .. } => match self.load(step, &mut registers) {
                    true => continue,
                    false => Condition::Maybe,
                },
                Step::Unusual => {
                    fate.rest.add(here.clone());
                    let so_far = self.decisions.len();
                    spared.get_or_insert_with(|| (fate.dropped.clone(), so_far));
                    continue;
                }
                Step::Maybe(_) => Condition::Maybe,
                Step::Compare { from, how, value } => {
                    self.compare(bytes(&registers, *from, value.len()), *how, value)
                }
                Step::Range { from, inverted, first, last } => {
                    let inside = self.interval(bytes(&registers, *from, first.len()), first, last);
                    let (hit, miss) = split(here, &inside, *inverted);
                    fate.rest.add(miss);
                    here = hit;
                    continue;
                }
                Step::Extension(extension) => {
                    here = self.extension(extension, here, &mut fate.rest);
                    continue;
                }
                Step::Verdict(verdict) => {
                    here = self.verdict(table, verdict, here, fate, returned, depth);
                    continue;
                }
                Step::Translate(translation) if translation.of_source() => {
                    fate.accepted.add(here);
                    here = Region::default();
                    continue;
                }
                Step::Lookup { from, set, inverted, to } => {
                    let Some(set) = table.sets.get(set) else {
                        self.lost = true;
                        return;
                    };
                    let key = bytes(&registers, *from, set.length);
                    if *to == Some(Target::Verdict) {
                        here = self.verdict_map(table, set, key, here, fate, returned, depth);
                        continue;
                    }
                    let (hit, miss) = self.member(set, key, here);
                    let (hit, miss) = if *inverted { (miss, hit) } else { (hit, miss) };
                    fate.rest.add(miss);
                    here = hit;
                    if let Some(Target::Register(to)) = to {
                        registers[*to..].fill(Byte::Unknown);
                    }
                    continue;
                }
                Step::Translate(_) | Step::Unknown(_) => {
                    registers.fill(Byte::Unknown);
                    self.decided(true, &here);
                    self.decided(false, &here);
                    fate.accepted.add(here.clone());
                    fate.dropped.add(here.clone());
                    Condition::Maybe
                }
            };
            let (hit, miss) = split(here, &condition, false);
            fate.rest.add(miss);
            here = hit;
        }
        fate.rest.add(here);
        if let Some((dropped, so_far)) = spared {
            fate.dropped = dropped;
            let mut number = 0;
            self.decisions.retain(|each| {
                number += 1;
                number <= so_far || each.accepts
            });
        }
    }

    /// Gives back what goes on in the same rule.
    fn verdict(
        &mut self,
        table: &'a Table,
        verdict: &'a Verdict,
        here: Region,
        fate: &mut Fate,
        returned: &mut Region,
        depth: usize,
    ) -> Region {
        let (name, comes_back) = match verdict {
            Verdict::Continue => return here,
            Verdict::Accept => {
                self.decided(true, &here);
                fate.accepted.add(here);
                return Region::default();
            }
            Verdict::Drop => {
                self.decided(false, &here);
                fate.dropped.add(here);
                return Region::default();
            }
            Verdict::Queue => {
                self.decided(true, &here);
                self.decided(false, &here);
                fate.accepted.add(here.clone());
                fate.dropped.add(here);
                return Region::default();
            }
            Verdict::Return => {
                returned.add(here);
                return Region::default();
            }
            Verdict::Jump(name) => (name, true),
            Verdict::Goto(name) => (name, false),
        };
        let Some(chain) = table.chains.get(name).filter(|_| depth < MOST_JUMPS) else {
            self.lost = true;
            return Region::default();
        };
        let at = self.at;
        let inner = self.chain(table, name, chain, here, depth + 1);
        self.at = at;
        fate.accepted.add(inner.accepted);
        fate.dropped.add(inner.dropped);
        if comes_back {
            fate.rest.add(inner.rest);
        } else {
            returned.add(inner.rest);
        }
        Region::default()
    }
}
