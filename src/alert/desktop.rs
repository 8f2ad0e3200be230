//! The notification server of the desktop, in a thread of its own: however slow, dead or absent it
//! is, nobody else waits for it.

use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};

use super::throttle::Note;
use super::{Input, Reply};
use crate::finding::Severity;

const NAME: &str = "sockwarden";

/// The way to the screen. One note at a time is under way.
#[derive(Debug)]
pub(crate) struct Screen(SyncSender<Note>);

impl Screen {
    /// `buttons`: with those that the server can show; needs somebody who answers.
    pub(crate) fn open(buttons: bool, inbox: Sender<Input>) -> std::io::Result<Self> {
        let (sender, notes) = sync_channel(1);
        std::thread::Builder::new()
            .name("notifications".to_owned())
            .spawn(move || serve(&notes, &inbox, buttons))?;
        Ok(Self(sender))
    }

    /// False when a note is under way already.
    pub(crate) fn show(&self, note: Note) -> bool {
        self.0.try_send(note).is_ok()
    }
}

fn serve(notes: &Receiver<Note>, inbox: &Sender<Input>, buttons: bool) {
    let mut server = Server::new(buttons);
    for note in notes {
        let program = note.program.clone();
        let reply = match server.show(&note, inbox) {
            Ok(id) => Reply::Shown { program, id },
            Err(why) => Reply::Failed { program, why },
        };
        if inbox.send(Input::Reply(reply)).is_err() {
            return;
        }
    }
}

/// Markup of the desktop notification specification: `&`, `<` and `>` of names are shown, not
/// followed.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

fn body(note: &Note, markup: bool) -> String {
    let lines: Vec<String> =
        note.lines.iter().map(|line| if markup { escape(line) } else { line.clone() }).collect();
    lines.join("\n")
}

/// 0 low, 1 normal, 2 critical: that one stays until somebody takes it away.
pub(crate) fn urgency(severity: Severity) -> u8 {
    match severity {
        Severity::Critical => 2,
        Severity::High | Severity::Medium => 1,
        Severity::Low | Severity::Info => 0,
    }
}

/// Without buttons, or where the server has none: through notify-rust, which knows macOS and Windows
/// as well.
fn show_plainly(note: &Note, markup: bool) -> Result<u32, String> {
    let mut plain = notify_rust::Notification::new();
    plain.appname(NAME).summary(&note.title).body(&body(note, markup)).urgency(
        match urgency(note.severity) {
            0 => notify_rust::Urgency::Low,
            1 => notify_rust::Urgency::Normal,
            _ => notify_rust::Urgency::Critical,
        },
    );
    #[cfg(all(unix, not(target_os = "macos")))]
    {
        if let Some(id) = note.replaces {
            plain.id(id);
        }
        plain.show().map(|shown| shown.id()).map_err(|error| error.to_string())
    }
    #[cfg(not(all(unix, not(target_os = "macos"))))]
    {
        plain.show().map(|_| 0).map_err(|error| error.to_string())
    }
}

#[cfg(not(target_os = "linux"))]
struct Server;

#[cfg(not(target_os = "linux"))]
impl Server {
    fn new(_buttons: bool) -> Self {
        Self
    }

    fn show(&mut self, note: &Note, _inbox: &Sender<Input>) -> Result<u32, String> {
        show_plainly(note, false)
    }
}

#[cfg(target_os = "linux")]
use bus::Server;

#[cfg(target_os = "linux")]
mod bus {
    use std::collections::HashMap;
    use std::num::NonZero;
    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::Duration;

    use zbus::Variant;
    use zbus::export::ordered_stream::OrderedStreamExt as _;
    use zbus::message::Type;
    use zbus::{Connection, MatchRule, MessageStream};

    use super::{Input, NAME, Note, Reply, Sender, body, show_plainly, urgency};
    use crate::alert::Button;

    /// How long the server may take for one answer.
    const PATIENCE: Duration = Duration::from_secs(5);
    const SERVER: &str = "org.freedesktop.Notifications";
    const PATH: &str = "/org/freedesktop/Notifications";
    /// Signals that wait to be read.
    const SIGNALS: NonZero<usize> = NonZero::new(256).expect("not zero");

    /// What is known of the server, once asked.
    struct Known {
        markup: bool,
        /// Only where it shows buttons and somebody asked for them.
        bus: Option<Bus>,
    }

    pub(super) struct Server {
        buttons: bool,
        known: Option<Known>,
    }

    impl Server {
        pub(super) fn new(buttons: bool) -> Self {
            Self { buttons, known: None }
        }

        pub(super) fn show(&mut self, note: &Note, inbox: &Sender<Input>) -> Result<u32, String> {
            if self.known.is_none() {
                self.known = Some(self.ask(inbox)?);
            }
            let Some(known) = &self.known else { return Err("the server was not asked".to_owned()) };
            let shown = match &known.bus {
                Some(bus) if note.buttons => {
                    bus.notify(note, known.markup).map_err(|error| error.to_string())
                }
                Some(_) | None => show_plainly(note, known.markup),
            };
            if shown.is_err() {
                // The next one asks anew: it may be another server by then. Presses on what is on the
                // screen would come by the way that is given up here.
                let listened = self.known.take().is_some_and(|known| known.bus.is_some());
                if listened {
                    let _ = inbox.send(Input::Reply(Reply::Stale));
                }
            }
            shown
        }

        /// What the server can do, before anything is shown.
        fn ask(&self, inbox: &Sender<Input>) -> Result<Known, String> {
            let bus = Bus::open().map_err(|error| error.to_string())?;
            let can = bus.capabilities().map_err(|error| error.to_string())?;
            let has = |name: &str| can.iter().any(|each| each == name);
            let (markup, actions) = (has("body-markup"), has("actions"));
            if self.buttons && actions {
                bus.listen(inbox.clone()).map_err(|error| error.to_string())?;
                return Ok(Known { markup, bus: Some(bus) });
            }
            Ok(Known { markup, bus: None })
        }
    }

    /// Our own connection: servers send signals only to the one that sent the notification.
    struct Bus {
        connection: Connection,
        /// The unique name of the server that answered last: nobody else's signals count.
        server: Arc<Mutex<String>>,
    }

    impl Bus {
        fn open() -> zbus::Result<Self> {
            let connection = zbus::block_on(async {
                zbus::connection::Builder::session().method_timeout(PATIENCE).build().await
            })?;
            Ok(Self { connection, server: Arc::default() })
        }

        fn capabilities(&self) -> zbus::Result<Vec<String>> {
            zbus::block_on(async {
                let call =
                    self.connection.call_method(Some(SERVER), PATH, Some(SERVER), "GetCapabilities", &());
                let answer = call.await?;
                self.note(&answer);
                answer.body().deserialize()
            })
        }

        fn note(&self, answer: &zbus::Message) {
            if let Some(sender) = answer.header().sender() {
                *self.server.lock().unwrap_or_else(PoisonError::into_inner) = sender.to_string();
            }
        }

        /// Listens before anything is shown, so that no press is missed.
        fn listen(&self, inbox: Sender<Input>) -> zbus::Result<()> {
            let connection = self.connection.clone();
            let (pressed, owner) = zbus::block_on(async {
                let pressed =
                    MatchRule::builder().msg_type(Type::Signal).interface(SERVER).path(PATH).build()?;
                let owner = MatchRule::builder()
                    .msg_type(Type::Signal)
                    .interface("org.freedesktop.DBus")
                    .member("NameOwnerChanged")
                    .arg(0, SERVER)
                    .build()?;
                zbus::Result::Ok((
                    MessageStream::for_match_rule(pressed, &connection, Some(SIGNALS)).await?,
                    MessageStream::for_match_rule(owner, &connection, Some(SIGNALS)).await?,
                ))
            })?;
            let (server, blank) = (Arc::clone(&self.server), inbox.clone());
            spawn("notification-signals", pressed, move |message| {
                let known = server.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if message.header().sender().is_none_or(|sender| sender.as_str() != known) {
                    return true;
                }
                understand(&message).is_none_or(|reply| inbox.send(Input::Reply(reply)).is_ok())
            })?;
            spawn("notification-owner", owner, move |_| blank.send(Input::Reply(Reply::Blank)).is_ok())
        }

        fn notify(&self, note: &Note, markup: bool) -> zbus::Result<u32> {
            // A click on the notification itself asks why.
            let default = ["default", Button::Why.label()];
            let named = Button::ALL.iter().flat_map(|button| [button.key(), button.label()]);
            let actions: Vec<&str> = default.into_iter().chain(named).collect();
            let hints: HashMap<&str, Variant<'_>> = HashMap::from([
                ("urgency", Variant::from(urgency(note.severity))),
                ("category", Variant::from("network")),
                ("desktop-entry", Variant::from(NAME)),
            ]);
            let text = body(note, markup);
            let arguments = (
                NAME,
                note.replaces.unwrap_or(0),
                "",
                note.title.as_str(),
                text.as_str(),
                actions,
                hints,
                -1_i32,
            );
            zbus::block_on(async {
                let call =
                    self.connection.call_method(Some(SERVER), PATH, Some(SERVER), "Notify", &arguments);
                let answer = call.await?;
                self.note(&answer);
                answer.body().deserialize()
            })
        }
    }

    impl Drop for Bus {
        /// Ends the threads that listen, too.
        fn drop(&mut self) {
            let _ = zbus::block_on(self.connection.clone().close());
        }
    }

    /// Hands every message on until there are no more, or nobody wants them.
    fn spawn(
        name: &str,
        mut stream: MessageStream,
        mut take: impl FnMut(zbus::Message) -> bool + Send + 'static,
    ) -> zbus::Result<()> {
        let run = move || {
            zbus::block_on(async {
                while let Some(Ok(message)) = stream.next().await {
                    if !take(message) {
                        return;
                    }
                }
            });
        };
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .map_err(|error| zbus::Error::from(std::io::Error::other(error)))?;
        Ok(())
    }

    fn understand(message: &zbus::Message) -> Option<Reply> {
        let header = message.header();
        match header.member()?.as_str() {
            "ActionInvoked" => {
                let (id, key): (u32, String) = message.body().deserialize().ok()?;
                Some(Reply::Pressed { id, button: Button::from_key(&key)? })
            }
            "NotificationClosed" => {
                let (id, _reason): (u32, u32) = message.body().deserialize().ok()?;
                Some(Reply::Closed(id))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_markup() {
        assert_eq!(
            escape("<b onload='x'>&amp;\"</b>"),
            "&lt;b onload=&apos;x&apos;&gt;&amp;amp;&quot;&lt;/b&gt;"
        );
    }
}
