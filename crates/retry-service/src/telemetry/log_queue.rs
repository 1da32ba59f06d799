//! A bounded queue of log lines, and the thread that writes them.
//!
//! A write to a pipe blocks while nobody reads it. Here only this thread blocks; if the queue is full, lines are
//! dropped and counted.

use std::{
    io::{self, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;

/// How many lines may be queued. The thread may hold as many again.
const MAX_LINES: usize = 16 * 1024;

/// How many bytes may be queued.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// The capacity that a buffer keeps after it has been written.
const KEPT_BYTES: usize = 64 * 1024;

/// Log lines that wait to be written. Clones share the queue. Once all are dropped, its thread writes the rest and ends.
#[derive(Clone, Debug)]
pub(crate) struct LogQueue(Arc<Handle>);

#[derive(Debug)]
struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    filled: Condvar,
    emptied: Condvar,
    /// Counts all dropped lines.
    dropped: Counter,
}

#[derive(Debug, Default)]
struct State {
    text: Vec<u8>,
    lines: usize,
    /// The number of dropped lines that has not been logged yet.
    unreported: u64,
    is_writing: bool,
    /// Whether no more lines will be queued.
    is_closed: bool,
}

impl LogQueue {
    /// Starts the thread, which writes to `out`. `note` returns the line that reports a number of dropped lines.
    ///
    /// # Errors
    ///
    /// Returns an error if the thread cannot be started.
    pub(crate) fn start(
        out: impl Write + Send + 'static,
        note: impl Fn(u64) -> Vec<u8> + Send + 'static,
        dropped: Counter,
    ) -> io::Result<Self> {
        let shared = Shared { state: Mutex::default(), filled: Condvar::new(), emptied: Condvar::new(), dropped };
        let shared = Arc::new(shared);
        let queue = Self(Arc::new(Handle(Arc::clone(&shared))));
        thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_all(out, note))?;
        Ok(queue)
    }

    /// Queues a line, which includes its line break, or drops it if the queue is full. Never blocks.
    pub(crate) fn push(&self, line: &[u8]) {
        let Handle(shared) = &*self.0;
        let mut state = shared.lock();
        if state.lines >= MAX_LINES || state.text.len().saturating_add(line.len()) > MAX_BYTES {
            state.unreported += 1;
            shared.dropped.inc();
            return;
        }
        state.text.extend_from_slice(line);
        state.lines += 1;
        shared.filled.notify_one();
    }

    /// Waits until all queued lines are written, for at most `timeout`.
    pub(crate) fn flush(&self, timeout: Duration) {
        let is_busy = |state: &mut State| state.lines > 0 || state.is_writing;
        let Handle(shared) = &*self.0;
        drop(shared.emptied.wait_timeout_while(shared.lock(), timeout, is_busy));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.filled.notify_one();
    }
}

/// env_logger writes each line at once.
impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes queued lines until no more can be queued.
    fn write_all(&self, mut out: impl Write, note: impl Fn(u64) -> Vec<u8>) {
        let mut text = Vec::new();
        loop {
            let waiting = self.filled.wait_while(self.lock(), |state| state.lines == 0 && !state.is_closed);
            let mut state = waiting.unwrap_or_else(PoisonError::into_inner);
            if state.lines == 0 {
                let unreported = state.unreported;
                drop(state);
                if unreported > 0 {
                    // Nothing is left to do if that fails, too.
                    let _ = out.write_all(&note(unreported));
                }
                return;
            }
            mem::swap(&mut state.text, &mut text);
            let (lines, unreported) = (mem::take(&mut state.lines), mem::take(&mut state.unreported));
            state.is_writing = true;
            drop(state);

            let mut written = out.write_all(&text);
            if written.is_ok() && unreported > 0 {
                // These lines were queued before the others were dropped.
                written = out.write_all(&note(unreported));
            }
            text.clear();
            text.shrink_to(KEPT_BYTES);

            let mut state = self.lock();
            state.is_writing = false;
            if written.is_err() {
                // Later lines may be written again.
                state.unreported += unreported + lines as u64;
                self.dropped.inc_by(lines as u64);
            }
            self.emptied.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// Each write sends its bytes to the test, and blocks until the test allows it to return.
    struct Gate {
        written: mpsc::Sender<String>,
        allowed: mpsc::Receiver<io::Result<()>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.send(String::from_utf8(bytes.to_vec()).unwrap()).unwrap();
            self.allowed.recv().unwrap().map(|()| bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn queue() -> (LogQueue, mpsc::Receiver<String>, mpsc::Sender<io::Result<()>>, Counter) {
        let ((written, texts), (allow, allowed)) = (mpsc::channel(), mpsc::channel());
        let dropped = Counter::default();
        let note = |dropped| format!("{dropped} dropped\n").into_bytes();
        let queue = LogQueue::start(Gate { written, allowed }, note, dropped.clone()).unwrap();
        (queue, texts, allow, dropped)
    }

    #[test]
    fn lines_are_written_in_order_while_others_are_queued() {
        let (queue, texts, allow, dropped) = queue();
        queue.push(b"1\n");
        assert_eq!(texts.recv_timeout(LIMIT).unwrap(), "1\n");
        queue.push(b"2\n");
        queue.push(b"3\n");
        allow.send(Ok(())).unwrap();
        allow.send(Ok(())).unwrap();
        assert_eq!(texts.recv_timeout(LIMIT).unwrap(), "2\n3\n");
        queue.flush(LIMIT);
        assert_eq!(dropped.get(), 0);
    }

    #[test]
    fn dropped_lines_are_reported_after_the_queued_ones() {
        for (line, fit) in [(b"x\n".to_vec(), MAX_LINES), (vec![b'x'; MAX_BYTES / 4], 4)] {
            let (queue, texts, allow, dropped) = queue();
            queue.push(b"first\n");
            assert_eq!(texts.recv_timeout(LIMIT).unwrap(), "first\n");
            for _ in 0..fit + 3 {
                queue.push(&line);
            }
            assert_eq!(dropped.get(), 3);
            for _ in 0..3 {
                allow.send(Ok(())).unwrap();
            }
            assert_eq!(texts.recv_timeout(LIMIT).unwrap().len(), fit * line.len());
            assert_eq!(texts.recv_timeout(LIMIT).unwrap(), "3 dropped\n");
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_reported_with_the_next() {
        let (queue, texts, allow, dropped) = queue();
        queue.push(b"1\n");
        allow.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        queue.flush(LIMIT);
        assert_eq!((texts.recv_timeout(LIMIT).unwrap().as_str(), dropped.get()), ("1\n", 1));
        queue.push(b"2\n");
        allow.send(Ok(())).unwrap();
        allow.send(Ok(())).unwrap();
        assert_eq!(texts.recv_timeout(LIMIT).unwrap(), "2\n");
        assert_eq!(texts.recv_timeout(LIMIT).unwrap(), "1 dropped\n");
    }

    #[test]
    fn lines_that_cannot_be_written_are_reported_at_the_end() {
        let (queue, texts, allow, _) = queue();
        queue.push(b"1\n");
        allow.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        assert_eq!(texts.recv_timeout(LIMIT).unwrap(), "1\n");
        drop(queue);
        allow.send(Ok(())).unwrap();
        assert_eq!(texts.recv_timeout(LIMIT).unwrap(), "1 dropped\n");
        assert_eq!(texts.recv_timeout(LIMIT), Err(mpsc::RecvTimeoutError::Disconnected));
    }

    #[test]
    fn the_thread_ends_once_the_queue_is_dropped_and_written() {
        let (queue, texts, allow, _) = queue();
        queue.push(b"1\n");
        allow.send(Ok(())).unwrap();
        drop(queue);
        assert_eq!(texts.recv_timeout(LIMIT).unwrap(), "1\n");
        // The writer is dropped with the thread.
        assert_eq!(texts.recv_timeout(LIMIT), Err(mpsc::RecvTimeoutError::Disconnected));
    }

    #[test]
    fn a_flush_times_out_if_nobody_reads() {
        let (queue, _texts, _allow, _) = queue();
        queue.push(b"1\n");
        queue.flush(Duration::from_millis(1));
    }
}
