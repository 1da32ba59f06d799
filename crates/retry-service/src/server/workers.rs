//! Which runtime serves a connection.
//!
//! A connection, its requests and their connections to the upstream stay on one runtime. With a thread for each, nothing
//! passes between threads while a request is served.

use std::{
    io, net,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::{net::TcpStream, runtime::Handle};

/// The runtimes that serve connections, and what each needs for it.
#[derive(Debug)]
pub(crate) struct Workers<T> {
    /// Its runtime accepts the connections.
    first: Worker<T>,
    others: Vec<Worker<T>>,
}

/// A runtime that serves connections.
#[derive(Debug)]
pub(crate) struct Worker<T> {
    pub(crate) runtime: Handle,
    pub(crate) context: T,
    accepts: bool,
    connections: Arc<AtomicUsize>,
}

/// A connection that was handed to a worker.
#[derive(Debug)]
pub(crate) enum HandedOver {
    /// It is registered with the worker's runtime, which accepted it.
    Registered(TcpStream),
    Unregistered(net::TcpStream),
}

/// Counts a connection of a worker until this is dropped.
#[derive(Debug)]
pub(crate) struct WorkerGuard(Arc<AtomicUsize>);

impl<T> Workers<T> {
    /// Creates a worker for the current runtime, which accepts the connections.
    pub(crate) fn new(context: T) -> Self {
        Self { first: Worker::new(Handle::current(), context, true), others: Vec::new() }
    }

    /// Adds a worker for another runtime.
    pub(crate) fn add(&mut self, runtime: Handle, context: T) {
        self.others.push(Worker::new(runtime, context, false));
    }

    /// Returns the worker with the fewest open connections: a few connections that stay open are balanced, too.
    pub(crate) fn least_busy(&self) -> &Worker<T> {
        let count = |worker: &Worker<T>| worker.connections.load(Relaxed);
        // Of equals the first, so that connections one after the other all use its connections to the upstream.
        self.others.iter().fold(&self.first, |least, worker| if count(worker) < count(least) { worker } else { least })
    }
}

impl<T> Worker<T> {
    fn new(runtime: Handle, context: T, accepts: bool) -> Self {
        Self { runtime, context, accepts, connections: Arc::default() }
    }

    /// Takes a connection away from the runtime that accepted it, unless that is the worker's own.
    pub(crate) fn hand_over(&self, stream: TcpStream) -> io::Result<HandedOver> {
        if self.accepts {
            return Ok(HandedOver::Registered(stream));
        }
        stream.into_std().map(HandedOver::Unregistered)
    }

    /// Counts another connection.
    pub(crate) fn count(&self) -> WorkerGuard {
        self.connections.fetch_add(1, Relaxed);
        WorkerGuard(Arc::clone(&self.connections))
    }
}

impl HandedOver {
    /// Registers the connection with the current runtime, which is the worker's.
    pub(crate) fn register(self) -> io::Result<TcpStream> {
        match self {
            Self::Registered(stream) => Ok(stream),
            Self::Unregistered(stream) => TcpStream::from_std(stream),
        }
    }
}

impl Drop for WorkerGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_worker_with_the_fewest_connections_gets_the_next() {
        let mut workers = Workers::new(0);
        workers.add(Handle::current(), 1);
        workers.add(Handle::current(), 2);
        let open = || {
            let worker = workers.least_busy();
            (worker.context, worker.count())
        };
        let mut connections: Vec<_> = (0..6).map(|_| open()).collect();
        assert_eq!(connections.iter().map(|(worker, _)| *worker).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2]);
        connections.retain(|(worker, _)| *worker != 1);
        assert_eq!([open(), open(), open()].map(|(worker, _)| worker), [1, 1, 0]);
    }
}
