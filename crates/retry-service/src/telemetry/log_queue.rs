//! The log on its way out: a bounded queue, and a thread that writes what is in it.
//!
//! A write to a pipe that nobody reads blocks for ever. Only the thread of this module does; whoever logs goes on, and
//! lines that find the queue full are dropped and counted.

use std::{
    io::{self, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;

/// How many lines may be queued, and how many bytes they may have together. As much again may be in the thread's hands.
const MAX_LINES: usize = 16 * 1024;
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// The capacity that a buffer keeps once it has been written out.
const KEPT_BYTES: usize = 64 * 1024;

/// Lines that wait to be written. Clones are of the same queue.
#[derive(Clone, Debug)]
pub(crate) struct LogQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    filled: Condvar,
    emptied: Condvar,
    /// Every line that was ever dropped.
    dropped: Counter,
}

#[derive(Debug, Default)]
struct State {
    text: Vec<u8>,
    lines: usize,
    /// The lines dropped that nothing has been said of.
    untold: u64,
    is_writing: bool,
}

impl LogQueue {
    /// Starts the thread, which writes to `out`. `note` makes the line that says how many were dropped; `dropped`
    /// counts them.
    ///
    /// # Errors
    ///
    /// If the system has no thread to give.
    pub(crate) fn start(
        out: impl Write + Send + 'static,
        note: impl Fn(u64) -> Vec<u8> + Send + 'static,
        dropped: Counter,
    ) -> io::Result<Self> {
        let shared = Shared { state: Mutex::default(), filled: Condvar::new(), emptied: Condvar::new(), dropped };
        let queue = Self(Arc::new(shared));
        let shared = Arc::clone(&queue.0);
        thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_all(out, note))?;
        Ok(queue)
    }

    /// Queues a line, its line break included, or drops it if there is no room. Never blocks.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut state = self.0.lock();
        if state.lines >= MAX_LINES || state.text.len().saturating_add(line.len()) > MAX_BYTES {
            state.untold += 1;
            self.0.dropped.inc();
            return;
        }
        state.text.extend_from_slice(line);
        state.lines += 1;
        self.0.filled.notify_one();
    }

    /// Waits until all that is queued has been written, or the limit is over.
    pub(crate) fn flush(&self, limit: Duration) {
        let is_busy = |state: &mut State| state.lines > 0 || state.is_writing;
        drop(self.0.emptied.wait_timeout_while(self.0.lock(), limit, is_busy));
    }
}

/// Each write is a line: so env_logger has it.
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

    /// Writes whatever is queued, for as long as the process lives.
    fn write_all(&self, mut out: impl Write, note: impl Fn(u64) -> Vec<u8>) {
        let mut text = Vec::new();
        loop {
            let waiting = self.filled.wait_while(self.lock(), |state| state.lines == 0);
            let mut state = waiting.unwrap_or_else(PoisonError::into_inner);
            mem::swap(&mut state.text, &mut text);
            let (lines, untold) = (mem::take(&mut state.lines), mem::take(&mut state.untold));
            state.is_writing = true;
            drop(state);

            let mut written = out.write_all(&text);
            if written.is_ok() && untold > 0 {
                // What was dropped came after what was queued.
                written = out.write_all(&note(untold));
            }
            text.clear();
            text.shrink_to(KEPT_BYTES);

            let mut state = self.lock();
            state.is_writing = false;
            if written.is_err() {
                // The next lines may get through.
                state.untold += untold + lines as u64;
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

    /// Each write hands over its bytes, and returns once it is allowed to.
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
    fn lines_without_room_are_dropped_and_told_after_those_that_had_it() {
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
    fn lines_that_cannot_be_written_are_told_with_the_next() {
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
    fn a_flush_ends_though_nobody_reads() {
        let (queue, _texts, _allow, _) = queue();
        queue.push(b"1\n");
        queue.flush(Duration::from_millis(1));
    }
}
