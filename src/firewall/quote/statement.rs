//! What rules do beside matching and deciding: count, limit, log.

use super::nft::{number, wide};
use crate::firewall::netlink::{attribute, text};

/// The words of one expression that is no match.
pub(super) fn write(name: &[u8], data: &[u8]) -> Option<String> {
    match name {
        b"counter" => Some("counter".to_owned()),
        b"notrack" => Some("notrack".to_owned()),
        b"masq" if data.is_empty() => Some("masquerade".to_owned()),
        b"limit" => limit(data),
        b"log" => log(data),
        b"connlimit" => {
            let over = if number(data, 2).unwrap_or(0) & 1 != 0 { "over " } else { "" };
            Some(format!("ct count {over}{}", number(data, 1)?))
        }
        _ => None,
    }
}

fn limit(data: &[u8]) -> Option<String> {
    let (rate, seconds, burst) = (wide(data, 1)?, wide(data, 2)?, number(data, 3).unwrap_or(0));
    let unit = match seconds {
        1 => "second",
        60 => "minute",
        3_600 => "hour",
        86_400 => "day",
        604_800 => "week",
        _ => return None,
    };
    (number(data, 4).unwrap_or(0) == 0).then_some(())?; // packets
    let over = if number(data, 5).unwrap_or(0) & 1 != 0 { "over " } else { "" };
    let burst = if burst == 5 || burst == 0 { String::new() } else { format!(" burst {burst} packets") };
    Some(format!("limit rate {over}{rate}/{unit}{burst}"))
}

fn log(data: &[u8]) -> Option<String> {
    let mut words = "log".to_owned();
    if let Some(prefix) = attribute(data, 2) {
        let prefix = std::str::from_utf8(text(prefix)).ok()?;
        words.push_str(&format!(" prefix \"{prefix}\""));
    }
    let short = |wanted| Some(u16::from_be_bytes(attribute(data, wanted)?.try_into().ok()?));
    if let Some(group) = short(1) {
        words.push_str(&format!(" group {group}"));
        (number(data, 3).unwrap_or(0) == 0 && short(4).unwrap_or(0) == 0).then_some(())?;
    } else if let Some(level) = number(data, 5) {
        let levels = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"];
        let level = levels.get(level as usize)?;
        if *level != "warn" {
            words.push_str(&format!(" level {level}"));
        }
    }
    (number(data, 6).unwrap_or(0) == 0).then_some(())?;
    Some(words)
}
