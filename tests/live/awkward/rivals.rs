//! How many of the same sockets other tools show, for the record; and whether another reader of the
//! same kernel sees one that we do not.

use std::path::PathBuf;
use std::process::Command;

use netstat2::{AddressFamilyFlags, ProtocolFlags, ProtocolSocketInfo};
use serde_json::{Value, json};

use super::want::Want;
use super::within;
use crate::lab::{Netns, Outcome, Stop, find_program};

/// Prints a line for each tool that is installed: sockets seen, and seen with all owners.
pub(super) fn compare(wants: &[Want], places: &[&Netns]) {
    for (name, args) in
        [("ss", &["-OHnape", "-A", "all"][..]), ("lsof", &["-nPw", "+c0"]), ("netstat", &["-anpee"])]
    {
        let Some(program) = find_program(name) else {
            println!("{name}: not installed");
            continue;
        };
        let text = everywhere(&program, args, places);
        let lines: Vec<(&str, Vec<&str>)> = text
            .lines()
            .map(|line| (line, line.split(|c: char| !c.is_ascii_alphanumeric()).collect()))
            .collect();
        let (mut seen, mut right) = (0, 0);
        for want in wants {
            let rows: Vec<_> = lines.iter().filter(|(line, words)| is_row(want, line, words)).collect();
            let named = |pid: &u32| rows.iter().any(|(_, words)| words.contains(&&*pid.to_string()));
            seen += usize::from(!rows.is_empty());
            right += usize::from(!rows.is_empty() && want.owners.iter().all(named));
        }
        println!("{name}: {seen} of {} seen, {right} with the right owners", wants.len());
    }
}

/// Its output in our own namespace and in each named one, as an administrator would ask.
fn everywhere(program: &PathBuf, args: &[&str], places: &[&Netns]) -> String {
    let mut commands = vec![Command::new(program)];
    commands.extend(places.iter().filter_map(|place| place.command(program).ok()));
    commands
        .into_iter()
        .filter_map(|mut command| command.args(args).output().ok())
        .map(|done| String::from_utf8_lossy(&done.stdout).into_owned())
        .collect()
}

/// By inode where there is one, else by both addresses.
fn is_row(want: &Want, line: &str, words: &[&str]) -> bool {
    if want.inode != 0 {
        return words.contains(&&*want.inode.to_string());
    }
    let text = |end: &str| {
        let end = &want.fields[end];
        match (end["address"].as_str(), end["path"].as_str()) {
            (Some(address), _) => format!("{address}:{}", end["port"]),
            (None, Some(path)) => path.to_owned(),
            (None, None) => String::new(),
        }
    };
    line.contains(&text("local"))
        && line.contains(&text("remote"))
        && (words.contains(&"0") || !line.contains('/'))
}

/// Every TCP and UDP socket that the netstat2 crate sees in this namespace is among our rows, and
/// whoever it names as holder is among our owners.
pub(super) fn nothing_more_by_netstat2(place: &Netns, rows: &[Value]) -> Outcome {
    let families = AddressFamilyFlags::IPV4 | AddressFamilyFlags::IPV6;
    let seen = place
        .run(|| netstat2::get_sockets_info(families, ProtocolFlags::TCP | ProtocolFlags::UDP))?
        .map_err(|error| error.to_string())?;
    let ours: Vec<&Value> = rows.iter().filter(|row| row["netns"]["inode"] == place.inode()).collect();
    let end = |address: std::net::IpAddr, port: u16| json!({"address": address.to_canonical().to_string(), "port": port});
    for socket in &seen {
        let mut fields = match &socket.protocol_socket_info {
            ProtocolSocketInfo::Tcp(tcp) => {
                let mut fields = json!({"local": end(tcp.local_addr, tcp.local_port)});
                if tcp.remote_port != 0 {
                    fields["remote"] = end(tcp.remote_addr, tcp.remote_port);
                }
                fields
            }
            ProtocolSocketInfo::Udp(udp) => {
                json!({"protocol": "udp", "local": end(udp.local_addr, udp.local_port)})
            }
        };
        if socket.inode != 0 {
            fields["inode"] = json!(socket.inode);
        }
        let found = ours.iter().any(|row| {
            let owners = row["owners"].as_array().map(Vec::as_slice).unwrap_or_default();
            within(&fields, row).is_ok()
                && socket.associated_pids.iter().all(|pid| owners.iter().any(|owner| owner["pid"] == *pid))
        });
        if !found {
            return Err(Stop::Fail(format!("netstat2 sees {socket:?}, we do not")));
        }
    }
    println!("netstat2: {} TCP and UDP sockets in {}, all among ours", seen.len(), place.name());
    Ok(())
}
