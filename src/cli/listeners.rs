//! Who hears of a change beside the terminal: the desktop, and subscribers of the socket.

use super::session::Session;
use super::watch::{Args, events};
use crate::output::{self, Event, Format, Style};
use crate::watch::Batch;

/// Each of them may be absent.
#[derive(Default)]
pub(crate) struct Listeners {
    #[cfg(feature = "desktop")]
    desktop: Option<crate::alert::Running>,
    #[cfg(unix)]
    publisher: Option<Published>,
}

#[cfg(unix)]
struct Published {
    publisher: crate::watch::publish::Publisher,
    /// The socket goes with us, interrupted or not.
    _pending: super::interrupt::Pending,
}

impl Listeners {
    pub(crate) fn open(args: &Args, session: &Session) -> anyhow::Result<Self> {
        #[allow(unused_mut, reason = "a build without both has nothing to fill in")]
        let mut listeners = Self::default();
        #[cfg(feature = "desktop")]
        if args.notify {
            let options = options(session, None);
            listeners.desktop = Some(crate::alert::Running::start(&options, false, say)?);
        }
        #[cfg(unix)]
        if let Some(path) = &args.publish {
            use anyhow::Context as _;
            let publisher = crate::watch::publish::Publisher::open(path)
                .with_context(|| format!("cannot publish at {}", super::settings::shown(path)))?;
            let path = path.clone();
            let pending = super::interrupt::Pending::new(move || drop(std::fs::remove_file(path)));
            listeners.publisher = Some(Published { publisher, _pending: pending });
        }
        let _ = (args, session);
        Ok(listeners)
    }

    /// News for all who listen.
    pub(crate) fn tell(&mut self, batch: &Batch) {
        #[cfg(feature = "desktop")]
        if let Some(desktop) = &self.desktop {
            events(batch).for_each(|event| desktop.tell(json(&event)));
        }
        #[cfg(unix)]
        if let Some(Published { publisher, .. }) =
            self.publisher.as_mut().filter(|each| each.publisher.has_subscribers())
        {
            let lines = lines(batch, publisher.has_others());
            publisher.publish(&lines);
        }
    }

    /// What stands, for those who have just come.
    pub(crate) fn stand(&mut self, batch: &Batch) {
        #[cfg(unix)]
        if let Some(Published { publisher, .. }) = &mut self.publisher {
            let lines = lines(batch, publisher.has_others());
            publisher.stand(&lines);
        }
        let _ = batch;
    }

    /// Whether somebody has come who does not know what stands.
    pub(crate) fn turn(&mut self) -> bool {
        #[cfg(unix)]
        if let Some(Published { publisher, .. }) = &mut self.publisher {
            return publisher.turn();
        }
        false
    }

    pub(crate) fn end(self) {
        #[cfg(feature = "desktop")]
        if let Some(desktop) = self.desktop {
            desktop.end();
        }
    }
}

/// What alerts go by: the command line, then the settings.
#[cfg(feature = "desktop")]
pub(crate) fn options(session: &Session, least: Option<crate::finding::Severity>) -> crate::alert::Options {
    use crate::finding::Severity;
    let setting = session.settings.get("alert.least").and_then(Severity::from_name);
    crate::alert::Options {
        least: least.or(setting).unwrap_or(Severity::High),
        memory: crate::alert::Memory::usual_place(),
    }
}

pub(crate) fn say(text: &str) {
    super::console::say(&format!("sockwarden: {}\n", crate::model::Text::from(text)));
}

pub(super) fn json(event: &Event<'_>) -> String {
    let mut line = Vec::new();
    // Writing to memory does not fail.
    let _ = output::event(&mut line, Format::Json, event, &Style::default());
    String::from_utf8(line).unwrap_or_default()
}

#[cfg(unix)]
fn lines(batch: &Batch, others: bool) -> Vec<crate::watch::publish::Line> {
    use super::watch::what;
    use crate::watch::publish::{Line, owner, trimmed};
    let lost = batch.changes.is_empty().then(|| events(batch).next()).flatten();
    let lost = lost.map(|event| {
        let whole: std::sync::Arc<str> = json(&event).into();
        Line { trimmed: std::sync::Arc::clone(&whole), whole, owner: None }
    });
    let changes = batch.changes.iter().map(|change| {
        let event = |what| Event { at: batch.at, seen_by: batch.seen_by.name(), what };
        let strange = others.then(|| trimmed(change));
        let less = strange.as_ref().map(|strange| json(&event(what(strange)))).unwrap_or_default();
        Line { whole: json(&event(what(change))).into(), trimmed: less.into(), owner: owner(change) }
    });
    lost.into_iter().chain(changes).collect()
}
