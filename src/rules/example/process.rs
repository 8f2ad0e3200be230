//! `process`: who holds a socket.

use toml::Spanned;
use toml::de::DeTable;

use super::{Builder, check_keys};
use crate::model::{Ancestor, Container, ExeState, Fact, How, Process, ProcessId, Text};
use crate::rules::facts::{Value, script as script_of};
use crate::rules::reader::shorten;
use crate::rules::schema::CAPABILITIES;

pub(super) const PROCESS: &[&str] = &[
    "name",
    "program",
    "script",
    "exe",
    "exe_state",
    "cmdline",
    "cwd",
    "user",
    "uid",
    "euid",
    "capabilities",
    "unit",
    "container",
    "package",
    "parents",
    "stdin",
    "stdout",
    "stderr",
    "pid",
    "how",
];

impl Builder<'_> {
    pub(super) fn process(&mut self, fields: &DeTable<'_>) -> Option<(ProcessId, How)> {
        // A program without a path stands where Debian puts programs; a name follows from it.
        let exe =
            self.text(fields, "exe").or_else(|| Some(format!("/usr/bin/{}", self.text(fields, "program")?)));
        let last = exe.as_deref().and_then(|exe| exe.rsplit('/').next()).filter(|last| *last != "none");
        let name = self
            .text(fields, "name")
            .or_else(|| last.map(str::to_owned))
            .unwrap_or_else(|| "program".to_owned());
        let count = u32::try_from(self.snapshot.processes.len()).ok()?;
        let pid = self.number(fields, "pid", u32::MAX.into()).and_then(|pid| u32::try_from(pid).ok());
        let name = &name.as_bytes()[..name.len().min(15)];
        let mut process = Process::new(pid.unwrap_or(1000 + count), 100, Text::from(name), 1);
        process.exe = match exe.as_deref() {
            None => Fact::Unknown,
            Some("none") => Fact::Absent,
            Some(exe) => Fact::Known(exe.into()),
        };
        let states: Vec<_> = ExeState::ALL.iter().map(|state| (state.name(), *state)).collect();
        process.exe_state = self.choice(fields, "exe_state", &states).unwrap_or(ExeState::Unknown);
        process.cmdline = self.texts(fields, "cmdline");
        self.script(fields, &mut process);
        process.cwd = self.fact(fields, "cwd");
        process.user = self.fact(fields, "user");
        let id = |number: Option<u64>| {
            number.and_then(|id| u32::try_from(id).ok()).map_or(Fact::Unknown, Fact::Known)
        };
        process.uid = id(self.number(fields, "uid", u32::MAX.into()));
        process.euid = id(self.number(fields, "euid", u32::MAX.into()));
        process.capabilities = self.capabilities(fields);
        process.unit = self.fact(fields, "unit");
        process.package = self.fact(fields, "package");
        process.container = self.container(fields);
        process.parents = match self.texts(fields, "parents") {
            Fact::Known(names) => {
                Fact::Known(names.into_iter().zip(2..).map(|(name, pid)| Ancestor { pid, name }).collect())
            }
            Fact::Absent => Fact::Absent,
            Fact::Unknown => Fact::Unknown,
        };
        for (slot, key) in process.stdio.0.iter_mut().zip(["stdin", "stdout", "stderr"]) {
            *slot = self.fact(fields, key);
        }
        let hows: Vec<_> = How::ALL.iter().map(|how| (how.name(), *how)).collect();
        let how = self.choice(fields, "how", &hows).unwrap_or(How::Fd);
        self.snapshot.processes.push(process);
        Some((ProcessId(count), how))
    }

    /// What an interpreter runs is told by its command line.
    pub(super) fn script(&mut self, fields: &DeTable<'_>, process: &mut Process) {
        let (Some(node), Some(script)) = (fields.get("script"), self.text(fields, "script")) else { return };
        if script != "none" && process.cmdline.is_unknown() {
            process.cmdline = Fact::Known(vec![process.name.clone(), script.as_str().into()]);
        }
        // A program that is no interpreter has no script, whatever the example was made from.
        if let Value::Text(found) = script_of(process)
            && found != script.as_bytes()
        {
            let help =
                format!("the command line runs `{}`: change both", shorten(&String::from_utf8_lossy(found)));
            self.reader.advise(node.span(), "the command line of this process runs another script", help);
        }
    }

    /// `this-socket` and `socket`, now that the sockets have inodes.
    pub(super) fn streams(&mut self) {
        let inode = self.snapshot.sockets.first().map_or(0, |socket| socket.inode);
        for process in &mut self.snapshot.processes {
            for slot in &mut process.stdio.0 {
                let link = match slot.known().and_then(Text::as_str) {
                    Some("this-socket") => format!("socket:[{inode}]"),
                    Some("socket") => "socket:[999999]".to_owned(),
                    Some(_) | None => continue,
                };
                *slot = Fact::Known(link.into());
            }
        }
    }

    pub(super) fn container(&mut self, fields: &DeTable<'_>) -> Fact<Container> {
        let Some(node) = fields.get("container") else { return Fact::Unknown };
        if node.get_ref().as_str() == Some("none") {
            return Fact::Absent;
        }
        let Some(inner) = self.reader.table(node, "container") else { return Fact::Unknown };
        check_keys(self.reader, inner, "a container", &["runtime", "id", "name", "image"]);
        Fact::Known(Container {
            runtime: self.text(inner, "runtime").unwrap_or_else(|| "docker".to_owned()),
            id: self.text(inner, "id").unwrap_or_else(|| "0123456789abcdef".to_owned()).into(),
            name: self.text(inner, "name").map(Text::from),
            image: self.text(inner, "image").map(Text::from),
        })
    }

    pub(super) fn capabilities(&mut self, fields: &DeTable<'_>) -> Fact<u64> {
        match self.texts(fields, "capabilities") {
            Fact::Known(names) => {
                let mut bits = 0;
                for name in names.iter().filter_map(Text::as_str) {
                    match CAPABILITIES.iter().position(|known| *known == name) {
                        Some(bit) => bits |= 1 << bit,
                        None => {
                            let span = fields.get("capabilities").map_or(0..0, Spanned::span);
                            self.reader.unknown_word(span, name, "capability", CAPABILITIES.iter().copied());
                        }
                    }
                }
                Fact::Known(bits)
            }
            Fact::Absent => Fact::Known(0),
            Fact::Unknown => Fact::Unknown,
        }
    }
}
