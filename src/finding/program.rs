//! Which program a socket belongs to, in words that a restart does not change.

use crate::model::{Container, ExeState, Fact, Observation, Process, Text};

/// What identifies the program behind a socket: container image and systemd unit where there are
/// any, else the executable (with the script, for an interpreter), else nothing. Of several
/// holders the first in byte order counts, so that the choice does not hang on pids. Never holds
/// a pid, a container id, a version tag, or the counter of a transient unit.
pub fn program(socket: &Observation<'_>) -> Option<Vec<u8>> {
    let activated = socket.socket.activation.as_deref().and_then(|made| {
        let unit = made.services.first().or(made.units.first())?;
        let mut identity = b"unit:".to_vec();
        identity.extend(stable_unit(unit.as_bytes())?);
        Some(identity)
    });
    activated.or_else(|| socket.owners().filter_map(|owner| identity(owner.process)).min())
}

fn identity(process: &Process) -> Option<Vec<u8>> {
    let mut identity = Vec::new();
    if let Some(container) = process.container.known() {
        identity.extend(b"container:");
        identity.extend(image(container));
        identity.push(b' ');
    }
    if let Some(unit) = process.unit.known().and_then(|unit| stable_unit(unit.as_bytes())) {
        identity.extend(b"unit:");
        identity.extend(unit);
    } else if identity.is_empty() {
        identity.extend(executable(process)?);
    }
    Some(identity)
}

/// Image without tag and digest, else the container's name, else its runtime.
fn image(container: &Container) -> Vec<u8> {
    let Some(image) = &container.image else {
        return container.name.as_ref().map_or(container.runtime.as_bytes(), Text::as_bytes).to_vec();
    };
    let bytes = image.as_bytes();
    let bytes = bytes.iter().position(|b| *b == b'@').map_or(bytes, |at| &bytes[..at]);
    let name_starts = bytes.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
    let tag = bytes[name_starts..].iter().position(|b| *b == b':');
    tag.map_or(bytes, |at| &bytes[..name_starts + at]).to_vec()
}

/// A unit's name where it outlives a restart: services and sockets, but no scope (a session's or
/// a container's) and nothing that systemd-run(1) made. The instance of a service that was started
/// for one connection (systemd.socket(5), `Accept=`) or one desktop launch is left out.
fn stable_unit(unit: &[u8]) -> Option<Vec<u8>> {
    let (name, kind) = unit.split_at(unit.iter().rposition(|b| *b == b'.')?);
    let transient = name.strip_prefix(b"run-").is_some_and(|rest| {
        matches!(rest.first(), Some(b'r' | b'p' | b'u')) && rest.get(1).is_some_and(u8::is_ascii_hexdigit)
    });
    if kind == b".scope" || transient {
        return None;
    }
    let Some(at) = name.iter().position(|b| *b == b'@') else { return Some(unit.to_vec()) };
    let instance = &name[at + 1..];
    let counter = instance.iter().take_while(|b| b.is_ascii_digit()).count();
    let of_connection = counter > 0 && instance.get(counter) == Some(&b'-') && instance.contains(&b':')
        || counter > 0 && instance.get(counter) == Some(&b'-') && instance.contains(&b'_');
    let of_launch = instance.len() >= 16 && instance.iter().all(u8::is_ascii_hexdigit);
    if of_connection || of_launch {
        return Some([&name[..=at], kind].concat());
    }
    Some(unit.to_vec())
}

fn executable(process: &Process) -> Option<Vec<u8>> {
    let exe = match &process.exe {
        Fact::Known(exe) => exe.as_bytes(),
        Fact::Absent | Fact::Unknown => return comm(process),
    };
    let mut identity =
        if process.exe_state == ExeState::Memory { b"memory:".to_vec() } else { b"exe:".to_vec() };
    identity.extend(exe);
    let name = exe.rsplit(|b| *b == b'/').next().unwrap_or(exe);
    if let Some(script) = script(name, process.cmdline.known().map_or(&[], Vec::as_slice)) {
        identity.push(b' ');
        identity.extend(script);
    }
    Some(identity)
}

/// Where the executable could not be read, the kernel's short name must do.
fn comm(process: &Process) -> Option<Vec<u8>> {
    (!process.name.is_empty()).then(|| [b"comm:", process.name.as_bytes()].concat())
}

/// What an interpreter was told to run: the first argument that is no option, or the module,
/// archive or "-c" of an option.
fn script<'p>(interpreter: &[u8], cmdline: &'p [Text]) -> Option<&'p [u8]> {
    const INTERPRETERS: &[&[u8]] = &[
        b"python", b"perl", b"ruby", b"node", b"nodejs", b"php", b"java", b"bash", b"dash", b"sh", b"zsh",
        b"ksh", b"fish", b"busybox", b"lua", b"tclsh", b"deno", b"bun", b"mono", b"dotnet", b"pypy",
    ];
    let stem = interpreter.iter().rposition(|b| !b.is_ascii_digit() && *b != b'.').map_or(0, |at| at + 1);
    if !INTERPRETERS.contains(&&interpreter[..stem]) {
        return None;
    }
    let mut arguments = cmdline.iter().skip(1).map(Text::as_bytes);
    let first = arguments.find(|argument| {
        !argument.starts_with(b"-") || matches!(*argument, b"-m" | b"-c" | b"-e" | b"-jar")
    })?;
    match first {
        b"-m" | b"-jar" => arguments.next().or(Some(first)),
        _ => Some(first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample::Sample;
    use crate::model::{Activation, Protocol, State};

    fn of(make: impl FnOnce(&mut Sample)) -> String {
        let mut sample = Sample::new();
        sample.process(50, "/usr/sbin/nginx");
        make(&mut sample);
        sample.socket(Protocol::Tcp, State::Listen, "0.0.0.0:80", &[50]);
        let socket = sample.snapshot.observe(sample.everything()[0]);
        String::from_utf8(program(&socket).expect("has a program")).unwrap()
    }

    #[test]
    fn the_unit_names_the_program_unless_it_changes_at_every_start() {
        let unit = |name: &str| of(|sample| sample.snapshot.processes[0].unit = Fact::Known(name.into()));
        assert_eq!(unit("nginx.service"), "unit:nginx.service");
        assert_eq!(unit("postgresql@15-main.service"), "unit:postgresql@15-main.service");
        assert_eq!(unit("user@1000.service"), "unit:user@1000.service");
        assert_eq!(unit("sshd@12-10.0.0.1:22-10.0.0.2:50000.service"), "unit:sshd@.service");
        assert_eq!(unit("app-firefox@0123456789abcdef0123456789abcdef.service"), "unit:app-firefox@.service");
        assert_eq!(unit("session-3.scope"), "exe:/usr/sbin/nginx");
        assert_eq!(unit("run-r0c1d2e3f.service"), "exe:/usr/sbin/nginx");
        assert_eq!(unit("run-u12.service"), "exe:/usr/sbin/nginx");
    }

    #[test]
    fn a_container_is_known_by_its_image_without_tag_and_digest() {
        let image = |image: Option<&str>| {
            of(|sample| {
                let process = &mut sample.snapshot.processes[0];
                process.unit = Fact::Known("docker-0123456789abcdef.scope".into());
                process.container = Fact::Known(Container {
                    runtime: "docker".into(),
                    id: "0123456789abcdef".into(),
                    name: Some("web".into()),
                    image: image.map(Text::from),
                });
            })
        };
        assert_eq!(image(Some("registry:5000/team/web:1.2@sha256:00")), "container:registry:5000/team/web ");
        assert_eq!(image(Some("nginx:1.25")), "container:nginx ");
        assert_eq!(image(None), "container:web ");
    }

    #[test]
    fn two_scripts_of_one_interpreter_are_two_programs() {
        let run = |exe: &str, arguments: &[&str]| {
            of(|sample| {
                let process = &mut sample.snapshot.processes[0];
                process.exe = Fact::Known(exe.into());
                process.cmdline = Fact::Known(arguments.iter().map(|each| Text::from(*each)).collect());
            })
        };
        assert_eq!(
            run("/usr/bin/python3.11", &["python3", "-u", "-m", "http.server"]),
            "exe:/usr/bin/python3.11 http.server"
        );
        assert_eq!(
            run("/usr/bin/python3.11", &["python3", "/srv/a.py", "x"]),
            "exe:/usr/bin/python3.11 /srv/a.py"
        );
        assert_eq!(
            run("/usr/bin/java", &["java", "-Xmx1g", "-jar", "/opt/a.jar"]),
            "exe:/usr/bin/java /opt/a.jar"
        );
        assert_eq!(run("/usr/sbin/nginx", &["nginx", "x"]), "exe:/usr/sbin/nginx");
    }

    #[test]
    fn a_socket_unit_stands_for_the_service_that_it_starts() {
        let mut sample = Sample::new();
        sample.process(1, "/usr/lib/systemd/systemd");
        let socket = sample.socket(Protocol::Tcp, State::Listen, "0.0.0.0:22", &[1]);
        socket.activation = Some(Box::new(Activation {
            units: vec!["ssh.socket".into()],
            services: vec!["ssh.service".into()],
        }));
        let socket = sample.snapshot.observe(sample.everything()[0]);
        assert_eq!(program(&socket).unwrap(), b"unit:ssh.service");
    }

    #[test]
    fn of_several_holders_the_choice_does_not_hang_on_pids() {
        let both = |first: &str, second: &str| {
            let mut sample = Sample::new();
            sample.process(10, first);
            sample.process(20, second);
            sample.socket(Protocol::Tcp, State::Listen, "0.0.0.0:22", &[10, 20]);
            program(&sample.snapshot.observe(sample.everything()[0]))
        };
        assert_eq!(both("/usr/bin/a", "/usr/bin/b"), both("/usr/bin/b", "/usr/bin/a"));
    }
}
