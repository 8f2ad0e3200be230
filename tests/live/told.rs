//! What sockwarden said, read again.

use std::net::IpAddr;

use serde_json::Value;

/// Whether a range of addresses (`192.0.2.0/24`, `192.0.2.1-192.0.2.9`) has this one.
pub(crate) fn within(range: &Value, address: IpAddr) -> bool {
    let text = range.as_str().unwrap();
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (first.parse().unwrap(), last.parse().unwrap()),
        None => {
            let net: ipnet::IpNet = text.parse().unwrap();
            (net.network(), net.broadcast())
        }
    };
    first <= address && address <= last
}
