//! Jobs that wait go in, each comes out to one worker. The queue knows ids and models; what a job is stands in its
//! record.
//!
//! A worker that pulled a job holds it until it says [`Broker::done`] or hands it [`Broker::back`].

pub(crate) mod memory;

use std::time::Duration;

/// A job that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// The job.
    pub(crate) id: String,
    /// The model that draws it.
    pub(crate) model: String,
}

/// The queue has no room: so many wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full(pub(crate) usize);

/// What a job was when it was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Was {
    /// In the queue; it is out of it now, and no worker gets it.
    Waiting,
    /// With a worker, which has to be told.
    Running,
    /// Neither.
    Unknown,
}

/// A queue of jobs for workers of several models.
pub(crate) trait Broker: Send + Sync {
    /// Puts a job at the end. One that is there already stays where it is.
    ///
    /// # Errors
    /// Too many wait.
    fn publish(&self, ticket: Ticket) -> Result<(), Full>;

    /// The same without a bound: what waited before a restart waits again.
    fn resume(&self, ticket: Ticket);

    /// The job that has waited longest, for a worker that waits no longer than `patience`. Nothing once it is closed.
    fn pull(&self, patience: Duration) -> Option<Ticket>;

    /// The job has ended.
    fn done(&self, id: &str);

    /// The worker cannot go on with it: it is the next one again.
    fn back(&self, id: &str);

    /// Takes a job out of the queue.
    fn cancel(&self, id: &str) -> Was;

    /// Jobs that wait, the next one first.
    fn waiting(&self) -> Vec<String>;

    /// Jobs that may wait.
    fn room(&self) -> usize;

    /// From now on nothing is pulled.
    fn close(&self);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(id: &str) -> Ticket {
        Ticket { id: id.into(), model: "m".into() }
    }

    /// What every broker does.
    fn behaves(broker: &dyn Broker) {
        let soon = Duration::from_millis(20);
        assert_eq!(broker.pull(soon), None);
        for id in ["a", "b", "c"] {
            broker.publish(ticket(id)).unwrap();
        }
        broker.publish(ticket("b")).unwrap();
        assert_eq!(broker.waiting(), ["a", "b", "c"]);
        assert_eq!(broker.publish(ticket("d")), Err(Full(3)));
        assert_eq!(broker.pull(soon), Some(ticket("a")));
        // A job that runs is not published again.
        broker.publish(ticket("a")).unwrap();
        assert_eq!(
            (broker.cancel("a"), broker.cancel("b"), broker.cancel("b")),
            (Was::Running, Was::Waiting, Was::Unknown)
        );
        broker.back("a");
        assert_eq!(broker.waiting(), ["a", "c"]);
        assert_eq!((broker.pull(soon), broker.pull(soon)), (Some(ticket("a")), Some(ticket("c"))));
        broker.done("a");
        broker.done("c");
        assert_eq!((broker.cancel("a"), broker.pull(soon)), (Was::Unknown, None));
        for n in 0..5 {
            broker.resume(ticket(&n.to_string()));
        }
        assert_eq!(broker.waiting().len(), 5);
        broker.close();
        assert_eq!(broker.pull(Duration::from_secs(60)), None);
    }

    #[test]
    fn a_job_goes_to_one_worker_in_its_turn() {
        behaves(&memory::Memory::new(3));
    }

    #[test]
    fn a_worker_that_waits_is_woken() {
        let broker = std::sync::Arc::new(memory::Memory::new(3));
        let worker = {
            let broker = broker.clone();
            std::thread::spawn(move || broker.pull(Duration::from_secs(60)))
        };
        broker.publish(ticket("a")).unwrap();
        assert_eq!(worker.join().unwrap(), Some(ticket("a")));
    }
}
