//! A thread of its own for work that no request waits for.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;

/// Does one piece of work after another, with less right to a core than the threads that serve requests. What it
/// allocates it also frees, so that giving back a set of a million devices keeps none of them from their work either.
#[derive(Debug)]
pub(super) struct Workshop {
    work: mpsc::Sender<Work>,
}

type Work = Box<dyn FnOnce() + Send>;

/// Work that went wrong by a mistake of ours.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Broken(String);

/// Ten steps: beside a thread of the usual priority that never rests it still gets a tenth of the core (the kernel's
/// `sched_prio_to_weight` has 110 for it and 1024 for the other), so that a reload under full load is slow but sure.
const NICE: i32 = 10;

// === impl Workshop ===

impl Workshop {
    /// Starts the thread. It ends when this is dropped and what was begun is done.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(super) fn open() -> io::Result<Self> {
        let (work, given) = mpsc::channel::<Work>();
        let run = move || {
            // On Linux priorities are those of threads, whatever POSIX says (`setpriority(2)`, section NOTES).
            if let Err(error) = rustix::process::setpriority_process(None, NICE) {
                tracing::warn!(%error, "policies are compiled at the priority of requests");
            }
            given.iter().for_each(|work| work());
        };
        thread::Builder::new().name("tollgate-reload".to_owned()).spawn(run)?;
        Ok(Self { work })
    }

    /// Has the thread do it, once it is done with what it was given before.
    ///
    /// # Errors
    /// If it panicked.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Broken> {
        let (tell, told) = oneshot::channel();
        let work = move || {
            let done = catch_unwind(AssertUnwindSafe(work)).map_err(|panic| Broken(text_of(&*panic)));
            // Whoever asked may have gone.
            drop(tell.send(done));
        };
        let gone = || Broken("the thread that compiles policies is gone".to_owned());
        self.work.send(Box::new(work)).map_err(|_| gone())?;
        told.await.unwrap_or_else(|_| Err(gone()))
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The nice value of the calling thread and of the process's first one: the 19th field of `stat` (`proc(5)`).
    fn nice_of(path: &str) -> i32 {
        let stat = std::fs::read_to_string(path).unwrap();
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().parse().unwrap()
    }

    #[tokio::test]
    async fn work_is_done_on_a_thread_of_lower_priority_and_the_others_keep_theirs() {
        let workshop = Workshop::open().unwrap();
        let before = nice_of("/proc/thread-self/stat");
        let there = workshop.run(|| nice_of("/proc/thread-self/stat")).await.unwrap();
        assert_eq!(there, NICE.max(before));
        assert_eq!(nice_of("/proc/thread-self/stat"), before);
    }

    #[tokio::test]
    async fn work_that_panics_says_so_and_the_next_is_done() {
        let workshop = Workshop::open().unwrap();
        let broken = workshop.run(|| -> u32 { panic!("seven {}", "eight") }).await.unwrap_err();
        assert_eq!(broken.to_string(), "seven eight");
        assert_eq!(workshop.run(|| 9).await.unwrap(), 9);
    }
}
