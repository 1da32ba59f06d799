//! The open connections of a server: all are closed when it drains, and an idle one when there are too many.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::connection_state::ConnectionState;

/// How long a new connection may wait for its first request before it can be closed in favor of another one.
const FIRST_REQUEST_TIME: Duration = Duration::from_secs(1);

/// The open connections. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenConnections(Arc<Mutex<Connections>>);

#[derive(Debug, Default)]
struct Connections {
    next_id: u64,
    open: HashMap<u64, ConnectionState>,
}

/// Counts a connection as open until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenGuard {
    connections: OpenConnections,
    id: u64,
}

impl OpenConnections {
    pub(crate) fn insert(&self, connection: ConnectionState) -> OpenGuard {
        let mut connections = self.lock();
        let id = connections.next_id;
        connections.next_id += 1;
        connections.open.insert(id, connection);
        OpenGuard { connections: self.clone(), id }
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().open.len()
    }

    /// Closes the connection that has been idle for the longest time, if there is one. A connection whose client does
    /// not read its response counts as idle after `client_timeout`.
    pub(crate) fn close_idlest(&self, client_timeout: Duration) {
        let now = Instant::now();
        let connections = self.lock();
        let idle = connections.open.values().filter_map(|connection| {
            let since = connection.idle_since(client_timeout).filter(|_| !connection.is_closing())?;
            let idle_time = now.checked_duration_since(since)?;
            (connection.had_request() || idle_time > FIRST_REQUEST_TIME).then_some((idle_time, connection))
        });
        if let Some((_, connection)) = idle.max_by_key(|(idle_time, _)| *idle_time) {
            connection.close();
        }
    }

    /// Closes every connection as soon as nothing is in flight on it.
    pub(crate) fn close_all(&self) {
        self.lock().open.values().for_each(ConnectionState::close);
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.connections.lock().open.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_connection_is_closed() {
        let open = OpenConnections::default();
        let connections: Vec<_> = (0..4).map(|_| ConnectionState::default()).collect();
        let _guards: Vec<_> = connections.iter().map(|connection| open.insert(connection.clone())).collect();
        let closing = || connections.iter().map(ConnectionState::is_closing).collect::<Vec<_>>();
        // The first has a request in flight, the second and third have had one, the fourth is new.
        let _request = connections[0].begin_request();
        drop(connections[2].begin_request());
        tokio::time::advance(SECOND / 2).await;
        drop(connections[1].begin_request());
        open.close_idlest(60 * SECOND);
        assert_eq!(closing(), [false, false, true, false]);
        open.close_idlest(60 * SECOND);
        assert_eq!(closing(), [false, true, true, false]);
        open.close_idlest(60 * SECOND);
        assert_eq!(closing(), [false, true, true, false], "a new connection has a second for its first request");
        tokio::time::advance(SECOND).await;
        open.close_idlest(60 * SECOND);
        assert_eq!(closing(), [false, true, true, true]);
    }
}
