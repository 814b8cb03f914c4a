//! What happens goes in; each listener gets it in order, and who is too slow loses previews first, then progress, then
//! is told to ask again.

use crate::server::clock;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use tokio::sync::Notify;

/// Events that are kept for those who come back.
const KEPT: usize = 512;
/// Events that wait for one listener.
const BUFFER: usize = 128;
/// Listeners at once.
const MOST: usize = 64;

/// What an event means to a slow listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// The first to be left out; a newer one replaces an older.
    Preview,
    /// The next; a newer one replaces an older.
    Progress,
    /// Kept, numbered and repeated.
    Lasting,
}

/// One event, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// Of lasting ones.
    pub(crate) id: Option<u64>,
    /// `job`, `progress`, ...
    pub(crate) name: &'static str,
    /// The job it is about: of progress and previews only the newest of a job waits.
    about: String,
    weight: Weight,
    /// JSON.
    pub(crate) data: Arc<str>,
}

#[derive(Default)]
struct Buffer {
    events: VecDeque<Event>,
    lost: bool,
}

/// One listener's end.
pub(crate) struct Listener {
    buffer: Mutex<Buffer>,
    more: Notify,
}

/// All listeners, and what was told lately.
pub(crate) struct Hub {
    inner: Mutex<Inner>,
}

struct Inner {
    next: u64,
    kept: VecDeque<Event>,
    listeners: Vec<Weak<Listener>>,
}

impl Hub {
    /// Numbers go on from the time, so that those of an earlier process are smaller.
    pub(crate) fn new() -> Self {
        let inner = Inner { next: clock::millis(), kept: VecDeque::new(), listeners: Vec::new() };
        Self { inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The last event.
    pub(crate) fn last(&self) -> u64 {
        self.lock().next - 1
    }

    /// How many listen.
    pub(crate) fn listeners(&self) -> usize {
        self.lock().listeners.iter().filter(|l| l.strong_count() > 0).count()
    }

    /// Tells everybody.
    pub(crate) fn tell(&self, name: &'static str, weight: Weight, about: &str, data: String) {
        let mut inner = self.lock();
        let id = (weight == Weight::Lasting).then(|| {
            inner.next += 1;
            inner.next - 1
        });
        let event = Event { id, name, about: about.into(), weight, data: data.into() };
        inner.listeners.retain(|l| l.strong_count() > 0);
        for listener in inner.listeners.iter().filter_map(Weak::upgrade) {
            listener.push(event.clone());
        }
        if id.is_some() {
            inner.kept.push_back(event);
            if inner.kept.len() > KEPT {
                inner.kept.pop_front();
            }
        }
    }

    /// A new listener, who gets what came after `after`, or is told to ask again where that is too long ago. None where
    /// too many listen.
    pub(crate) fn listen(&self, after: Option<u64>) -> Option<Arc<Listener>> {
        let mut inner = self.lock();
        inner.listeners.retain(|l| l.strong_count() > 0);
        if inner.listeners.len() >= MOST {
            return None;
        }
        let listener = Arc::new(Listener { buffer: Mutex::default(), more: Notify::new() });
        if let Some(after) = after {
            let first = inner.kept.front().and_then(|e| e.id).unwrap_or(inner.next);
            let missed: Vec<Event> = inner.kept.iter().filter(|e| e.id > Some(after)).cloned().collect();
            // What is greater than the last one is of another server.
            if after >= inner.next || after + 1 < first || missed.len() > BUFFER / 2 {
                listener.lock().lost = true;
            } else {
                listener.lock().events.extend(missed);
            }
        }
        inner.listeners.push(Arc::downgrade(&listener));
        Some(listener)
    }
}

impl Listener {
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn push(&self, event: Event) {
        let mut buffer = self.lock();
        if event.weight != Weight::Lasting {
            // Only the newest counts.
            buffer.events.retain(|e| e.name != event.name || e.about != event.about);
        }
        for weight in [Weight::Preview, Weight::Progress] {
            if buffer.events.len() >= BUFFER {
                buffer.events.retain(|e| e.weight != weight);
            }
        }
        if buffer.events.len() < BUFFER {
            buffer.events.push_back(event);
        } else if event.weight == Weight::Lasting {
            buffer.events.clear();
            buffer.lost = true;
        }
        drop(buffer);
        self.more.notify_one();
    }

    /// The next event; `None` means that some were lost: ask again.
    pub(crate) async fn next(&self) -> Option<Event> {
        loop {
            {
                let mut buffer = self.lock();
                if std::mem::take(&mut buffer.lost) {
                    return None;
                }
                if let Some(event) = buffer.events.pop_front() {
                    return Some(event);
                }
            }
            self.more.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(listener: &Listener) -> Vec<(&'static str, String)> {
        listener.lock().events.drain(..).map(|e| (e.name, e.data.to_string())).collect()
    }

    fn job(hub: &Hub, n: usize) {
        hub.tell("job", Weight::Lasting, &n.to_string(), n.to_string());
    }

    #[test]
    fn who_comes_back_gets_what_was_missed_or_is_told_to_ask_again() {
        let hub = Hub::new();
        let start = hub.last();
        job(&hub, 1);
        hub.tell("progress", Weight::Progress, "1", "half".into());
        job(&hub, 2);
        let back = hub.listen(Some(start + 1)).unwrap();
        assert_eq!(drained(&back), [("job", "2".to_owned())]);
        for wrong in [start + 3, u64::MAX - 1, 5] {
            assert!(hub.listen(Some(wrong)).unwrap().lock().lost, "{wrong}");
        }
        assert!(!hub.listen(Some(hub.last())).unwrap().lock().lost);
        (0..KEPT + 5).for_each(|n| job(&hub, n));
        assert!(hub.listen(Some(start + 1)).unwrap().lock().lost);
        assert!(hub.lock().kept.len() <= KEPT);
    }

    #[test]
    fn a_slow_listener_loses_previews_then_progress_then_must_ask_again() {
        let hub = Hub::new();
        let slow = hub.listen(None).unwrap();
        for n in 0..3 {
            hub.tell("preview", Weight::Preview, "a", n.to_string());
        }
        hub.tell("progress", Weight::Progress, "a", "p".into());
        assert_eq!(drained(&slow), [("preview", "2".to_owned()), ("progress", "p".to_owned())]);
        hub.tell("preview", Weight::Preview, "a", "x".into());
        hub.tell("progress", Weight::Progress, "a", "p".into());
        (0..BUFFER - 1).for_each(|n| job(&hub, n));
        assert!(slow.lock().events.iter().all(|e| e.name != "preview"));
        job(&hub, 0);
        assert!(slow.lock().events.iter().all(|e| e.name == "job") && !slow.lock().lost);
        job(&hub, 1);
        assert!(slow.lock().lost && slow.lock().events.is_empty());
    }

    #[test]
    fn listeners_that_went_make_room() {
        let hub = Hub::new();
        let all: Vec<_> = (0..MOST).map(|_| hub.listen(None).unwrap()).collect();
        assert!(hub.listen(None).is_none());
        drop(all);
        assert!(hub.listen(None).is_some());
    }
}
