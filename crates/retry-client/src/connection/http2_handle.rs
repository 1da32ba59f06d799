//! Handles to an HTTP/2 connection, which all exchanges share.

use std::{sync::Arc, time::Duration};

use hyper::client::conn::http2;
use tokio::{runtime::Handle, task::AbortHandle, time::sleep};

use crate::{activity::Activity, request::replay::AttemptBody};

/// How long the connection has to shut down after its last handle was dropped.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// A handle to an HTTP/2 connection. The pool keeps one, and each exchange gets another.
#[derive(Clone, Debug)]
pub(crate) struct Http2Handle {
    pub(crate) sender: http2::SendRequest<AttemptBody>,
    /// Of the connection; each exchange has its own.
    activity: Activity,
    task: Arc<ConnectionTask>,
}

/// The task that drives the connection. It ends after the last handle was dropped, but a blocked write could keep it
/// alive.
#[derive(Debug)]
struct ConnectionTask(AbortHandle);

impl Drop for ConnectionTask {
    fn drop(&mut self) {
        let task = self.0.clone();
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                sleep(SHUTDOWN_TIMEOUT).await;
                task.abort();
            })),
            Err(_) => task.abort(),
        }
    }
}

impl Http2Handle {
    /// Creates the first handle.
    pub(crate) fn new(sender: http2::SendRequest<AttemptBody>, activity: Activity, task: AbortHandle) -> Self {
        Self { sender, activity, task: Arc::new(ConnectionTask(task)) }
    }

    /// Whether there are other handles.
    pub(crate) fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.task) > 1
    }

    /// Whether both are handles to the same connection.
    pub(crate) fn is_same_connection(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.task, &other.task)
    }

    /// Whether nothing was received for half of this time. Not for all of it: a server that stalls may have sent the
    /// beginning of a frame after the exchange began.
    pub(crate) fn is_stalled(&self, timeout: Duration) -> bool {
        self.activity.since_last_read() >= timeout / 2
    }
}
