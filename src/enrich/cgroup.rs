//! What the control group of a process tells: its systemd unit and its container.
//!
//! Pure: text in, facts out. The path is the one seen from our own cgroup namespace, so a container
//! asked from inside itself has none.

use crate::model::Text;

use super::user::{lines, number};

/// One line of `/proc/PID/cgroup` (cgroups(7)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line<'a> {
    /// 0 for the unified hierarchy.
    pub hierarchy: u32,
    /// Comma-separated; `name=systemd` for systemd's own hierarchy of version 1.
    pub controllers: &'a [u8],
    pub path: &'a [u8],
}

/// A container as its cgroup names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mark {
    pub runtime: &'static str,
    pub id: Text,
}

/// The lines in the order in which they are to be believed: the unified hierarchy, systemd's own of
/// version 1, then the controllers in the order of the file.
pub fn parse(bytes: &[u8]) -> Vec<Line<'_>> {
    let mut parsed: Vec<Line<'_>> = lines(bytes)
        .filter_map(|line| {
            let mut fields = line.splitn(3, |&byte| byte == b':');
            let hierarchy = number(fields.next()?)?;
            Some(Line { hierarchy, controllers: fields.next()?, path: fields.next()? })
        })
        .take(64)
        .collect();
    parsed.sort_by_key(rank);
    parsed
}

fn rank(line: &Line<'_>) -> u8 {
    match line.controllers {
        b"" => 0,
        b"name=systemd" => 1,
        _ => 2,
    }
}

/// The systemd unit: the deepest part of systemd's path that has the name of a unit other than a
/// slice. `None` when the process is in no unit (systemd does not run here, or a kernel thread).
pub fn unit(lines: &[Line<'_>]) -> Option<Text> {
    lines
        .iter()
        .filter(|line| rank(line) < 2)
        .find_map(|line| parts(line.path).rev().map(unescaped).find(|part| is_unit(part)).map(Text::from))
}

/// systemd puts `_` before a name that the kernel reserves (systemd's cgroup-util.c, cg_escape).
fn unescaped(part: &[u8]) -> &[u8] {
    part.strip_prefix(b"_").unwrap_or(part)
}

/// Whether this is the name of a unit that can hold processes (systemd.unit(5)).
fn is_unit(part: &[u8]) -> bool {
    let Some(dot) = part.iter().rposition(|&byte| byte == b'.') else { return false };
    let (name, kind) = part.split_at(dot);
    !name.is_empty()
        && part.len() < 256
        && matches!(kind, b".service" | b".scope" | b".socket" | b".mount" | b".swap")
        && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte))
}

/// The container: the innermost part of a path that a container runtime is known to make.
/// A runtime's helper outside the container (conmon, lxc monitor, nspawn's supervisor) has none.
pub fn container(lines: &[Line<'_>]) -> Option<Mark> {
    lines.iter().find_map(|line| {
        let parts: Vec<&[u8]> = parts(line.path).collect();
        (0..parts.len()).rev().find_map(|at| mark(&parts, at))
    })
}

/// What the part at `at` says, given those above and below it.
fn mark(parts: &[&[u8]], at: usize) -> Option<Mark> {
    let part = unescaped(parts[at]);
    let above = at.checked_sub(1).map_or(&b""[..], |up| parts[up]);
    let below = parts.get(at + 1).copied().unwrap_or_default();
    let found = |runtime, id: &[u8]| Some(Mark { runtime, id: id.into() });
    let bare = part.strip_suffix(b".scope").unwrap_or(part);
    // `kubepods-burstable-podUID.slice:cri-containerd:ID`, the cgroupfs driver given a systemd path
    let bare = bare.rsplitn(3, |&byte| byte == b':').collect::<Vec<_>>();
    if let [id, prefix, _slice] = bare[..] {
        return is_id(id).then(|| runtime_of(prefix)).flatten().and_then(|runtime| found(runtime, id));
    }
    let bare = part.strip_suffix(b".scope").unwrap_or(part);
    if let Some((prefix, id)) = split_id(bare)
        && let Some(runtime) = runtime_of(prefix)
    {
        return found(runtime, id);
    }
    if is_id(bare) && bare.len() == part.len() {
        let runtime = match above {
            b"docker" | b"actions_job" => "docker",
            b"libpod_parent" => "podman",
            b"k8s.io" | b"default" | b"moby" => "containerd",
            b"buildkit" => "buildkit",
            _ if parts[..at].iter().any(|up| up.starts_with(b"kubepods")) => "kubepods",
            _ if parts[..at].contains(&&b"ecs"[..]) => "docker",
            _ => return None,
        };
        return found(runtime, bare);
    }
    if let Some(name) = part.strip_prefix(b"lxc.payload.")
        && !name.is_empty()
    {
        return found("lxc", name);
    }
    if matches!(above, b"lxc.payload" | b"lxc") && at == 1 {
        return found("lxc", part);
    }
    let between = |prefix: &[u8], suffix: &[u8]| machine(part.strip_prefix(prefix)?.strip_suffix(suffix)?);
    if let Some(name) = between(b"systemd-nspawn@", b".service")
        && below != b"supervisor"
    {
        return found("systemd-nspawn", &name);
    }
    if let Some(name) = between(b"machine-", b".scope")
        && !matches!(below, b"supervisor" | b"emulator" | b"libvirt")
        && above == b"machine.slice"
    {
        return match () {
            () if name.starts_with(b"lxc-") => found("lxc", &name),
            () if name.starts_with(b"qemu-") => None, // a virtual machine: its process runs on this host
            () => found("systemd-nspawn", &name),
        };
    }
    None
}

/// The name of a machine out of that of its unit; such names are host names (machinectl(1)).
fn machine(escaped: &[u8]) -> Option<Vec<u8>> {
    let name = unit_unescaped(escaped);
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    (!name.is_empty() && name.iter().all(plain)).then_some(name)
}

/// The runtimes that write `PREFIX-ID.scope`. Their conmon does not count: it is outside.
fn runtime_of(prefix: &[u8]) -> Option<&'static str> {
    Some(match prefix {
        b"docker" => "docker",
        b"libpod" => "podman",
        b"cri-containerd" | b"nerdctl" | b"containerd" => "containerd",
        b"crio" => "crio",
        _ => return None,
    })
}

fn split_id(bare: &[u8]) -> Option<(&[u8], &[u8])> {
    let dash = bare.iter().rposition(|&byte| byte == b'-')?;
    let id = &bare[dash + 1..];
    is_id(id).then(|| (&bare[..dash], id))
}

/// Docker, podman, containerd and CRI-O name a container by 64 hexadecimal digits.
fn is_id(part: &[u8]) -> bool {
    part.len() == 64 && part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Undoes systemd-escape(1): `\x2d` is a dash.
pub(super) fn unit_unescaped(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let escaped = (byte == b'\\').then(|| hex_byte(after)).flatten();
        plain.push(escaped.unwrap_or(byte));
        if escaped.is_some() {
            rest = &after[3..];
        }
    }
    plain
}

/// The byte of `xHH` at the front.
fn hex_byte(text: &[u8]) -> Option<u8> {
    let digits = text.get(..3)?.strip_prefix(b"x")?;
    let value = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(value(digits[0])? << 4 | value(digits[1])?).ok()
}

fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn unit_of(text: &str) -> Option<String> {
        unit(&parse(text.as_bytes())).map(|unit| unit.lossy().into_owned())
    }

    fn container_of(path: &str) -> Option<(&'static str, String)> {
        let text = format!("0::{}\n", path.replace("ID", ID));
        let mark = container(&parse(text.as_bytes()))?;
        Some((mark.runtime, mark.id.lossy().replace(ID, "ID")))
    }

    #[test]
    fn the_unified_line_is_believed_first() {
        assert_eq!(unit_of("0::/system.slice/ssh.service\n").as_deref(), Some("ssh.service"));
        let hybrid = "12:pids:/x\n1:name=systemd:/system.slice/cron.service\n0::/\n";
        assert_eq!(unit_of(hybrid).as_deref(), Some("cron.service"));
        assert_eq!(unit_of("4:memory:/system.slice/cron.service\n0::/\n"), None);
    }

    #[test]
    fn the_deepest_unit_counts() {
        let user = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service/sub\n";
        assert_eq!(unit_of(user).as_deref(), Some("foo.service"));
        assert_eq!(unit_of("0::/init.scope\n").as_deref(), Some("init.scope"));
        assert_eq!(unit_of("0::/system.slice/_cpu.service\n").as_deref(), Some("cpu.service"));
        assert_eq!(unit_of("0::/system.slice\n"), None);
        assert_eq!(unit_of("0::/../../x/.service\n"), None);
        assert_eq!(unit_of("0::/system.slice/a b.service\n"), None);
    }

    #[test]
    fn knows_the_paths_of_each_runtime() {
        let known = [
            ("/system.slice/docker-ID.scope", ("docker", "ID")),
            ("/docker/ID", ("docker", "ID")),
            ("/docker/ID/init.scope", ("docker", "ID")),
            ("/machine.slice/libpod-ID.scope/container", ("podman", "ID")),
            ("/libpod_parent/libpod-ID", ("podman", "ID")),
            ("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope", ("podman", "ID")),
            (
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podU.slice/cri-containerd-ID.scope",
                ("containerd", "ID"),
            ),
            ("/kubepods-burstable-podU.slice:cri-containerd:ID", ("containerd", "ID")),
            ("/kubepods.slice/kubepods-podU.slice/crio-ID.scope", ("crio", "ID")),
            ("/kubepods/besteffort/podU/ID", ("kubepods", "ID")),
            ("/k8s.io/ID", ("containerd", "ID")),
            ("/ecs/task/ID", ("docker", "ID")),
            ("/lxc.payload.web/system.slice/ssh.service", ("lxc", "web")),
            ("/lxc/web", ("lxc", "web")),
            ("/lxc/100/ns/system.slice/ssh.service", ("lxc", "100")),
            (
                "/machine.slice/systemd-nspawn@web\\x2d1.service/payload/init.scope",
                ("systemd-nspawn", "web-1"),
            ),
            ("/machine.slice/machine-web.scope/payload", ("systemd-nspawn", "web")),
            ("/docker/ID/docker/ID", ("docker", "ID")),
        ];
        for (path, (runtime, id)) in known {
            assert_eq!(container_of(path), Some((runtime, id.to_owned())), "{path}");
        }
    }

    #[test]
    fn the_innermost_container_counts() {
        let inner = ID.replace('0', "9");
        let text = format!("0::/docker/{ID}/system.slice/docker-{inner}.scope\n");
        assert_eq!(container(&parse(text.as_bytes())).map(|mark| mark.id), Some(Text::from(inner)));
    }

    #[test]
    fn what_is_outside_is_not_in_a_container() {
        for path in [
            "/system.slice/docker.service",
            "/docker/short",
            "/machine.slice/libpod-conmon-ID.scope",
            "/kubepods.slice/crio-conmon-ID.scope",
            "/lxc.monitor.web",
            "/machine.slice/systemd-nspawn@web.service/supervisor",
            "/machine.slice/systemd-nspawn@.service",
            "/machine.slice/machine-\\x2f.scope",
            "/machine.slice/machine-qemu\\x2d1\\x2dweb.scope",
            "/user.slice/ID",
            "/",
        ] {
            assert_eq!(container_of(path), None, "{path}");
        }
    }

    #[test]
    fn a_container_known_to_one_controller_only() {
        let text = format!("4:memory:/docker/{ID}\n1:name=systemd:/\n0::/\n");
        assert_eq!(container(&parse(text.as_bytes())).map(|mark| mark.runtime), Some("docker"));
    }

    #[test]
    fn undoes_systemds_escapes() {
        assert_eq!(unit_unescaped(b"a\\x2db\\x2"), b"a-b\\x2");
        assert_eq!(unit_unescaped(b"\\xzz"), b"\\xzz");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let lines = parse(&bytes);
            let _ = (unit(&lines), container(&lines), unit_unescaped(&bytes));
        }

        #[test]
        fn no_path_panics(path in "[a-z0-9:./@_\\\\-]{0,200}") {
            let text = format!("0::{path}\n");
            let lines = parse(text.as_bytes());
            let _ = (unit(&lines), container(&lines));
        }
    }
}
