//! Threads for short work that waits for the kernel or the local disk: folders of Pods, control groups.
//!
//! Owns: the threads, their queue. Does not own: what is done. Work that may take long or hang, such as reading a log or a
//! path of somebody else's file system, has no place here: it would hold up everything that waits.
//!
//! The async runtime has threads for that too, but makes as many as there is work at once. When hundreds of Pods start together
//! those stand in each other's way in the kernel, and each leaves memory behind: its stack, its share of the heap.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use tokio::sync::oneshot;

use crate::limits;

type Work = Box<dyn FnOnce() + Send>;

/// Hands work to the threads, in order. Cheap to clone; the threads end with the last clone, after all work.
#[derive(Debug, Clone)]
pub struct ShortWork {
    queue: mpsc::Sender<Work>,
}

impl ShortWork {
    /// Starts [`limits::SHORT_WORK_THREADS`] threads of this name.
    ///
    /// # Errors
    /// If the system refuses one.
    pub fn start(name: &str) -> io::Result<ShortWork> {
        let (queue, received) = mpsc::channel::<Work>();
        let received = Arc::new(Mutex::new(received));
        for _ in 0..limits::SHORT_WORK_THREADS {
            let received = Arc::clone(&received);
            std::thread::Builder::new().name(name.to_owned()).spawn(move || {
                while let Some(work) = next(&received) {
                    // Whoever waits for it hears of a panic, and others are served.
                    let _: Result<(), _> = catch_unwind(AssertUnwindSafe(work));
                }
            })?;
        }
        Ok(ShortWork { queue })
    }

    /// Does something there; none if it has panicked. Once handed over it is done, even if nobody waits any more.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (done, result) = oneshot::channel();
        // They live as long as we do.
        drop(self.queue.send(Box::new(move || drop(done.send(work())))));
        result.await.ok()
    }
}

/// One of them waits for work at a time, the others for their turn.
fn next(received: &Mutex<mpsc::Receiver<Work>>) -> Option<Work> {
    received.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[tokio::test]
    async fn a_crowd_is_served_by_few_threads() {
        let work = ShortWork::start("short-work").unwrap();
        let (at_once, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let runs = (0..100).map(|number| {
            let (at_once, most) = (at_once.clone(), most.clone());
            work.run(move || {
                most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(1));
                at_once.fetch_sub(1, Ordering::SeqCst);
                (number, std::thread::current().id())
            })
        });
        let done: Vec<_> = futures::future::join_all(runs).await.into_iter().flatten().collect();
        assert!(done.iter().map(|(number, _)| *number).eq(0..100));
        let threads: HashSet<_> = done.iter().map(|(_, thread)| *thread).collect();
        assert!(threads.len() <= limits::SHORT_WORK_THREADS);
        assert!(most.load(Ordering::SeqCst) <= limits::SHORT_WORK_THREADS);
    }

    #[tokio::test]
    async fn a_panic_is_told_and_costs_no_thread() {
        let work = ShortWork::start("short-work").unwrap();
        for _ in 0..2 * limits::SHORT_WORK_THREADS {
            assert_eq!(work.run(|| -> u32 { panic!("of a test") }).await, None);
        }
        assert_eq!(work.run(|| 7).await, Some(7));
    }

    #[tokio::test]
    async fn what_was_handed_over_is_done_though_nobody_waits() {
        let work = ShortWork::start("short-work").unwrap();
        let done = Arc::new(AtomicUsize::new(0));
        for _ in 0..50 {
            let done = done.clone();
            let run = work.run(move || done.fetch_add(1, Ordering::SeqCst));
            // Polled once, and given up.
            drop(tokio::time::timeout(Duration::ZERO, run).await);
        }
        let flags: Vec<_> = (0..limits::SHORT_WORK_THREADS).map(|_| work.run(|| ())).collect();
        futures::future::join_all(flags).await;
        while done.load(Ordering::SeqCst) < 50 {
            tokio::task::yield_now().await;
        }
    }
}
