//! `[[fix]]`: a setting in a file, or commands, and what takes them back; becomes a remedy.

use toml::de::DeTable;

use super::text::{list, quote};
use crate::rules::reader::{Node, Reader};

pub(crate) const FIX: &[&str] =
    &["title", "file", "match", "set", "append", "restart", "commands", "undo", "verify", "note"];

/// Signs that may stand between the parts of sed's `s`, in the order of preference.
const SEPARATORS: [char; 6] = ['/', '|', ',', '#', '%', '~'];

/// What all remedies of a service have in common.
pub(super) struct Common<'s> {
    pub(super) service: &'s str,
    /// `ss -ltn 'sport = :{port}'`
    pub(super) verify: &'s str,
}

/// One `[[remedy]]` for this fix; `None` when something is wrong with it.
pub(super) fn remedy(reader: &mut Reader, node: &Node<'_>, common: &Common<'_>) -> Option<String> {
    let table = reader.table(node, "fix")?;
    for (key, _) in table.iter().filter(|(key, _)| !FIX.contains(&&**key.get_ref())) {
        reader.unknown_key(key.span(), key.get_ref(), "a fix", FIX.iter().copied());
    }
    let title = match table.get("title") {
        Some(node) => reader.text(node, "title")?.to_owned(),
        None => format!("Let {} listen on loopback only", common.service),
    };
    let (mut commands, mut undo) = edit(reader, node, table)?;
    commands.extend(texts(reader, table, "commands")?);
    undo.extend(texts(reader, table, "undo")?);
    for unit in texts(reader, table, "restart")? {
        commands.push(format!("systemctl restart {unit}"));
        undo.push(format!("systemctl restart {unit}"));
    }
    let verify = match table.get("verify") {
        Some(node) => reader.text(node, "verify")?,
        None => common.verify,
    };
    let mut text = format!("\n[[remedy]]\nkind = \"service\"\ntitle = {}\n", quote(&title));
    if !commands.is_empty() {
        text.push_str(&format!("commands = {}\n", list(&commands)));
    }
    if !undo.is_empty() {
        text.push_str(&format!("undo = {}\n", list(&undo)));
    }
    text.push_str(&format!("verify = {}\n", quote(verify)));
    match table.get("note") {
        Some(node) => text.push_str(&format!("note = {}\n", quote(reader.text(node, "note")?))),
        None if commands.is_empty() => {
            reader.say(
                node.span(),
                "this fix has neither `file`, `commands` nor `note`: it says nothing to do",
            );
        }
        None => {}
    }
    Some(text)
}

/// Commands that write the setting, and those that take it back.
fn edit(reader: &mut Reader, node: &Node<'_>, table: &DeTable<'_>) -> Option<(Vec<String>, Vec<String>)> {
    let Some(file) = table.get("file") else {
        for key in ["match", "set", "append"] {
            if let Some((key, _)) = table.get_key_value(key) {
                reader.say(key.span(), format!("`{}` without `file`", key.get_ref()));
            }
        }
        return Some((Vec::new(), Vec::new()));
    };
    let path = reader.text(file, "file")?;
    if !path.starts_with('/') || path.contains(|c: char| c.is_whitespace() || "'\"$`\\;&|<>".contains(c)) {
        reader.say(file.span(), "`file` is a whole path without blanks and signs of the shell");
        return None;
    }
    let Some(set) = table.get("set") else {
        reader.say(node.span(), "this fix names a `file`, but nothing to `set` in it");
        return None;
    };
    let set = reader.text(set, "set")?;
    let append = match table.get("append") {
        Some(node) => reader.flag(node, "append")?,
        None => false,
    };
    let lines: Vec<String> = set.trim_end().lines().map(|line| format!("'{}'", shell(line))).collect();
    let back = format!("mv {path}.sockwarden {path}");
    if let Some(wanted) = table.get("match") {
        if append {
            reader.say(wanted.span(), "either `match` or `append`: one replaces a line, one adds some");
            return None;
        }
        let wanted = reader.text(wanted, "match")?;
        let new = set.trim_end().replace('\\', r"\\").replace('&', r"\&").replace('\n', r"\n");
        let Some(sign) = SEPARATORS.into_iter().find(|sign| !wanted.contains(*sign) && !new.contains(*sign))
        else {
            reader.say(
                node.span(),
                "`match` and `set` use every sign that could stand between them: write `commands`",
            );
            return None;
        };
        let script = shell(&format!("s{sign}^{wanted}${sign}{new}{sign}"));
        return Some((vec![format!("sed -i.sockwarden -E '{script}' {path}")], vec![back]));
    }
    if append {
        return Some((
            vec![
                format!("cp -a {path} {path}.sockwarden"),
                format!("printf '%s\\n' {} >> {path}", lines.join(" ")),
            ],
            vec![back],
        ));
    }
    let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
    let mut commands = Vec::new();
    let mut undo = vec![format!("rm {path}")];
    if folder.ends_with(".d") {
        commands.push(format!("mkdir -p {folder}"));
    }
    commands.push(format!("printf '%s\\n' {} > {path}", lines.join(" ")));
    if path.starts_with("/etc/systemd/") {
        commands.push("systemctl daemon-reload".to_owned());
        undo.push("systemctl daemon-reload".to_owned());
    }
    Some((commands, undo))
}

/// Text within single quotes of the shell.
fn shell(text: &str) -> String {
    text.replace('\'', r"'\''")
}

fn texts(reader: &mut Reader, table: &DeTable<'_>, what: &str) -> Option<Vec<String>> {
    let Some(node) = table.get(what) else { return Some(Vec::new()) };
    let nodes = reader.list(node, what);
    nodes.into_iter().map(|each| reader.text(each, what).map(str::to_owned)).collect()
}

/// The remedy that any service with a unit has.
pub(super) fn off(units: &[String], common: &Common<'_>) -> String {
    let units = units.join(" ");
    format!(
        "\n[[remedy]]\nkind = \"service\"\ntitle = {}\ncommands = [{}]\nundo = [{}]\nverify = {}\n",
        quote(&format!("Switch {} off if nothing needs it", common.service)),
        quote(&format!("systemctl disable --now {units}")),
        quote(&format!("systemctl enable --now {units}")),
        quote(common.verify),
    )
}
