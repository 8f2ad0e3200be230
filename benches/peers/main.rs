//! What a whole inventory costs, paired with the other tools on the same sockets.
//!
//! `SOCKWARDEN_SCALE=small|medium|large|xlarge cargo bench --bench peers` (as root). The load and all
//! commands run in a pid, mount and network namespace of their own, so that each tool sees exactly the
//! load; round by round, output to /dev/null. CPU time (user + system) and peak memory are the kernel's
//! own figures of wait4(2). Prints medians and the median of the ratios to `ss -tunap` of the same
//! round; asserts nothing, since the machine has other work. Owners come from the program in the kernel
//! where it loads; the rows "by /proc" are of the same sockwarden, which may not call bpf(2).

#![allow(unsafe_code, reason = "namespaces and wait4 have no safe interface")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench speaks to its reader")]

#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod measure;
#[cfg(target_os = "linux")]
mod rivals;

#[cfg(target_os = "linux")]
fn main() -> std::io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["load", size] => load::hold(&load::Size::named(size)?),
        ["netstat2"] => rivals::netstat2(),
        ["facts"] => rivals::facts(),
        ["box", size] => measure::inside(&load::Size::named(size)?),
        _ if words.contains(&"--bench") => {
            let scale = std::env::var("SOCKWARDEN_SCALE").unwrap_or_else(|_| "small".into());
            measure::in_box(&load::Size::named(&scale)?)
        }
        _ => {
            println!("nothing is measured but by `cargo bench`");
            Ok(())
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {}
