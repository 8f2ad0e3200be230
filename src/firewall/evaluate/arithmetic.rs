//! Shifts, two registers put together, and bytes turned around.

use super::step::{Byte, bytes, masked, put};
use crate::firewall::ruleset::{Logic, Step};

/// What a step that calculates leaves in the registers; other steps leave them alone.
pub(super) fn calculate(step: &Step, registers: &mut [Byte; 64]) {
    let (to, made) = match step {
        Step::Swap { from, to, length, size } => (*to, swap(bytes(registers, *from, *length), *size)),
        Step::Shift { from, to, length, left, bits } => {
            (*to, shift(bytes(registers, *from, *length), *left, *bits))
        }
        Step::Combine { from, other, to, length, how } => {
            let (a, b) = (bytes(registers, *from, *length), bytes(registers, *other, *length));
            (*to, a.iter().zip(b).map(|(a, b)| combine(*a, *b, *how)).collect())
        }
        Step::Payload { .. }
        | Step::Meta { .. }
        | Step::CtState { .. }
        | Step::Connection { .. }
        | Step::AddressType { .. }
        | Step::Route { .. }
        | Step::Load { .. }
        | Step::Bitwise { .. }
        | Step::Constant { .. }
        | Step::Compare { .. }
        | Step::Range { .. }
        | Step::Lookup { .. }
        | Step::Verdict(_)
        | Step::Extension(_)
        | Step::Translate(_)
        | Step::Set { .. }
        | Step::Untrack
        | Step::Unusual
        | Step::Maybe(_)
        | Step::Nothing
        | Step::Unknown(_) => return,
    };
    put(registers, to, &made);
}

fn swap(value: &[Byte], size: usize) -> Vec<Byte> {
    if cfg!(target_endian = "big") {
        return value.to_vec();
    }
    value.chunks(size).flat_map(|group| group.iter().rev().copied()).collect()
}

/// Words in the byte order of the computer; what leaves one word comes into the next
/// (`nft_bitwise_eval_lshift`, `nft_bitwise_eval_rshift`).
fn shift(value: &[Byte], left: bool, bits: u32) -> Vec<Byte> {
    let all: Option<Vec<u8>> = value.iter().map(|byte| byte.known()).collect();
    let Some(mut all) = all.filter(|_| (1..32).contains(&bits)) else {
        return vec![Byte::Unknown; value.len().next_multiple_of(4)];
    };
    all.resize(all.len().next_multiple_of(4), 0);
    let mut words: Vec<u32> =
        all.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]])).collect();
    let mut carry = 0;
    if left {
        for word in words.iter_mut().rev() {
            let next = *word >> (32 - bits);
            *word = *word << bits | carry;
            carry = next;
        }
    } else {
        for word in &mut words {
            let next = *word << (32 - bits);
            *word = carry | *word >> bits;
            carry = next;
        }
    }
    words.iter().flat_map(|word| word.to_ne_bytes()).map(Byte::Known).collect()
}

fn combine(a: Byte, b: Byte, how: Logic) -> Byte {
    let (byte, constant) = match (a, b) {
        (byte, Byte::Known(constant)) | (Byte::Known(constant), byte) => (byte, constant),
        _ => return Byte::Unknown,
    };
    match how {
        Logic::And => masked(byte, constant, 0),
        Logic::Or => masked(byte, !constant, constant),
        Logic::Xor => masked(byte, 0xff, constant),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::region::Side;

    fn registers(value: &[Byte]) -> [Byte; 64] {
        let mut all = [Byte::Unknown; 64];
        put(&mut all, 0, value);
        all
    }

    #[test]
    fn what_is_known_stays_known() {
        let known = |value: u32| value.to_ne_bytes().map(Byte::Known);
        let mut all = registers(&known(0x0001_0200));
        calculate(&Step::Shift { from: 0, to: 4, length: 4, left: false, bits: 8 }, &mut all);
        assert_eq!(all[4..8], known(0x0000_0102));
        calculate(&Step::Shift { from: 4, to: 8, length: 4, left: true, bits: 4 }, &mut all);
        assert_eq!(all[8..12], known(0x0000_1020));
        calculate(&Step::Combine { from: 4, other: 8, to: 0, length: 4, how: Logic::Or }, &mut all);
        assert_eq!(all[..4], known(0x0000_1122));
        calculate(&Step::Combine { from: 4, other: 8, to: 0, length: 4, how: Logic::Xor }, &mut all);
        assert_eq!(all[..4], known(0x0000_1122));
        calculate(&Step::Combine { from: 4, other: 8, to: 0, length: 4, how: Logic::And }, &mut all);
        assert_eq!(all[..4], known(0x0000_0000));
        calculate(&Step::Combine { from: 4, other: 20, to: 0, length: 4, how: Logic::And }, &mut all);
        // Nothing stays of what meets a zero.
        assert_eq!(all[3], Byte::Known(0));
        assert_eq!(all[0], Byte::Unknown);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn bytes_are_turned_around_in_groups() {
        let part = |index| Byte::Part(Side::Port, index, 0xff);
        let mut all = registers(&[part(0), part(1), Byte::Known(3), Byte::Known(4)]);
        calculate(&Step::Swap { from: 0, to: 4, length: 4, size: 2 }, &mut all);
        assert_eq!(all[4..8], [part(1), part(0), Byte::Known(4), Byte::Known(3)]);
        calculate(&Step::Swap { from: 0, to: 4, length: 4, size: 4 }, &mut all);
        assert_eq!(all[4..8], [Byte::Known(4), Byte::Known(3), part(1), part(0)]);
    }
}
