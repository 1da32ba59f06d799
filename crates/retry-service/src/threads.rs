//! The threads that serve connections beside the main thread.

use std::{
    io,
    thread::{self, JoinHandle},
};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;

/// Threads, each with a runtime. Dropping this ends them, and drops their tasks.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    runtimes: Vec<Handle>,
    threads: Vec<JoinHandle<()>>,
    /// Cancelled when the threads are to end, and when one ends by itself.
    end: CancellationToken,
}

impl Threads {
    /// Starts this number of threads.
    ///
    /// # Errors
    ///
    /// Returns an error if the system does not allow that many.
    pub(crate) fn start(number: usize) -> io::Result<Self> {
        let mut started = Self::default();
        for index in 1..=number {
            let runtime = new_runtime()?;
            started.runtimes.push(runtime.handle().clone());
            started.spawn(format!("serve-{index}"), move |end| runtime.block_on(end.cancelled()))?;
        }
        Ok(started)
    }

    fn spawn(&mut self, name: String, run: impl FnOnce(&CancellationToken) + Send + 'static) -> io::Result<()> {
        let end = self.end.clone();
        let run = move || {
            let _guard = end.clone().drop_guard();
            run(&end);
        };
        self.threads.push(thread::Builder::new().name(name).spawn(run)?);
        Ok(())
    }

    /// Returns the runtimes of the threads.
    pub(crate) fn runtimes(&self) -> &[Handle] {
        &self.runtimes
    }

    /// Completes if a thread ends by itself.
    pub(crate) async fn failed(&self) {
        self.end.cancelled().await;
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.end.cancel();
        for thread in self.threads.drain(..) {
            // The panic hook has logged a panic.
            let _ = thread.join();
        }
    }
}

/// Returns a runtime for the thread that calls its `block_on`.
///
/// # Errors
///
/// Returns an error if the system is out of resources.
pub(crate) fn new_runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::mpsc, time::Duration};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn each_thread_runs_tasks_until_it_is_dropped() {
        let threads = Threads::start(2).unwrap();
        let (started, names) = mpsc::channel();
        for runtime in threads.runtimes() {
            let started = started.clone();
            runtime.spawn(async move {
                started.send(thread::current().name().map(str::to_owned)).unwrap();
                // Dropped with the task.
                let _started = started;
                pending::<()>().await;
            });
        }
        drop(started);
        let mut running: Vec<_> = (0..2).map(|_| names.recv_timeout(LIMIT).unwrap().unwrap()).collect();
        running.sort();
        assert_eq!(running, ["serve-1", "serve-2"]);
        drop(threads);
        assert_eq!(names.recv_timeout(LIMIT), Err(mpsc::RecvTimeoutError::Disconnected));
    }

    #[test]
    fn the_end_of_a_thread_is_noticed() {
        let mut threads = Threads::start(1).unwrap();
        threads.spawn("panics".to_owned(), |_| panic!("as a runtime might")).unwrap();
        new_runtime().unwrap().block_on(async {
            tokio::time::timeout(LIMIT, threads.failed()).await.expect("the end of the thread");
        });
    }
}
