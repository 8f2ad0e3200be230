//! The kernel's text records of one process, as values (proc_pid_stat(5), proc_pid_status(5)).
//!
//! Pure: bytes in, values out. `comm` is free text and may hold `) `, newlines and escapes.

use crate::model::Text;

use super::user::{lines, number};

/// What we need of `/proc/PID/stat`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stat {
    pub name: Text,
    /// `Z` for a leading thread that has ended.
    pub state: u8,
    pub ppid: u32,
    pub start_ticks: u64,
}

/// What we need of `/proc/PID/status`; `None` for a line that is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Real and effective uid.
    pub uids: Option<(u32, u32)>,
    pub effective_capabilities: Option<u64>,
    /// The pid in the innermost pid namespace.
    pub inner_pid: Option<u32>,
}

/// Reads from the last `)`, since `comm` may hold others.
pub fn stat(bytes: &[u8]) -> Option<Stat> {
    let open = bytes.iter().position(|&byte| byte == b'(')?;
    let close = bytes.iter().rposition(|&byte| byte == b')')?;
    let name = bytes.get(open + 1..close)?;
    let mut fields = bytes[close + 1..].split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    let state = *fields.next()?.first()?;
    let ppid = number(fields.next()?)?;
    let start_ticks = number(fields.nth(17)?)?; // field 22; the state is field 3
    Some(Stat { name: name.into(), state, ppid, start_ticks })
}

/// The name in the first line is escaped by the kernel and holds no newline.
pub fn status(bytes: &[u8]) -> Status {
    let mut found = Status::default();
    for line in lines(bytes) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (key, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let mut words = value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        match key {
            b"Uid" => {
                let mut next = || number(words.next()?);
                found.uids = next().zip(next());
            }
            b"NSpid" => found.inner_pid = words.next_back().and_then(number),
            b"CapEff" => {
                found.effective_capabilities = words
                    .next()
                    .and_then(|hex| std::str::from_utf8(hex).ok())
                    .and_then(|hex| u64::from_str_radix(hex, 16).ok());
            }
            _ => {}
        }
    }
    found
}

/// The arguments. A program may write over them: then there is one text, without NUL at its end.
pub fn cmdline(bytes: &[u8]) -> Vec<Text> {
    let Some(text) = bytes.strip_suffix(b"\0").or((!bytes.is_empty()).then_some(bytes)) else {
        return Vec::new();
    };
    text.split(|&byte| byte == 0).map(Text::from).collect()
}

/// What `/proc/PID/exe` points to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExeLink<'a> {
    /// Without the suffix.
    pub path: &'a [u8],
    /// The kernel put ` (deleted)` behind it, or the file is really called so.
    pub marked: bool,
}

pub fn exe_link(link: &[u8]) -> ExeLink<'_> {
    match link.strip_suffix(b" (deleted)") {
        Some(path) => ExeLink { path, marked: true },
        None => ExeLink { path: link, marked: false },
    }
}

/// The inode in `net:[4026531840]`.
pub fn namespace_inode(link: &[u8]) -> Option<u64> {
    let open = link.iter().position(|&byte| byte == b'[')?;
    number(link[open + 1..].strip_suffix(b"]")?)
}

/// Boot time in seconds since the epoch, from the `btime` line of `/proc/stat`.
pub fn boot_seconds(stat: &[u8]) -> Option<i64> {
    lines(stat).find_map(|line| number(line.strip_prefix(b"btime ")?.trim_ascii()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn a_name_with_brackets_and_newlines() {
        let read = stat(b"7 (a) b\n) R 3 7 7 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 12345 9 8\n");
        let read = read.expect("a record");
        assert_eq!(read.name, Text::from("a) b\n"));
        assert_eq!((read.state, read.ppid, read.start_ticks), (b'R', 3, 12345));
        assert_eq!(stat(b"7 (x R 3"), None);
        assert_eq!(stat(b")("), None);
    }

    #[test]
    fn status_lines() {
        let read = status(b"Name:\tx\nUid:\t1000\t0\t0\t0\nNSpid:\t400\t1\nCapEff:\t000001ffffffffff\n");
        assert_eq!(read.uids, Some((1000, 0)));
        assert_eq!(read.inner_pid, Some(1));
        assert_eq!(read.effective_capabilities, Some(0x1ff_ffff_ffff));
        assert_eq!(status(b"Name:\tUid: 5 5\n"), Status::default());
    }

    #[test]
    fn arguments() {
        assert_eq!(cmdline(b"a\0\0b\0"), ["a", "", "b"].map(Text::from));
        assert_eq!(cmdline(b"nginx: worker"), ["nginx: worker"].map(Text::from));
        assert_eq!(cmdline(b"\0"), [Text::default()]);
        assert!(cmdline(b"").is_empty());
    }

    #[test]
    fn small_texts() {
        assert!(exe_link(b"/bin/x (deleted)").marked);
        assert_eq!(exe_link(b"/bin/x").path, b"/bin/x");
        assert_eq!(namespace_inode(b"net:[4026531840]"), Some(4_026_531_840));
        assert_eq!(namespace_inode(b"net:[x]"), None);
        assert_eq!(boot_seconds(b"cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let _ = (stat(&bytes), status(&bytes), cmdline(&bytes), exe_link(&bytes));
            let _ = (namespace_inode(&bytes), boot_seconds(&bytes));
        }
    }
}
