//! Where a netlink answer ends, and what the kernel says when it does not give one (netlink(7)).

#![forbid(unsafe_code)]

use std::io;

/// How often a dump is asked for before it counts as unobtainable.
pub(crate) const ATTEMPTS: u32 = 5;

const ENOENT: i32 = 2;

/// Why there is no answer. The kinds are kept apart since each means something else to the
/// reader: another way to ask, a missing right, or a gap.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The kernel has no such table or bus (ENOENT, EOPNOTSUPP, EPROTONOSUPPORT, EINVAL, …).
    #[error("the kernel has no such table: {0}")]
    Missing(io::Error),
    /// EPERM, EACCES.
    #[error("refused: {0}")]
    Refused(io::Error),
    /// The table changed while it was read, or answers were lost (ENOBUFS), each time.
    #[error("interrupted on every attempt")]
    Interrupted,
    /// The answer ended in the middle.
    #[error("the answer ended in the middle")]
    Short,
    #[error("{0}")]
    Failed(io::Error),
}

impl NetlinkError {
    /// Sorts an error number of the kernel, or of a system call on the way to it.
    pub(crate) fn from_errno(number: i32) -> Self {
        let error = io::Error::from_raw_os_error(number);
        match number {
            1 | 13 => Self::Refused(error),
            // ENOENT EINVAL EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP EAFNOSUPPORT ENOSYS
            ENOENT | 22 | 38 | 93 | 94 | 95 | 97 => Self::Missing(error),
            105 => Self::Interrupted,
            _ => Self::Failed(error),
        }
    }
}

impl From<io::Error> for NetlinkError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) => Self::from_errno(number),
            None if error.kind() == io::ErrorKind::NotFound => Self::Missing(error),
            None => Self::Failed(error),
        }
    }
}

/// The bus of rtnetlink(7).
pub(crate) const NETLINK_ROUTE: u32 = 0;

/// A dump of all links: `struct nlmsghdr`, `RTM_GETLINK`, an empty `struct ifinfomsg`.
pub(crate) fn links_request() -> Vec<u8> {
    const RTM_GETLINK: u16 = 18;
    const DUMP: u16 = 0x301; // NLM_F_REQUEST | NLM_F_DUMP
    let mut request = vec![0_u8; 32];
    request[0..4].copy_from_slice(&32_u32.to_ne_bytes());
    request[4..6].copy_from_slice(&RTM_GETLINK.to_ne_bytes());
    request[6..8].copy_from_slice(&DUMP.to_ne_bytes());
    request
}

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_MULTI: u16 = 2;
const NLM_F_DUMP_INTR: u16 = 0x10;

/// Whether a request asks for a list or an acknowledgement, so that its answer ends with a final
/// message (`NLM_F_DUMP`, `NLM_F_ACK`).
pub(crate) fn wants_list(request: &[u8]) -> bool {
    request.get(6..8).is_some_and(|flags| u16::from_ne_bytes([flags[0], flags[1]]) & 0x304 != 0)
}

/// Looks at the headers of a block of messages: whether the answer is complete with it.
/// `dump`: the request asked for a list, which ends with `NLMSG_DONE` or an error only.
///
/// # Errors
/// The kernel's error message, a mark of interruption, or `Short` for a broken message.
pub(crate) fn judge(block: &[u8], dump: bool) -> Result<bool, NetlinkError> {
    let mut rest = block;
    while rest.len() >= 16 {
        let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        let kind = u16::from_ne_bytes([rest[4], rest[5]]);
        let flags = u16::from_ne_bytes([rest[6], rest[7]]);
        let Some(message) = rest.get(..length).filter(|_| length >= 16) else {
            return Err(NetlinkError::Short);
        };
        if flags & NLM_F_DUMP_INTR != 0 {
            return Err(NetlinkError::Interrupted);
        }
        match kind {
            NLMSG_ERROR => {
                let code = message.get(16..20).ok_or(NetlinkError::Short)?;
                return match i32::from_ne_bytes([code[0], code[1], code[2], code[3]]) {
                    0 => Ok(true),
                    negative => Err(NetlinkError::from_errno(negative.saturating_neg())),
                };
            }
            // A dump that failed half way carries its error in the final message.
            NLMSG_DONE => {
                let code = message.get(16..20).map_or(0, |c| i32::from_ne_bytes([c[0], c[1], c[2], c[3]]));
                return if code < 0 {
                    Err(NetlinkError::from_errno(code.saturating_neg()))
                } else {
                    Ok(true)
                };
            }
            _ if !dump && flags & NLM_F_MULTI == 0 => return Ok(true),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    if rest.is_empty() { Ok(false) } else { Err(NetlinkError::Short) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(16 + payload.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.resize(16, 0);
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn only_the_final_message_ends_a_list() {
        let row = message(20, NLM_F_MULTI, &[1, 2, 3, 4]);
        assert!(!judge(&row, true).unwrap());
        assert!(judge(&[row.clone(), message(NLMSG_DONE, NLM_F_MULTI, &[0; 4])].concat(), true).unwrap());
        assert!(judge(&message(20, 0, &[]), false).unwrap());
        assert!(!judge(&message(20, 0, &[]), true).unwrap());
    }

    #[test]
    fn every_way_to_fail_keeps_its_kind() {
        let code = |number: i32| number.to_ne_bytes();
        let refused = judge(&message(NLMSG_ERROR, 0, &code(-1)), true);
        assert!(matches!(refused, Err(NetlinkError::Refused(_))));
        // A dump that its table refused half way says so in the final message.
        let missing = judge(&message(NLMSG_DONE, NLM_F_MULTI, &code(-2)), true);
        assert!(matches!(missing, Err(NetlinkError::Missing(_))));
        let changed = judge(&message(20, NLM_F_MULTI | NLM_F_DUMP_INTR, &[]), true);
        assert!(matches!(changed, Err(NetlinkError::Interrupted)));
        let row = message(20, NLM_F_MULTI, &[1, 2, 3, 4]);
        assert!(matches!(judge(&row[..18], true), Err(NetlinkError::Short)));
        assert!(judge(&message(NLMSG_ERROR, 0, &code(0)), true).unwrap());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = (judge(&bytes, true), judge(&bytes, false), wants_list(&bytes));
        }
    }
}
