//! Closes a connection gracefully: while the server drains, when it has been idle for too long, or when its slot is
//! needed.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use tokio::time::Instant;

use super::{connection_state::ConnectionState, timer::LazyTimer};

/// How long a closing connection stays open for a request that the client may have sent already.
pub(crate) const CLOSE_DELAY: Duration = Duration::from_millis(100);

/// Polls a connection of hyper, and closes it when it is asked to or has been idle for too long: gracefully, so that
/// requests in flight are finished, and by force once there are none. `idle_timeout` is `None` if the IO has a timeout
/// for idle connections.
pub(crate) fn drive<T: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<Box<T>>,
    graceful_shutdown: fn(Pin<&mut T>),
    state: ConnectionState,
    idle_timeout: Option<Duration>,
    client_timeout: Duration,
) -> impl Future<Output = hyper::Result<()>> {
    let (mut is_registered, mut closing_since) = (false, None);
    // For the idle timeout, and then for the end of the graceful shutdown.
    let mut timer = LazyTimer::default();
    poll_fn(move |cx| {
        if let Poll::Ready(output) = connection.as_mut().poll(cx) {
            return Poll::Ready(output);
        }
        if !is_registered {
            // The connection stays in this task.
            is_registered = true;
            state.set_driver(cx.waker());
        }
        let closing_since = match closing_since {
            Some(since) => since,
            None => {
                let is_idle = idle_timeout.is_some_and(|limit| {
                    let idle_since = state.idle_since(client_timeout).unwrap_or_else(Instant::now);
                    let due = idle_since.checked_add(limit);
                    due.is_some_and(|due| timer.poll_until(due, cx).is_ready())
                });
                if !state.is_closing() && !is_idle {
                    return Poll::Pending;
                }
                let now = *closing_since.insert(Instant::now());
                state.close();
                graceful_shutdown(connection.as_mut());
                if let Poll::Ready(output) = connection.as_mut().poll(cx) {
                    return Poll::Ready(output);
                }
                now
            }
        };
        // Requests in flight and unsent responses may take their time; the delay begins after them.
        let Some(idle_since) = state.idle_since(client_timeout) else { return Poll::Pending };
        timer.poll_until(closing_since.max(idle_since) + CLOSE_DELAY, cx).map(Ok)
    })
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Drives a connection that does nothing by itself.
    async fn drive(state: &ConnectionState, idle_timeout: Option<Duration>) {
        super::drive(Box::pin(pending()), |_| {}, state.clone(), idle_timeout, 60 * SECOND).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_soon() {
        let state = ConnectionState::default();
        state.close();
        let begin = Instant::now();
        drive(&state, None).await;
        assert_eq!(begin.elapsed(), CLOSE_DELAY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_in_flight_is_finished() {
        let state = ConnectionState::default();
        let request = state.begin_request();
        state.close();
        tokio::spawn(async move {
            sleep(5 * SECOND).await;
            drop(request);
        });
        let begin = Instant::now();
        drive(&state, None).await;
        assert_eq!(begin.elapsed(), 5 * SECOND + CLOSE_DELAY);
    }

    #[tokio::test(start_paused = true)]
    async fn the_idle_timeout_begins_after_the_last_request() {
        let state = ConnectionState::default();
        let request = state.begin_request();
        tokio::spawn(async move {
            sleep(5 * SECOND).await;
            drop(request);
        });
        let begin = Instant::now();
        drive(&state, Some(2 * SECOND)).await;
        assert_eq!(begin.elapsed(), 7 * SECOND + CLOSE_DELAY);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unsent_response_is_kept_while_the_client_reads_some_of_it() {
        let state = ConnectionState::default();
        state.add_unsent(2);
        state.close();
        let begin = Instant::now();
        drive(&state, None).await;
        assert_eq!(begin.elapsed(), 60 * SECOND + CLOSE_DELAY, "the client reads nothing");

        let state = ConnectionState::default();
        state.add_unsent(2);
        let reader = state.clone();
        tokio::spawn(async move {
            sleep(50 * SECOND).await;
            reader.remove_unsent(1);
        });
        let begin = Instant::now();
        drive(&state, Some(10 * SECOND)).await;
        assert_eq!(begin.elapsed(), (50 + 60 + 10) * SECOND + CLOSE_DELAY, "the client reads one byte");
    }
}
