//! Sets of addresses and ports in the form in which a path names them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// `::ffff:a.b.c.d` is IPv4 and is written so (RFC 4291 section 2.5.5.2).
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// All addresses from `first` to `last`, both of one family, both included.
/// `Display` is a CIDR where the range is one, else `a-b`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "Ends<IpAddr>")]
pub struct AddrRange {
    pub first: IpAddr,
    pub last: IpAddr,
}

/// A range as a file writes it, before anybody looked whether it is one.
#[derive(Deserialize)]
struct Ends<T> {
    first: T,
    last: T,
}

impl TryFrom<Ends<IpAddr>> for AddrRange {
    type Error = String;

    fn try_from(ends: Ends<IpAddr>) -> Result<Self, String> {
        let Ends { first, last } = ends;
        let range = first.is_ipv4() == last.is_ipv4() && first <= last;
        range
            .then_some(Self { first, last })
            .ok_or_else(|| format!("{first}-{last} is no range of addresses"))
    }
}

impl AddrRange {
    pub const ALL_V4: Self =
        Self { first: IpAddr::V4(Ipv4Addr::UNSPECIFIED), last: IpAddr::V4(Ipv4Addr::BROADCAST) };
    pub const ALL_V6: Self =
        Self { first: IpAddr::V6(Ipv6Addr::UNSPECIFIED), last: IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)) };

    pub fn one(address: IpAddr) -> Self {
        Self { first: address, last: address }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && self.first <= address && address <= self.last
    }
}

impl From<ipnet::IpNet> for AddrRange {
    fn from(net: ipnet::IpNet) -> Self {
        Self { first: net.network(), last: net.broadcast() }
    }
}

impl fmt::Display for AddrRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last, width) = match (self.first, self.last) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                return write!(f, "{}-{}", self.first, self.last);
            }
        };
        let size = last.wrapping_sub(first).wrapping_add(1); // 0 stands for all of 2^128
        let aligned = if size == 0 { first == 0 } else { size.is_power_of_two() && first & (size - 1) == 0 };
        if !aligned {
            return write!(f, "{}-{}", self.first, self.last);
        }
        let bits = if size == 0 { 128 } else { size.trailing_zeros() };
        write!(f, "{}/{}", self.first, width - bits)
    }
}

/// All ports from `first` to `last`, both included. `Display` is `n` or `a-b`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "Ends<u16>")]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl TryFrom<Ends<u16>> for PortRange {
    type Error = String;

    fn try_from(ends: Ends<u16>) -> Result<Self, String> {
        let Ends { first, last } = ends;
        (first <= last)
            .then_some(Self { first, last })
            .ok_or_else(|| format!("{first}-{last} is no range of ports"))
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}
