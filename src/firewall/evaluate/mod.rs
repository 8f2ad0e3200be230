//! What a ruleset does at one hook to every packet that could come there, at once. Whatever is in
//! doubt both goes on and is dropped, so that a packet is certain to get on only where it does the
//! one and not the other.

mod arithmetic;
mod client;
mod concern;
mod condition;
mod frame;
mod hooks;
mod kinds;
mod member;
mod record;
mod state;
mod step;
mod translate;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use self::client::Asked;
use self::concern::Concern;
use self::condition::{Condition, split};
use self::record::At;
pub(crate) use self::record::{Decider, Decision, Deed, reasons};
pub(crate) use self::state::{Now, Publication, State, Stream, Tracked};
use self::step::{Byte, bytes};
use super::place::{Gate, Place};
use super::region::Region;
use super::ruleset::{Chain, Hook, Ruleset, Set, Step, Table, Target, Verdict};
use crate::model::ranges::Family;

/// More blocks than this, and nothing is said any more.
const MOST_BLOCKS: usize = 4_000;
/// The kernel's own limit of jumps (`NFT_JUMP_STACK_SIZE`).
const MOST_JUMPS: usize = 16;
/// So many rules are looked at in one hook; jumps can make more of few.
const MOST_WORK: usize = 2_000_000;

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

/// Which packet of a flow is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Packet {
    First,
    Answer,
    /// The third of a handshake: only with it has the listener a connection.
    Third,
}

/// By which interface packets leave.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Exit<'a> {
    None,
    Gate(&'a Gate),
    /// Whatever their route says.
    Untold,
}

/// Where packets stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Station<'a> {
    pub(crate) hook: Hook,
    pub(crate) packet: Packet,
    pub(crate) entry: Option<&'a Gate>,
    pub(crate) exit: Exit<'a>,
    /// Sent by a program of this computer to one here: what comes in has gone out before.
    pub(crate) own: bool,
}

/// Whether connection tracking has seen a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tracking {
    Unseen,
    Seen,
    /// The hook of tracking has the same priority.
    Untold,
}

/// Sets that were made into blocks: by address, as what their key is in the packets of a family.
pub(crate) type KnownSets = RefCell<BTreeMap<(*const Set, Family, Vec<Byte>), Option<Rc<Region>>>>;

/// A way through the base chains of one hook in one namespace.
pub(crate) struct Walk<'a> {
    /// Index of the namespace.
    pub(crate) netns: usize,
    pub(crate) place: &'a Place,
    pub(crate) ruleset: &'a Ruleset,
    pub(crate) question: Question,
    pub(crate) station: Station<'a>,
    state: Rc<State>,
    priority: i32,
    tracking: Tracking,
    work: usize,
    known_sets: Rc<KnownSets>,
    /// What the rule at hand asks of the caller.
    asked: Asked<'a>,
    /// Nothing can be said any more.
    pub(crate) lost: bool,
    at: At<'a>,
    /// Blocks in `decisions`.
    pieces: usize,
    pub(crate) decisions: Vec<Decision>,
}

/// What becomes of packets in a chain.
#[derive(Default)]
struct Fate {
    accepted: Stream,
    dropped: Region,
    /// Translated, which ends all chains that translate.
    translated: Stream,
    /// Came to the end, or back.
    rest: Stream,
    returned: Stream,
}

impl Fate {
    fn blocks(&self) -> usize {
        self.accepted.blocks() + self.dropped.0.len() + self.translated.blocks() + self.rest.blocks()
    }
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        (netns, place, ruleset): (usize, &'a Place, &'a Ruleset),
        question: Question,
        station: Station<'a>,
        known_sets: Rc<KnownSets>,
    ) -> Self {
        Self {
            known_sets,
            netns,
            place,
            ruleset,
            question,
            station,
            state: Rc::new(State::new([None, None, None])),
            priority: 0,
            tracking: Tracking::Untold,
            work: 0,
            asked: Asked::default(),
            lost: false,
            at: At::default(),
            pieces: 0,
            decisions: Vec::new(),
        }
    }

    fn reply(&self) -> bool {
        self.station.packet == Packet::Answer
    }

    fn chain(
        &mut self,
        table: &'a Table,
        name: &'a [u8],
        chain: &'a Chain,
        entering: Stream,
        depth: usize,
    ) -> Fate {
        let mut fate = Fate { rest: entering, ..Fate::default() };
        for rule in &chain.rules {
            if fate.rest.is_empty() || self.lost {
                break;
            }
            for (state, here) in std::mem::take(&mut fate.rest).0 {
                self.at = At { chain: name, handle: Some(rule.handle), ..self.at };
                self.state = state;
                self.asked = self.asked_of_caller(table, &rule.steps);
                let here = match self.concern(table, &rule.steps, &self.asked) {
                    Concern::Anybody => here,
                    Concern::Nobody => {
                        fate.rest.add(&self.state, here);
                        continue;
                    }
                    Concern::These(block) => {
                        let (here, others) = here.parted(&block);
                        fate.rest.add(&self.state, others);
                        if here.is_empty() {
                            continue;
                        }
                        here
                    }
                };
                // What a rule for unusual packets drops says nothing of the ordinary ones.
                let unusual = self.asked.unusual || rule.steps.contains(&Step::Unusual);
                let spared = unusual.then(|| (fate.dropped.clone(), self.decisions.len()));
                self.steps(table, &rule.steps, here, [Byte::Unknown; 64], &mut fate, depth);
                if let Some((dropped, so_far)) = spared {
                    fate.dropped = dropped;
                    self.forget_drops(so_far);
                }
            }
            if fate.blocks() > MOST_BLOCKS || depth > MOST_JUMPS {
                self.lost = true;
            }
        }
        let returned = std::mem::take(&mut fate.returned);
        fate.rest.merge(returned);
        fate
    }

    /// The rest of a rule.
    fn steps(
        &mut self,
        table: &'a Table,
        steps: &'a [Step],
        mut here: Region,
        mut registers: [Byte; 64],
        fate: &mut Fate,
        depth: usize,
    ) {
        self.work += 1;
        self.lost |= self.work > MOST_WORK;
        for (number, step) in steps.iter().enumerate() {
            if here.is_empty() || self.lost {
                break;
            }
            if self.asked.passed.iter().any(|passed| std::ptr::eq(*passed, step)) {
                continue;
            }
            let condition = match step {
                Step::Nothing => continue,
                Step::Payload { .. }
                | Step::Meta { .. }
                | Step::CtState { .. }
                | Step::AddressType { .. }
                | Step::Route { .. }
                | Step::Connection { .. }
                | Step::Load { .. }
                | Step::Bitwise { .. }
                | Step::Shift { .. }
                | Step::Combine { .. }
                | Step::Swap { .. }
                | Step::Constant { .. } => self.load(step, &mut registers),
                // What an ordinary packet is asked for, it has not.
                Step::Unusual | Step::Maybe(_) => Condition::Maybe,
                Step::Compare { from, how, value } => {
                    self.compare(bytes(&registers, *from, value.len()), *how, value)
                }
                Step::Range { from, inverted, first, last } => {
                    let inside = self.interval(bytes(&registers, *from, first.len()), first, last);
                    if *inverted { condition::not(inside) } else { inside }
                }
                Step::Extension(extension) => {
                    here = self.extension(extension, here, fate);
                    continue;
                }
                Step::Verdict(verdict) => {
                    here = self.verdict(table, verdict, here, fate, depth);
                    continue;
                }
                Step::Translate(translation) => {
                    here = self.translate(translation, &registers, here, fate);
                    continue;
                }
                Step::Set { what, from } => {
                    self.set(*what, bytes(&registers, *from, 4));
                    continue;
                }
                Step::Untrack => {
                    self.untrack();
                    continue;
                }
                Step::Lookup { from, set, inverted, to } => {
                    let Some(set) = table.sets.get(set) else {
                        self.lost = true;
                        return;
                    };
                    let key = bytes(&registers, *from, set.length);
                    match to {
                        Some(Target::Verdict) => {
                            here = self.verdict_map(table, set, key, here, fate, depth);
                        }
                        Some(Target::Register(to)) => {
                            let found = self.mapped(set, key, here, fate);
                            for (value, here) in found {
                                let mut registers = registers;
                                match value {
                                    Some(value) => step::put(&mut registers, *to, &value),
                                    None => registers[*to..].fill(Byte::Unknown),
                                }
                                let state = Rc::clone(&self.state);
                                self.steps(table, &steps[number + 1..], here, registers, fate, depth);
                                self.state = state;
                            }
                            return;
                        }
                        // Whom it misses for its frame is asked in another way than whom it hits.
                        None if *inverted && key.contains(&Byte::Frame) => {
                            self.hangs(&here);
                            fate.rest.add(&self.state, here.clone());
                        }
                        None => {
                            if member::doubtful(set, key) {
                                self.hangs(&here);
                            }
                            let (hit, miss) = self.member(set, key, here);
                            let (hit, miss) = if *inverted { (miss, hit) } else { (hit, miss) };
                            fate.rest.add(&self.state, miss);
                            here = hit;
                        }
                    }
                    continue;
                }
                Step::Unknown(_) => {
                    registers.fill(Byte::Unknown);
                    self.hangs(&here);
                    self.decided(true, &here);
                    self.decided(false, &here);
                    fate.accepted.add(&self.state, here.clone());
                    fate.dropped.add(here.clone());
                    // It may have been sent anywhere.
                    let wild = self.anywhere();
                    fate.accepted.add(&wild, here.clone());
                    fate.rest.add(&wild, here.clone());
                    Condition::Maybe
                }
            };
            if self.asked.decides {
                self.hangs(&condition::overlap(&here, &condition));
            }
            let (hit, miss) = split(here, &condition, false);
            fate.rest.add(&self.state, miss);
            here = hit;
        }
        fate.rest.add(&self.state, here);
    }

    /// Gives back what goes on in the same rule.
    fn verdict(
        &mut self,
        table: &'a Table,
        verdict: &'a Verdict,
        here: Region,
        fate: &mut Fate,
        depth: usize,
    ) -> Region {
        let (name, comes_back) = match verdict {
            Verdict::Continue => return here,
            Verdict::Accept => {
                self.decided(true, &here);
                fate.accepted.add(&self.state, here);
                return Region::default();
            }
            Verdict::Drop => {
                self.decided(false, &here);
                fate.dropped.add(here);
                return Region::default();
            }
            Verdict::Queue => {
                self.hangs(&here);
                self.decided(true, &here);
                self.decided(false, &here);
                fate.accepted.add(&self.state, here.clone());
                fate.dropped.add(here);
                return Region::default();
            }
            Verdict::Return => {
                fate.returned.add(&self.state, here);
                return Region::default();
            }
            Verdict::Jump(name) => (name, true),
            Verdict::Goto(name) => (name, false),
        };
        if here.is_empty() {
            return here;
        }
        let Some(chain) = table.chains.get(name).filter(|_| depth < MOST_JUMPS) else {
            self.lost = true;
            return Region::default();
        };
        let (at, state, asked) = (self.at, Rc::clone(&self.state), std::mem::take(&mut self.asked));
        let inner = self.chain(table, name, chain, Stream::one(Rc::clone(&state), here), depth + 1);
        (self.at, self.state, self.asked) = (at, state, asked);
        fate.accepted.merge(inner.accepted);
        fate.dropped.add(inner.dropped);
        fate.translated.merge(inner.translated);
        if comes_back {
            fate.rest.merge(inner.rest);
        } else {
            fate.returned.merge(inner.rest);
        }
        Region::default()
    }
}
