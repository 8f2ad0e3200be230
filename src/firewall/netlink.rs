//! Netlink messages and attributes (netlink(7), `<linux/netlink.h>`): requests made, answers taken
//! apart. Pure; a message that ends too early ends the reading.

pub(crate) use crate::netlink::attributes;

/// Type and body of each message in a block of answers; control messages (below 16) are left out.
pub(crate) fn messages(block: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    crate::netlink::messages(block).filter(|(kind, _)| *kind >= 16)
}

/// The attributes with numbers below `N`, the last of each (as `nla_parse` takes them); `None` where
/// the bytes are not attributes from end to end.
pub(crate) fn fields<const N: usize>(body: &[u8]) -> Option<[Option<&[u8]>; N]> {
    let mut found = [None; N];
    let mut all = attributes(body);
    let mut read = 0;
    for (number, value) in all.by_ref() {
        read = value.as_ptr_range().end as usize - body.as_ptr() as usize;
        if let Some(place) = found.get_mut(usize::from(number)) {
            *place = Some(value);
        }
    }
    // The last one may lack its padding.
    (read.next_multiple_of(4) >= body.len()).then_some(found)
}

/// Whether a block is messages from end to end.
pub(crate) fn whole(block: &[u8]) -> bool {
    let mut rest = block;
    while !rest.is_empty() {
        let Some(header) = rest.get(..4) else { return false };
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        if length < 16 || length > rest.len() {
            return false;
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    true
}

pub(crate) fn attribute(body: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(body).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// Text without its closing NUL.
pub(crate) fn text(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number in host byte order.
pub(crate) fn native_u32(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.get(..4)?.try_into().ok()?))
}

/// A number in network byte order, as nfnetlink writes them.
pub(crate) fn big_u32(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.get(..4)?.try_into().ok()?))
}

/// As [`big_u32`], of 8 bytes.
pub(crate) fn big_u64(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(value.get(..8)?.try_into().ok()?))
}

/// An attribute as it lies in a message, padded.
pub(crate) fn put_attribute(message: &mut Vec<u8>, number: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    message.extend(length.to_ne_bytes());
    message.extend(number.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// A request for a whole table (`NLM_F_REQUEST | NLM_F_DUMP`); `header` is the family header.
pub(crate) fn dump_request(kind: u16, header: &[u8]) -> Vec<u8> {
    made(kind, 0x301, header)
}

/// A request for one thing (`NLM_F_REQUEST`).
pub(crate) fn request(kind: u16, header: &[u8]) -> Vec<u8> {
    made(kind, 1, header)
}

fn made(kind: u16, flags: u16, header: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + header.len()).unwrap_or(u32::MAX);
    let mut request = length.to_ne_bytes().to_vec();
    request.extend_from_slice(&kind.to_ne_bytes());
    request.extend_from_slice(&flags.to_ne_bytes());
    request.extend_from_slice(&[0; 8]);
    request.extend_from_slice(header);
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};
    use proptest::{prop_assert, test_runner::Config};

    proptest! {
        #![proptest_config(Config { failure_persistence: None, ..Config::default() })]
        #[test]
        fn no_bytes_panic_or_hang(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(messages(&bytes).count() <= bytes.len() / 16);
            prop_assert!(attributes(&bytes).count() <= bytes.len() / 4);
            let _ = (fields::<8>(&bytes), whole(&bytes));
        }
    }

    #[test]
    fn what_is_cut_is_not_taken_for_whole() {
        let mut list = Vec::new();
        put_attribute(&mut list, 3, b"ab");
        put_attribute(&mut list, 1, b"abcd");
        assert_eq!(fields::<4>(&list), Some([None, Some(&b"abcd"[..]), None, Some(&b"ab"[..])]));
        assert_eq!(fields::<4>(&[]), Some([None; 4]));
        for cut in [1, 4, 7, 9, 12, 15] {
            // Only between attributes is a cut not seen here.
            assert_eq!(fields::<4>(&list[..cut]).is_some(), cut == 8 || cut == 7, "{cut}");
        }
        let message = dump_request(26, &[2, 0, 0, 0]);
        assert!(whole(&[message.clone(), message.clone()].concat()) && whole(&[]));
        assert!(!whole(&message[..18]) && !whole(&message[..3]));
    }

    #[test]
    fn a_length_that_does_not_move_on_ends_the_reading() {
        assert_eq!(attributes(&[0, 0, 1, 0, 9, 9, 9, 9]).count(), 0);
        assert_eq!(messages(&[0; 64]).count(), 0);
        let request = dump_request(26, &[2, 0, 0, 0]);
        assert_eq!(messages(&request).collect::<Vec<_>>(), [(26, &[2u8, 0, 0, 0][..])]);
    }
}
