//! The threads that serve. A connection stays with the thread that it was given to, and so do the connections to the
//! upstream that its requests go over: nothing of a request crosses from one core to another.
//!
//! A runtime that moves tasks between its threads costs a twentieth to a tenth more for a request that takes microseconds,
//! also where it has one thread. In exchange a connection waits while another one of its thread is served, whatever the
//! other threads do; so each new one goes to the thread that has fewest.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Builder, EnterGuard, Handle, Runtime};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::proxy::Door;

/// The threads.
#[derive(Debug)]
pub(super) struct WorkerThreads {
    workers: Workers,
    /// Turns to true when they are to end.
    ending: watch::Sender<bool>,
    /// Says nothing, and that the last of them is gone.
    gone: Mutex<Receiver<()>>,
}

/// The threads, as whoever gives them connections sees them: at least one.
#[derive(Debug, Clone)]
pub(super) struct Workers {
    /// The one that accepts, beside serving what it has.
    pub(super) first: Worker,
    others: Arc<[Worker]>,
}

/// One thread.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    handle: Handle,
    /// Where it serves connections.
    pub(super) door: Door,
    connections: Arc<AtomicUsize>,
}

/// A connection's place among those of its thread.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

// === impl WorkerThreads ===

impl WorkerThreads {
    /// Starts so many threads, each with a door of its own: a door keeps the connections to the upstream.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn start(threads: NonZeroUsize, door: impl Fn() -> Door) -> io::Result<Self> {
        let (ending, is_ending) = watch::channel(false);
        let (alive, gone) = channel();
        let start = || Worker::start(door(), is_ending.clone(), alive.clone());
        let first = start()?;
        let others = (1..threads.get()).map(|_| start()).collect::<io::Result<_>>()?;
        Ok(Self { workers: Workers { first, others }, ending, gone: Mutex::new(gone) })
    }

    pub(super) fn workers(&self) -> &Workers {
        &self.workers
    }

    /// Ends what they serve. Not waited for longer than this: what does not end by then ends with the process.
    pub(super) fn end(self, limit: Duration) {
        self.ending.send_replace(true);
        if self.gone.into_inner().recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("a thread that serves has not ended");
        }
    }
}

// === impl Workers ===

impl Workers {
    /// Tells the clients of HTTP/2 connections to send their next request to another.
    pub(super) fn leave(&self) {
        self.each().for_each(|worker| worker.door.leave());
    }

    /// The thread that has fewest connections; the first of those that have as many.
    pub(super) fn idlest(&self) -> &Worker {
        let load = |worker: &&Worker| worker.connections.load(Ordering::Relaxed);
        self.each().min_by_key(load).unwrap_or(&self.first)
    }

    fn each(&self) -> impl Iterator<Item = &Worker> {
        std::iter::once(&self.first).chain(&*self.others)
    }
}

// === impl Worker ===

impl Worker {
    fn start(door: Door, ending: watch::Receiver<bool>, alive: Sender<()>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        std::thread::Builder::new().name("gateway".to_owned()).spawn(move || {
            run(runtime, ending);
            drop(alive);
        })?;
        Ok(Self { handle, door, connections: Arc::default() })
    }

    /// Sockets that are made while this is held wake this thread.
    pub(super) fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }

    /// Has it do something.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.handle.spawn(task).abort_handle()
    }

    /// Counts one more connection among its own.
    pub(super) fn take(&self) -> Place {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Place(self.connections.clone())
    }
}

fn run(runtime: Runtime, mut ending: watch::Receiver<bool>) {
    // Or nobody is left to say so.
    let _ = runtime.block_on(ending.wait_for(|ending| *ending));
    runtime.shutdown_background();
}

// === impl Place ===

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
