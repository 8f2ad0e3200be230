//! Alerts on the desktop: lines of `watch --json` in, few and calm notifications out.
//!
//! Holds no rights and changes nothing on the system: a button opens a terminal with words to read,
//! or quiets this user's own alerts. What is not answered waits; nothing that times out is an answer.

#![forbid(unsafe_code)]

#[cfg(feature = "desktop")]
mod desktop;
mod line;
mod memory;
mod throttle;

#[cfg(feature = "desktop")]
use std::io;
use std::path::PathBuf;
#[cfg(feature = "desktop")]
use std::sync::mpsc::channel;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime};

pub use line::{Item, News, read};
pub use memory::{FINE_FOR, Memory};
pub use throttle::{DIGEST, Note, Throttle};

use crate::finding::Severity;

/// How long "Snooze" holds, in milliseconds.
const SNOOZE: u64 = 3_600_000;
/// After a failure the server is asked again, at first after this, in the end every minute.
const RETRY: (u64, u64) = (1_000, 60_000);
/// What was told or answered is on disk after at most this, in milliseconds.
const SAVE_AFTER: u64 = 500;
/// A server that is silent for so long is spoken of, in milliseconds.
const SILENT: u64 = 10_000;

/// What comes to the agent.
#[derive(Debug)]
pub enum Input {
    /// A line of `watch --json`.
    Line(String),
    /// What became of a note.
    Reply(Reply),
    /// No more will come.
    End,
}

/// What comes back from the screen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    Shown {
        program: String,
        id: u32,
    },
    Failed {
        program: String,
        why: String,
    },
    Pressed {
        id: u32,
        button: Button,
    },
    Closed(u32),
    /// The way to the server was lost: what is on the screen has to be said again, in its place.
    Stale,
    /// The server has ended or changed: nothing is on the screen.
    Blank,
}

/// What can be pressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Button {
    Why,
    Fix,
    Snooze,
    Fine,
}

impl Button {
    pub const ALL: &'static [Self] = &[Self::Why, Self::Fix, Self::Snooze, Self::Fine];

    pub fn key(self) -> &'static str {
        match self {
            Self::Why => "why",
            Self::Fix => "fix",
            Self::Snooze => "snooze",
            Self::Fine => "fine",
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::Why => "Why",
            Self::Fix => "Show fix",
            Self::Snooze => "Snooze",
            Self::Fine => "It's fine",
        }
    }

    /// A click on the notification itself asks why.
    pub fn from_key(key: &str) -> Option<Self> {
        let named = Self::ALL.iter().copied().find(|button| button.key() == key);
        named.or((key == "default").then_some(Self::Why))
    }
}

/// What the agent cannot do by itself.
pub trait Host: Send {
    /// Puts one note on the screen; its fate comes back as a [`Reply`]. False when busy.
    fn show(&mut self, note: Note) -> bool;

    /// Opens `sockwarden` with these arguments in a terminal.
    fn open(&mut self, arguments: &[String]);

    /// Something that the user should know, beside the notifications.
    fn say(&mut self, text: &str);

    /// What became of a note.
    fn heard(&mut self, _reply: &Reply) {}
}

/// How to alert.
#[derive(Clone, Debug)]
pub struct Options {
    /// Findings from this severity on.
    pub least: Severity,
    /// Where the memory is; `None` for none that lasts.
    pub memory: Option<PathBuf>,
}

/// Lines in, notes out.
pub struct Agent {
    least: Severity,
    memory: Memory,
    throttle: Throttle,
    /// Nothing was ever told: what stands at the first start is learned, not told.
    learning: bool,
    began: Instant,
    /// Since when a note is under way, and whether that was spoken of.
    busy: Option<(u64, bool)>,
    retry: Option<(u64, u64)>,
    unsaved: Option<u64>,
}

impl Agent {
    pub fn new(options: &Options) -> Self {
        let mut memory = Memory::open(options.memory.clone());
        let mut throttle = Throttle::default();
        // What waited at the last logout waits on, and is shown.
        for kept in std::mem::take(&mut memory.waiting) {
            throttle.add(0, kept.into());
        }
        Self {
            least: options.least,
            learning: memory.is_new(),
            memory,
            throttle,
            began: Instant::now(),
            busy: None,
            retry: None,
            unsaved: None,
        }
    }

    /// Runs until the input ends.
    pub fn run(mut self, inbox: &Receiver<Input>, host: &mut dyn Host) {
        loop {
            let now = self.now();
            let patience = self
                .next_at(now)
                .map_or(Duration::from_secs(60), |at| Duration::from_millis(at.saturating_sub(now).max(1)));
            match inbox.recv_timeout(patience) {
                Ok(Input::Line(line)) => self.line(&line),
                Ok(Input::Reply(reply)) => self.reply(reply, host),
                Ok(Input::End) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.act(host);
        }
        self.save(host);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn next_at(&self, now: u64) -> Option<u64> {
        let show = match (self.busy, self.retry) {
            (Some((since, spoken)), _) => (!spoken).then_some(since + SILENT),
            (None, Some((at, _))) => self.throttle.next_at(now).map(|next| next.max(at)),
            (None, None) => self.throttle.next_at(now),
        };
        let save = self.unsaved.map(|since| since + SAVE_AFTER);
        show.into_iter().chain(save).min()
    }

    fn line(&mut self, line: &str) {
        let (now, seconds) = (self.now(), epoch());
        match read(line, self.least) {
            Some(News::Come { item, standing }) => {
                let is_listener = item.key.starts_with("listener ");
                let news = self.memory.meet(seconds, &item);
                // Findings that stand are told of even then; listeners are learned.
                if news && !(standing && is_listener && self.learning) {
                    self.throttle.add(now, item);
                }
                self.learning &= standing;
            }
            Some(News::Gone(key)) => {
                self.memory.gone(seconds, &key);
                self.throttle.remove(&key);
            }
            None => return,
        }
        self.unsaved.get_or_insert(now);
    }

    fn reply(&mut self, reply: Reply, host: &mut dyn Host) {
        host.heard(&reply);
        let now = self.now();
        match reply {
            Reply::Shown { program, id } => {
                self.throttle.shown(&program, id);
                (self.busy, self.retry) = (None, None);
            }
            Reply::Failed { program, why } => {
                self.throttle.failed(now, &program);
                self.busy = None;
                let pause = match self.retry {
                    Some((_, pause)) => (pause * 2).min(RETRY.1),
                    None => {
                        host.say(&format!(
                            "no notification server answers ({why}): what there is to tell waits until one does"
                        ));
                        RETRY.0
                    }
                };
                self.retry = Some((now + pause, pause));
            }
            Reply::Closed(id) => self.throttle.closed(id),
            Reply::Stale => self.throttle.repeat(now),
            Reply::Blank => self.throttle.blank(now),
            Reply::Pressed { id, button } => {
                let Some(program) = self.throttle.program_of(id).map(str::to_owned) else { return };
                self.press(&program, button, host);
            }
        }
    }

    fn press(&mut self, program: &str, button: Button, host: &mut dyn Host) {
        let now = self.now();
        let worst = self.throttle.items(Some(program)).max_by_key(|item| item.severity).cloned();
        match button {
            Button::Why => {
                let target = worst.and_then(|item| item.target);
                let review = || vec!["alert".to_owned(), "--review".to_owned()];
                host.open(&target.map_or_else(review, |target| vec!["why".to_owned(), target]));
            }
            Button::Fix => {
                self.save(host);
                let words = ["alert", "--review", "--fix"].map(str::to_owned);
                host.open(&[&words[..], &[format!("--program={program}")]].concat());
            }
            Button::Snooze => self.throttle.snooze(program, now + SNOOZE),
            Button::Fine => {
                let items = self.throttle.answered(program);
                self.memory.fine(epoch(), &items);
                self.unsaved = Some(now);
            }
        }
    }

    fn act(&mut self, host: &mut dyn Host) {
        let now = self.now();
        if self.unsaved.is_some_and(|since| now >= since + SAVE_AFTER) {
            self.save(host);
        }
        if let Some((since, spoken)) = self.busy {
            if !spoken && now >= since + SILENT {
                self.busy = Some((since, true));
                host.say("the notification server does not answer: what there is to tell waits");
            }
            return;
        }
        if self.retry.is_some_and(|(at, _)| now < at) {
            return;
        }
        if let Some(note) = self.throttle.next(now) {
            let program = note.program.clone();
            if host.show(note) {
                self.busy = Some((now, false));
            } else {
                self.throttle.failed(now, &program);
            }
        }
    }

    fn save(&mut self, host: &mut dyn Host) {
        self.unsaved = None;
        if let Err(error) = self.memory.save(self.throttle.items(None)) {
            host.say(&format!("what was told cannot be remembered: {error}"));
        }
    }
}

/// The agent in a thread of its own, with a real screen.
#[derive(Debug)]
pub struct Running {
    inbox: Sender<Input>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    /// # Errors
    /// When no thread can be started.
    #[cfg(feature = "desktop")]
    pub fn start(options: &Options, buttons: bool, say: fn(&str)) -> io::Result<Self> {
        Self::overheard(options, buttons, say, None)
    }

    /// The same, and what becomes of each note is told to somebody.
    ///
    /// # Errors
    /// When no thread can be started.
    #[cfg(feature = "desktop")]
    pub fn overheard(
        options: &Options,
        buttons: bool,
        say: fn(&str),
        told: Option<Sender<Reply>>,
    ) -> io::Result<Self> {
        let (inbox, outbox) = channel();
        let screen = desktop::Screen::open(buttons, inbox.clone())?;
        let agent = Agent::new(options);
        let run = move || agent.run(&outbox, &mut Desktop { screen, say, told });
        let thread = std::thread::Builder::new().name("alerts".to_owned()).spawn(run)?;
        Ok(Self { inbox, thread: Some(thread) })
    }

    pub fn tell(&self, line: String) {
        // It only ends when it is told to.
        let _ = self.inbox.send(Input::Line(line));
    }

    /// Lets it write down what it knows, but does not wait for a screen.
    pub fn end(mut self) {
        let _ = self.inbox.send(Input::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(feature = "desktop")]
struct Desktop {
    screen: desktop::Screen,
    say: fn(&str),
    told: Option<Sender<Reply>>,
}

#[cfg(feature = "desktop")]
impl Host for Desktop {
    fn show(&mut self, note: Note) -> bool {
        self.screen.show(note)
    }

    fn open(&mut self, arguments: &[String]) {
        if let Err(error) = terminal(arguments) {
            (self.say)(&format!("no terminal can be opened ({error}): sockwarden {}", arguments.join(" ")));
        }
    }

    fn say(&mut self, text: &str) {
        (self.say)(text);
    }

    fn heard(&mut self, reply: &Reply) {
        if let Some(told) = &self.told {
            // Whoever asked may have heard enough.
            let _ = told.send(reply.clone());
        }
    }
}

/// Opens ourselves in the first terminal there is. No value becomes part of a shell's text: the
/// shell that waits for a key gets them as arguments.
#[cfg(feature = "desktop")]
fn terminal(arguments: &[String]) -> io::Result<()> {
    use std::process::{Command, Stdio};
    const WAITS: &str = "\"$@\"; printf '\\n(Enter closes this window)'; read -r _";
    let chosen = std::env::var_os("TERMINAL").filter(|name| !name.is_empty());
    let usual =
        ["x-terminal-emulator", "xdg-terminal-exec", "gnome-terminal", "konsole", "xfce4-terminal", "xterm"];
    let ourselves = std::env::current_exe()?;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for program in chosen.into_iter().chain(usual.map(Into::into)) {
        let separator: &[&str] = match program.to_str() {
            Some("gnome-terminal") => &["--"],
            Some("xdg-terminal-exec") => &[],
            Some(_) | None => &["-e"],
        };
        let mut command = Command::new(&program);
        command.args(separator).args(["sh", "-c", WAITS, "sh"]).arg(&ourselves).args(arguments);
        match command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(mut child) => {
                // Somebody has to wait for it.
                std::thread::Builder::new().spawn(move || child.wait())?;
                return Ok(());
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn epoch() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.ok().and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or_default()
}
