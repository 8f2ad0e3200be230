//! A rule from what is seen: the service file of one running socket, sound from the first line on.

use super::facts::{Value, last_part, port, script, unit_of};
use super::service::text::{list, quote};
use crate::model::{Fact, Observation, Process, Protocol, Reach, Role, Text};

/// The text of a service file for this socket.
///
/// # Errors
/// In words, when it is no socket of a service: one that takes connections or datagrams on a port.
pub fn draft(observation: Observation<'_>) -> Result<String, String> {
    let socket = observation.socket;
    let protocol = socket.protocol;
    if !matches!(protocol, Protocol::Tcp | Protocol::Mptcp | Protocol::Udp) {
        return Err(format!("a service has a TCP or UDP port; this is a {} socket", protocol.name()));
    }
    let key = if protocol == Protocol::Udp { "udp" } else { "tcp" };
    if !matches!(socket.role, Role::Listener | Role::Receiver) {
        return Err("nothing new gets in through this socket: a service listens or receives".to_owned());
    }
    let Some(port) = port(&socket.local).filter(|port| *port > 0) else {
        return Err("this socket has no port".to_owned());
    };
    let Some(owner) = observation.owners().next() else {
        return Err("nobody is seen to hold it: run this as root".to_owned());
    };
    let process = owner.process;
    let name = plain(&process.name).ok_or("the name of its process is not plain text")?;
    let program = match &process.exe {
        Fact::Known(exe) => plain(&Text::from(last_part(exe.as_bytes()))),
        Fact::Unknown | Fact::Absent => None,
    };
    let runs = if let Value::Text(script) = script(process) { plain(&Text::from(script)) } else { None };
    // Between brackets of a glob a sign stands for itself.
    let word = |text: &str| {
        text.chars()
            .map(|c| if "*?[]".contains(c) { format!("[{c}]") } else { c.to_string() })
            .collect::<String>()
    };
    let known = match (&program, &runs) {
        (Some(program), Some(script)) => {
            format!("{{ program = {}, script = {} }}", quote(&word(program)), quote(&word(script)))
        }
        (Some(program), None) => quote(&word(program)),
        (None, _) => quote(&word(&name)),
    };
    let mut facts = vec![format!("name = {}", quote(&name))];
    if let Some(program) = &program {
        facts.push(format!("exe = {}", quote(&format!("/usr/bin/{program}"))));
    }
    if let Some(words) = runs.as_deref().and_then(|script| cmdline(process, script)) {
        facts.push(format!("cmdline = {}", list(&words)));
    }
    let unit = unit_of(observation, process).and_then(plain).filter(|unit| unit.ends_with(".service"));
    let reach = socket.exposure.as_ref().map_or(Reach::Internet, |exposure| exposure.reach);
    let fix = match &unit {
        Some(unit) => format!("units = [{}]\n", quote(unit)),
        None => String::new(),
    };
    let (name_words, why) = (quote(&name), "Say here in two sentences what whoever reaches it can do.");
    Ok(format!(
        "#:schema service.schema.json\n\
         # Made from {}; its reach was {}.\n\
         service = {name_words}\n{key} = [{port}]\nprograms = [{known}]\n{fix}\
         sensitivity = \"admin\" # what it gives away: see rules/README.md\nwhy = {}\nreferences = [\"attack:T1133\"]\n\n\
         [[fix]]\nnote = {}\n\n\
         [[fires]]\nname = \"on all addresses\"\nsocket = {{ local = \"0.0.0.0:{port}\", reach = \"internet\" }}\nprocess = {{ {} }}\n\n\
         [[quiet]]\nname = \"on loopback only\"\nchange.socket = {{ local = \"127.0.0.1:{port}\", reach = \"host\" }}\n",
        super::evidence::message(observation, Some(owner)).replace(['\n', '\r'], " "),
        reach.name(),
        quote(why),
        quote(&format!("Say here which setting makes {name} listen on 127.0.0.1 only.")),
        facts.join(", "),
    ))
}

/// The command line up to the script: what follows may be a secret.
fn cmdline(process: &Process, script: &str) -> Option<Vec<String>> {
    let Fact::Known(words) = &process.cmdline else { return None };
    let words = words.iter().take(20).map(plain).collect::<Option<Vec<String>>>()?;
    let last = words.iter().position(|word| word == script || word.ends_with(&format!("/{script}")))?;
    Some(words[..=last].to_vec())
}

/// Text that a file may hold as it is.
fn plain(text: &Text) -> Option<String> {
    let text = text.as_str()?;
    let sound = !text.is_empty() && text.len() <= 200 && !text.chars().any(char::is_control);
    sound.then(|| text.to_owned())
}
