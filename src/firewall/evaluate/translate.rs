//! Translation of addresses and ports, and what else rules change of a packet.

use std::rc::Rc;

use super::state::{Now, State, Tracked};
use super::step::Byte;
use super::{Fate, Tracking, Walk};
use crate::firewall::place::of_interface;
use crate::firewall::region::{Block, Region, Side};
use crate::firewall::ruleset::{Hook, Register, Setting, Translated, Translation};
use crate::model::classes::Classes;
use crate::model::ranges::{Family, Ranges};

impl Walk<'_> {
    /// Gives back what goes on in the same rule: those of another family, and what a proxy may not
    /// take.
    pub(super) fn translate(
        &mut self,
        translation: &Translation,
        registers: &[Byte; 64],
        here: Region,
        fate: &mut Fate,
    ) -> Region {
        if translation.family.is_some_and(|family| family != self.question.family) {
            return here;
        }
        let addresses =
            translation.addresses.map(|pair| self.given(registers, pair, self.width(Side::Source)));
        let ports = translation.ports.map(|pair| self.given(registers, pair, 2));
        let early = matches!(self.station.hook, Hook::Prerouting | Hook::Output);
        match translation.kind {
            Translated::Destination => self.set_destination(here, addresses, ports, fate),
            Translated::Network if early => self.set_destination(here, addresses, ports, fate),
            Translated::Source | Translated::Network => self.set_source(here, addresses, fate),
            Translated::Masquerade => {
                let own = self.leaving().map_or_else(
                    || self.question.family.all(),
                    |gate| of_interface(&self.place.owned[self.question.family as usize], gate.index),
                );
                self.set_source(here, Some(own), fate);
            }
            Translated::Redirect => self.redirect(here, ports, fate),
            Translated::Proxy => return self.proxy(here, [addresses, ports], fate),
        }
        Region::default()
    }

    /// What stands in a pair of registers, first and last: all there is where that is not known.
    fn given(&self, registers: &[Byte; 64], (first, last): (Register, Register), width: usize) -> Ranges {
        let number = |at: Register| {
            let bytes = registers.get(at..at + width)?;
            bytes.iter().try_fold(0_u128, |number, byte| Some(number << 8 | u128::from(byte.known()?)))
        };
        let all =
            if width == 2 { Ranges::new(vec![(0, u16::MAX.into())]) } else { self.question.family.all() };
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Ranges::new(vec![(first, last)]),
            _ => all,
        }
    }

    fn changed(&self, change: impl FnOnce(&mut State)) -> Rc<State> {
        let mut state = State::clone(&self.state);
        change(&mut state);
        Rc::new(state)
    }

    /// The state of packets that nobody knows the destination of any more.
    pub(super) fn anywhere(&self) -> Rc<State> {
        let all = self.question.family.all();
        self.changed(|state| {
            state.now[Side::Destination as usize] = Some(all);
            state.now[Side::Port as usize] = Some(Ranges::new(vec![(0, u16::MAX.into())]));
        })
    }

    fn set_destination(&mut self, here: Region, address: Now, port: Now, fate: &mut Fate) {
        // Those who asked for that very place are not translated.
        let [_, came, asked] = &self.state.came;
        let all = self.question.family.all();
        let ports = Ranges::new(vec![(0, u16::MAX.into())]);
        let place = Block([all.clone(), address.clone().unwrap_or(all), port.clone().unwrap_or(ports)]);
        let (same, other) = match (came, asked) {
            (None, None) => (here.and(&place), here.clone().minus_block(&place)),
            _ => (here.clone(), Region::default()),
        };
        self.decided(true, &here);
        for (region, moved) in [(same, false), (other, true)] {
            let state = self.changed(|state| {
                if address.is_some() {
                    state.now[Side::Destination as usize].clone_from(&address);
                }
                if port.is_some() {
                    state.now[Side::Port as usize].clone_from(&port);
                }
                state.moved |= moved;
            });
            fate.translated.add(&state, region);
        }
    }

    fn set_source(&mut self, here: Region, address: Now, fate: &mut Fate) {
        let state = self.changed(|state| {
            if address.is_some() {
                state.now[Side::Source as usize] = address;
            }
        });
        self.decided(true, &here);
        fate.translated.add(&state, here);
    }

    /// To the address of the interface that the packet came in by; of own packets to loopback. An
    /// interface without one drops it (`nf_nat_redirect_ipv4`, `_ipv6`).
    fn redirect(&mut self, here: Region, port: Now, fate: &mut Fate) {
        let family = self.question.family;
        let classes = Classes::of(family);
        if self.station.hook == Hook::Output {
            let loopback = match family {
                Family::V4 => family.one(std::net::Ipv4Addr::LOCALHOST.into()),
                Family::V6 => family.one(std::net::Ipv6Addr::LOCALHOST.into()),
            };
            return self.set_destination(here, Some(loopback), port, fate);
        }
        let own = match self.station.entry {
            Some(gate) => of_interface(&self.place.owned[family as usize], gate.index),
            None => Ranges::default(),
        };
        // IPv6 takes an address of the scope of the one that was asked for.
        let parts = match family {
            Family::V4 => vec![(here, own)],
            Family::V6 => {
                let all = family.all();
                let near =
                    Block([all.clone(), classes.link.clone(), Ranges::new(vec![(0, u16::MAX.into())])]);
                let asked = &self.state.now[Side::Destination as usize];
                match asked {
                    None => vec![
                        (here.and(&near), own.and(&classes.link)),
                        (here.minus_block(&near), own.minus(&classes.link)),
                    ],
                    Some(_) => vec![(here, own)],
                }
            }
        };
        for (here, own) in parts {
            if own.is_empty() {
                self.decided(false, &here);
                fate.dropped.add(here);
            } else {
                self.set_destination(here, Some(own), port.clone(), fate);
            }
        }
    }

    /// Only a transparent socket takes it; whether there is one nobody tells here.
    fn proxy(&mut self, here: Region, to: [Now; 2], fate: &mut Fate) -> Region {
        let state = self.changed(|state| state.proxy = Some(to));
        fate.rest.add(&self.state, here.clone());
        fate.dropped.add(here.clone());
        fate.accepted.add(&state, here.clone());
        self.state = state;
        here
    }

    /// Sets a mark.
    pub(super) fn set(&mut self, what: Setting, bytes: &[Byte]) {
        let mut value = [0; 4];
        let known = bytes.len() == 4
            && bytes.iter().zip(&mut value).all(|(byte, place)| match byte {
                Byte::Known(byte) => {
                    *place = *byte;
                    true
                }
                Byte::Part(..)
                | Byte::Kind(..)
                | Byte::Back(_)
                | Byte::Header(_)
                | Byte::Bits(..)
                | Byte::Frame
                | Byte::Unknown => false,
            });
        let value = known.then(|| u32::from_ne_bytes(value));
        self.state = self.changed(|state| match what {
            Setting::Mark => state.mark = value,
            Setting::ConnectionMark => state.flow_mark = value,
            Setting::Zone => state.zoned = true,
        });
    }

    /// Takes packets out of connection tracking, if it has not seen them yet (`nft_notrack_eval`).
    pub(super) fn untrack(&mut self) {
        let tracked = match self.tracking {
            Tracking::Seen => return,
            Tracking::Unseen if self.state.zoned => return,
            Tracking::Unseen => Tracked::No,
            Tracking::Untold => Tracked::Untold,
        };
        self.state = self.changed(|state| state.tracked = tracked);
    }
}
