//! The queue of a server that draws itself: in memory, since every job's record is on the disk.

use super::{Broker, Full, Ticket, Was};
use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// A queue in memory.
pub(crate) struct Memory {
    room: usize,
    inner: Mutex<Inner>,
    more: Condvar,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Ticket>,
    running: HashMap<String, Ticket>,
    closed: bool,
}

impl Memory {
    /// A queue in which so many may wait.
    pub(crate) fn new(room: usize) -> Self {
        Self { room, inner: Mutex::default(), more: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Consistent between any two statements.
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Inner {
    fn knows(&self, id: &str) -> bool {
        self.running.contains_key(id) || self.waiting.iter().any(|t| t.id == id)
    }
}

impl Broker for Memory {
    fn publish(&self, ticket: Ticket) -> Result<(), Full> {
        let mut inner = self.lock();
        if inner.knows(&ticket.id) {
            return Ok(());
        }
        if inner.waiting.len() >= self.room {
            return Err(Full(inner.waiting.len()));
        }
        inner.waiting.push_back(ticket);
        self.more.notify_one();
        Ok(())
    }

    fn resume(&self, ticket: Ticket) {
        let mut inner = self.lock();
        if !inner.knows(&ticket.id) {
            inner.waiting.push_back(ticket);
            self.more.notify_one();
        }
    }

    fn pull(&self, patience: Duration) -> Option<Ticket> {
        let end = Instant::now() + patience;
        let mut inner = self.lock();
        loop {
            if inner.closed {
                return None;
            }
            if let Some(ticket) = inner.waiting.pop_front() {
                inner.running.insert(ticket.id.clone(), ticket.clone());
                return Some(ticket);
            }
            let left = end.checked_duration_since(Instant::now())?;
            inner = self.more.wait_timeout(inner, left).unwrap_or_else(|e| e.into_inner()).0;
        }
    }

    fn done(&self, id: &str) {
        self.lock().running.remove(id);
    }

    fn back(&self, id: &str) {
        let mut inner = self.lock();
        if let Some(ticket) = inner.running.remove(id) {
            inner.waiting.push_front(ticket);
            self.more.notify_one();
        }
    }

    fn cancel(&self, id: &str) -> Was {
        let mut inner = self.lock();
        if let Some(at) = inner.waiting.iter().position(|t| t.id == id) {
            inner.waiting.remove(at);
            return Was::Waiting;
        }
        if inner.running.contains_key(id) { Was::Running } else { Was::Unknown }
    }

    fn waiting(&self) -> Vec<String> {
        self.lock().waiting.iter().map(|t| t.id.clone()).collect()
    }

    fn room(&self) -> usize {
        self.room
    }

    fn close(&self) {
        self.lock().closed = true;
        self.more.notify_all();
    }
}
