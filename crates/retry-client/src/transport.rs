//! One attempt over the client's connections.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex},
    task::Poll,
};

use http::Version;
use tokio::time::{Instant, timeout};

use crate::{
    base_url::BaseUrl,
    connection::{exchange::ExchangeError, idle_connections::Reuse, upload_limit::UploadLimit},
    endpoint::{
        local::{Endpoints, Lease},
        route::{NextEndpoint, Route},
        set::Parked,
    },
    error::{Error, ErrorKind},
    error_chain::BoxError,
    request::{buffer_quota::BufferQuota, hop_by_hop::trim_values, replay::StreamBuffer},
    response::{
        buffering::{BufferLimits, ReadAhead},
        framing::check_framing,
        received_body::ReceivedBody,
    },
    retry::{
        attempt_request::AttemptRequest,
        failure::{Failure, FailureKind},
        retry_loop::{BoxResponse, Transport},
    },
};

/// When a response is returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// When its head has arrived.
    Streamed,
    /// After its body was read ahead, within limits. If the connection closes meanwhile, the attempt has failed.
    Buffered(BufferLimits),
    /// When its body has arrived.
    Complete,
}

/// Sends requests over the connections to the endpoints.
#[derive(Clone)]
pub(crate) struct HttpTransport {
    pub(crate) endpoints: Arc<Endpoints>,
    /// The base URL of the first endpoint, to which paths are appended.
    pub(crate) base_url: BaseUrl,
    pub(crate) upload_limit: Option<UploadLimit>,
    pub(crate) buffer_quota: BufferQuota,
}

/// Sends the attempts of one call.
pub(crate) struct CallTransport<'a> {
    pub(crate) transport: &'a HttpTransport,
    pub(crate) delivery: Delivery,
}

impl<'a> Transport for CallTransport<'a> {
    type Body = ReceivedBody;

    fn send<'b>(
        &mut self,
        request: AttemptRequest<'b>,
    ) -> impl Future<Output = Result<BoxResponse<ReceivedBody>, Failure>> + use<'a, 'b> {
        let Self { transport, delivery } = *self;
        async move {
            let route = request.route();
            let outcome = transport.attempt(request, delivery).await;
            if outcome.as_ref().map_or(true, |response| request.is_failure(response.status())) {
                route.failed();
            }
            outcome
        }
    }
}

/// Classifies an error of a body that is read ahead.
fn body_failure(error: Error) -> Failure {
    let kind = if error.kind() == ErrorKind::Timeout { FailureKind::TimedOut } else { FailureKind::MaybeProcessed };
    Failure { error, kind }
}

impl HttpTransport {
    /// Sends the request, and waits for its response.
    async fn attempt(
        &self,
        request: AttemptRequest<'_>,
        delivery: Delivery,
    ) -> Result<BoxResponse<ReceivedBody>, Failure> {
        let (repeatable, request_headers) = (request.is_repeatable(), request.head().headers());
        let upload = self.upload_limit.as_ref().zip(request.stream());
        if let Some((limit, stream)) = upload
            && request.may_prefetch_body()
        {
            Box::pin(limit.prefetch(stream)).await;
        }
        let mut response = self.exchange(request, upload).await?;
        let read_ahead = match delivery {
            Delivery::Streamed => None,
            Delivery::Buffered(limits) => {
                if limits.allow_body(&response) {
                    // Most short bodies arrive with their head.
                    poll_fn(|cx| Poll::Ready(response.body_mut().read_arrived(cx))).await.map_err(body_failure)?;
                }
                ReadAhead::limited(limits, request_headers, &response, repeatable, &self.buffer_quota)
            }
            Delivery::Complete => Some(ReadAhead::complete()),
        };
        let Some(read_ahead) = read_ahead else { return Ok(response) };
        // Boxed, as most exchanges do not need it.
        Box::pin(read_ahead.read(response)).await.map_err(body_failure)
    }

    /// Sends the request to an endpoint, and waits for the head of its response. If the endpoint turns out to be
    /// unreachable, the request goes to another one. That is not another attempt, as nothing was sent.
    async fn exchange(
        &self,
        request: AttemptRequest<'_>,
        upload: Option<(&UploadLimit, &Mutex<StreamBuffer>)>,
    ) -> Result<BoxResponse<ReceivedBody>, Failure> {
        let route = request.route();
        loop {
            let lease = match self.endpoints.pick(route.needs(request.is_repeatable())) {
                Ok(lease) => lease,
                Err(parked) => Box::pin(self.wait(parked, route)).await?,
            };
            route.begin(&lease);
            if let Some((limit, stream)) = upload
                // A shared connection has capacity for all uploads.
                && !lease.local.pool.is_shared()
            {
                let acquired = Box::pin(limit.acquire(stream)).await;
                acquired.map_err(|error| Failure::connect(error, &lease.local.endpoint.name))?;
            }
            match self.exchange_with(lease, request).await {
                Err(Failure { kind: FailureKind::Unreachable, error }) => {
                    route.failed();
                    if route.next_endpoint() == NextEndpoint::Tried && !self.endpoints.set.parks() {
                        return Err(Failure { kind: FailureKind::Unreachable, error });
                    }
                }
                outcome => return outcome,
            }
        }
    }

    /// Waits until an endpoint is up, at most for the time that the call has left for that.
    async fn wait(&self, mut parked: Parked, route: &Route) -> Result<Lease, Failure> {
        let limit = self.endpoints.set.config.outage_wait.unwrap_or_default();
        let _guard = route.park(self.endpoints.set.last_outage());
        let released = async {
            loop {
                // Without a slot, the client is gone.
                let slot = parked.released().await?;
                match self.endpoints.lease(slot) {
                    Some(lease) => return Some(lease),
                    // Its endpoint was removed meanwhile.
                    None => match self.endpoints.pick(route.needs(false)) {
                        Ok(lease) => return Some(lease),
                        Err(again) => parked = again,
                    },
                }
            }
        };
        match timeout(limit.saturating_sub(route.parked()), released).await {
            Ok(Some(lease)) => Ok(lease),
            _ => Err(Failure { error: route.outage_error(), kind: FailureKind::Outage }),
        }
    }

    /// Sends the request over a connection to an endpoint.
    ///
    /// If an idle connection turns out to be closed before anything was sent, the request goes to another connection. That
    /// is not another attempt either.
    async fn exchange_with(
        &self,
        mut lease: Lease,
        request: AttemptRequest<'_>,
    ) -> Result<BoxResponse<ReceivedBody>, Failure> {
        let local = Arc::clone(&lease.local);
        let reuse = if request.is_repeatable() { Reuse::Any } else { Reuse::Recent };
        loop {
            let mut connection = match local.pool.try_acquire(reuse) {
                Some(connection) => connection,
                None => match local.pool.acquire(reuse).await {
                    Ok(connection) => connection,
                    Err(error) => return Err(connect_failure(&mut lease, error)),
                },
            };
            let mut error = match connection.exchange(request.message(), &local.base_url).await {
                Ok(mut response) => {
                    if response.version() == Version::HTTP_2 {
                        trim_values(response.headers_mut());
                    }
                    if let Err(error) = check_framing(response.headers_mut()) {
                        lease.failed();
                        return Err(Failure { error: Error::bad_head(error.into()), kind: FailureKind::Permanent });
                    }
                    if request.is_failure(response.status()) {
                        lease.failed();
                    } else {
                        lease.responded();
                    }
                    return Ok(Box::new(response.map(|incoming| ReceivedBody::new(incoming, connection, lease))));
                }
                Err(ExchangeError::Stalled(timeout)) => {
                    local.pool.remove_stalled(&connection, timeout);
                    lease.failed();
                    return Err(Failure { error: Error::stalled(timeout), kind: FailureKind::TimedOut });
                }
                Err(ExchangeError::Failed(error)) => error,
            };
            // hyper returns a request that was not sent.
            let unsent = error.take_message().is_some();
            if unsent {
                request.not_sent();
            }
            if !unsent || !connection.reused {
                drop(connection);
                let failure = Failure::exchange(error.into_error().into(), &local.endpoint.name);
                return Err(Box::pin(after_failure(lease, failure, request)).await);
            }
        }
    }
}

/// Notes that there is no connection to an endpoint, and classifies the error.
fn connect_failure(lease: &mut Lease, error: BoxError) -> Failure {
    let is_down = lease.local.connect_failed(&error);
    let failure = Failure::connect(error, &lease.local.endpoint.name);
    match failure.kind {
        FailureKind::NotSent if is_down => Failure { kind: FailureKind::Unreachable, ..failure },
        kind => {
            if kind == FailureKind::Permanent {
                lease.failed();
            }
            failure
        }
    }
}

/// Notes a failed exchange. If its connection was closed, finds out whether the endpoint went down with it.
async fn after_failure(mut lease: Lease, failure: Failure, request: AttemptRequest<'_>) -> Failure {
    let ended = Instant::now();
    match failure.error.kind() {
        // The client's fault.
        ErrorKind::BadInput => return failure,
        _ => lease.failed(),
    }
    let is_closed = failure.error.kind() == ErrorKind::ConnectionClosed && failure.kind != FailureKind::NotSent;
    if lease.local.is_managed() && is_closed && request.is_repeatable() && !lease.local.is_reachable(ended).await {
        return Failure { kind: FailureKind::CutOff, ..failure };
    }
    failure
}
