//! What is measured beside programs: a crate, and reading alone.

use std::io;

use netstat2::{AddressFamilyFlags, ProtocolFlags};

/// TCP and UDP with owners, by the netstat2 crate.
pub(crate) fn netstat2() -> io::Result<()> {
    let families = AddressFamilyFlags::IPV4 | AddressFamilyFlags::IPV6;
    let sockets = netstat2::get_sockets_info(families, ProtocolFlags::TCP | ProtocolFlags::UDP)
        .map_err(io::Error::other)?;
    println!("{}", sockets.len());
    Ok(())
}

/// The facts of every process, read and thrown away: what full JSON cannot do without.
pub(crate) fn facts() -> io::Result<()> {
    let mut bytes = 0;
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit()) {
            for file in ["stat", "status", "cmdline", "cgroup"] {
                bytes += std::fs::read(path.join(file)).map_or(0, |text| text.len());
            }
            bytes += std::fs::read_link(path.join("exe")).map_or(0, |exe| exe.as_os_str().len());
        }
    }
    println!("{bytes}");
    Ok(())
}
