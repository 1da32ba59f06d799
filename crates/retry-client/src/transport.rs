//! One attempt over the client's connections.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use http::{Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use retry_core::{BudgetCharge, Runtime as _, TokioRuntime};
use tokio::time::{Instant, timeout};

use crate::{
    base_url::BaseUrl,
    connection::{
        exchange::{Connection, ExchangeError},
        idle_connections::Reuse,
        upload_limit::UploadLimit,
    },
    endpoint::{
        endpoints::Endpoints,
        lease::Lease,
        local::LocalEndpoint,
        route::{NextEndpoint, Route},
        set::Parked,
    },
    error::Error,
    error_chain::BoxError,
    error_kind::ErrorKind,
    exchange_observer::{ExchangeEnd, ExchangeWatch},
    grpc::code_set::GrpcCodes,
    hedge::{
        delay::HedgeDelay,
        race::{Rank, Winner, race},
        timer::HedgeTimer,
    },
    lock::lock,
    media_type::has_grpc_status,
    request::{buffer_quota::BufferQuota, hop_by_hop::trim_values, replay::StreamBuffer},
    response::{
        buffering::{BufferLimits, ReadAhead},
        framing::check_framing,
        grpc_buffering::read_until_status,
        received_body::ReceivedBody,
    },
    retry::{
        attempt_request::{AttemptRequest, ReplayableRequest},
        failure::{Failure, FailureKind},
        judged_response::{BoxResponse, JudgedResponse},
        retry_loop::Transport,
    },
};

/// The maximum length of a body that soon follows its head.
const SHORT_RESPONSE: u64 = 64 * 1024;

/// How long a retry at another endpoint waits until the check of the first one shows what it costs. A server that is gone
/// refuses the check at once, but its whole machine may be gone.
const CHECK_WAIT: Duration = Duration::from_millis(100);

/// When a response is returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// When its head has arrived.
    Streamed,
    /// After its body was read ahead, within limits. If the connection closes meanwhile, the attempt has failed.
    Buffered(BufferLimits),
    /// When its body has arrived, of at most this size.
    Complete(usize),
}

/// Sends requests over the connections to the endpoints.
#[derive(Clone)]
pub(crate) struct HttpTransport {
    pub(crate) endpoints: Arc<Endpoints>,
    /// The base URL of the first endpoint, to which paths are appended.
    pub(crate) base_url: BaseUrl,
    pub(crate) upload_limit: Option<UploadLimit>,
    pub(crate) buffer_quota: BufferQuota,
    /// `None` if no request is sent to a second endpoint.
    pub(crate) hedge_delay: Option<Arc<HedgeDelay>>,
}

/// Sends the attempts of one call.
#[derive(Clone, Copy)]
pub(crate) struct CallTransport<'a> {
    pub(crate) transport: &'a HttpTransport,
    pub(crate) delivery: Delivery,
}

impl<'a> Transport for CallTransport<'a> {
    type Body = ReceivedBody;
    type Endpoint = Lease;

    fn pick<'b>(
        &mut self,
        request: AttemptRequest<'b>,
    ) -> Result<Lease, impl Future<Output = Result<Lease, Failure>> + Send + use<'a, 'b>> {
        let Self { transport, .. } = *self;
        let picked = transport.endpoints.pick(|| request.route().needs(request.is_repeatable()));
        if picked.is_err() {
            transport.release_upload(&request);
        }
        // Boxed, as the future that awaits it would contain it twice.
        picked.map_err(|parked| Box::pin(transport.wait(parked, request.route())))
    }

    fn send<'b>(
        &mut self,
        request: AttemptRequest<'b>,
        lease: Lease,
    ) -> impl Future<Output = Result<BoxResponse<ReceivedBody>, Failure>> + Send + use<'a, 'b> {
        let Self { transport, delivery } = *self;
        // An `async fn` would contain its arguments twice.
        let mut lease = Some(lease);
        async move {
            // An endpoint that is back but slow would stay ejected if its probes were canceled.
            let is_probe = lease.as_ref().is_some_and(Lease::is_probe);
            let mut outcome = match &transport.hedge_delay {
                Some(delay) if request.may_be_hedged() && !is_probe => {
                    Box::pin(transport.hedged_attempt(&request, &mut lease, delivery, delay)).await
                }
                _ => transport.attempt(&request, &mut lease, delivery).await,
            };
            if let Err(failure) = &mut outcome
                && failure.is_connection_closed()
                && request.is_repeatable()
                && let Some(local) = request.route().current()
            {
                drop(lease.take());
                // Boxed, as few attempts need it.
                if Box::pin(is_gone(local, request.route())).await {
                    failure.kind = FailureKind::CutOff;
                }
            }
            if outcome.as_ref().map_or(true, |judged| judged.judgment.is_failed()) {
                request.route().failed();
            }
            outcome
        }
    }

    async fn read_body(
        &mut self,
        request: &ReplayableRequest<'_>,
        judged: BoxResponse<ReceivedBody>,
    ) -> Result<BoxResponse<ReceivedBody>, Failure> {
        // After the trailers of a gRPC call, nothing is left.
        if !judged.response.body().is_unread() {
            return Ok(judged);
        }
        self.transport.read_ahead(judged, request, self.delivery, true).await
    }
}

/// Whether an endpoint that has closed a connection refuses others.
async fn is_gone(local: Arc<LocalEndpoint>, route: &Route) -> bool {
    let limit = if local.has_alternative(&route.used()) { CHECK_WAIT } else { Duration::MAX };
    timeout(limit, local.is_reachable(Instant::now())).await == Ok(false)
}

/// Classifies an error of a body that is read ahead.
fn body_failure(error: Error) -> Failure {
    let kind = match error.kind() {
        ErrorKind::Timeout => FailureKind::TimedOut,
        ErrorKind::TooLarge => FailureKind::Permanent,
        _ => FailureKind::MaybeProcessed,
    };
    Failure { error, kind }
}

impl HttpTransport {
    /// Sends the request, and waits for its response.
    async fn attempt(
        &self,
        request: &AttemptRequest<'_>,
        lease: &mut Option<Lease>,
        delivery: Delivery,
    ) -> Result<BoxResponse<ReceivedBody>, Failure> {
        if let Some((limit, stream)) = self.upload(request)
            && request.may_prefetch_body()
        {
            Box::pin(limit.prefetch(stream)).await;
        }
        let response = self.exchange(request, lease).await?;
        self.read_ahead(response, request.request, delivery, false).await
    }

    /// As [`attempt`](Self::attempt), but if there is no response after the delay, the request is sent to another endpoint
    /// as well.
    async fn hedged_attempt(
        &self,
        request: &AttemptRequest<'_>,
        lease: &mut Option<Lease>,
        delivery: Delivery,
        delay: &HedgeDelay,
    ) -> Result<BoxResponse<ReceivedBody>, Failure> {
        let route = request.route();
        let mut timer = HedgeTimer::new(delay.get());
        let second = async {
            let after = poll_fn(|cx| timer.poll_late(route.has_endpoint(), cx)).await;
            let (lease, charge) = self.hedge_lease(request)?;
            route.hedge(&lease.local, after);
            Some(async move {
                let (local, mut lease, _charge) = (Arc::clone(&lease.local), Some(lease), charge);
                let response = exchange_with(&local, &mut lease, request).await?;
                self.read_ahead(response, request.request, delivery, false).await
            })
        };
        let rank = |judged: &BoxResponse<ReceivedBody>| match judged.judgment.failure {
            None => Rank::Accepted,
            Some(failed) if failed.is_retry_forbidden => Rank::RetryForbidden,
            Some(_) => Rank::Failed,
        };
        let (outcome, winner) = race(self.attempt(request, lease, delivery), second, rank).await;
        if winner == Winner::Second {
            route.hedge_won();
        }
        if outcome.as_ref().is_ok_and(|judged| !judged.judgment.is_failed())
            && let Some(time) = timer.elapsed()
        {
            // If the first request was canceled, it would have taken longer. That is enough for a quantile.
            delay.record(time);
        }
        outcome
    }

    /// Returns what a second request needs: another endpoint, and the permission of the budget. `None` if it is not sent.
    fn hedge_lease(&self, request: &AttemptRequest<'_>) -> Option<(Lease, Option<BudgetCharge>)> {
        if !request.has_body_buffered() {
            return None;
        }
        let lease = self.endpoints.pick_other(&request.route().used())?;
        let charge = match request.budget() {
            Some(budget) => Some(budget.charge(TokioRuntime.now())?),
            None => None,
        };
        Some((lease, charge))
    }

    /// Reads the body of a response as far as `delivery` says; but not that of one which should be retried, unless it is the
    /// last.
    async fn read_ahead(
        &self,
        mut judged: BoxResponse<ReceivedBody>,
        request: &ReplayableRequest<'_>,
        delivery: Delivery,
        is_last: bool,
    ) -> Result<BoxResponse<ReceivedBody>, Failure> {
        if !is_last && judged.judgment.is_failed() {
            return Ok(judged);
        }
        let JudgedResponse { response, judgment } = &mut *judged;
        let read_ahead = match delivery {
            Delivery::Streamed => None,
            Delivery::Buffered(limits) if request.may_depend_on_trailers() && has_grpc_status(response.headers()) => {
                if judgment.status.grpc.is_none() {
                    // Boxed, as below.
                    let reading = Box::pin(read_until_status(response.body_mut(), limits, &self.buffer_quota));
                    reading.await.map_err(body_failure)?;
                }
                None
            }
            Delivery::Buffered(limits) => {
                if limits.allow_body(response) {
                    // Most short bodies arrive with their head.
                    poll_fn(|cx| Poll::Ready(response.body_mut().read_arrived(cx))).await.map_err(body_failure)?;
                }
                let (headers, repeatable) = (request.head.headers(), request.is_repeatable());
                ReadAhead::limited(limits, headers, response, repeatable, &self.buffer_quota)
            }
            Delivery::Complete(limit) => Some(ReadAhead::complete(limit, response.status())),
        };
        if let Some(read_ahead) = read_ahead {
            // Boxed, as most exchanges do not need it.
            Box::pin(read_ahead.read(response)).await.map_err(body_failure)?;
        }
        if let Some(trailers) = response.body().trailers()
            && !request.grpc_codes.is_empty()
        {
            *judgment = request.judge(response.status(), response.headers(), Some(trailers));
        }
        Ok(judged)
    }

    /// Returns the limit on uploads and the body, if it is a stream.
    fn upload<'a>(&'a self, request: &AttemptRequest<'a>) -> Option<(&'a UploadLimit, &'a Mutex<StreamBuffer>)> {
        self.upload_limit.as_ref().zip(request.stream())
    }

    /// Sends the request to an endpoint, and waits for the head of its response. If the endpoint turns out to be
    /// unreachable, the request goes to another one. That is not another attempt, as nothing was sent.
    async fn exchange(
        &self,
        request: &AttemptRequest<'_>,
        lease: &mut Option<Lease>,
    ) -> Result<BoxResponse<ReceivedBody>, Failure> {
        let route = request.route();
        loop {
            let local = match lease {
                Some(lease) => Arc::clone(&lease.local),
                None => Arc::clone(&lease.insert(Box::pin(self.pick_again(request)).await?).local),
            };
            route.begin(&local);
            if let Some((limit, stream)) = self.upload(request)
                // A shared connection has capacity for all uploads.
                && !local.pool.is_shared()
            {
                let acquired = Box::pin(limit.acquire(stream)).await;
                acquired.map_err(|error| Failure::connect(error, &local.endpoint.name))?;
            }
            match exchange_with(&local, lease, request).await {
                Err(Failure { kind: FailureKind::Unreachable, error }) => {
                    *lease = None;
                    route.failed();
                    let is_last = match self.endpoints.set.config.outage_wait {
                        // Endpoints that accept probes, but not requests, would keep it here without end.
                        Some(wait) => route.unreachable_since().elapsed() > wait,
                        None => route.next_endpoint() == NextEndpoint::Tried,
                    };
                    // A second request that is in flight is at another endpoint already.
                    if is_last || route.is_hedged() {
                        return Err(Failure { kind: FailureKind::Unreachable, error });
                    }
                }
                outcome => return outcome,
            }
        }
    }

    /// Gives the permit of an upload back before the request is parked: those that are sent before it may need it.
    fn release_upload(&self, request: &AttemptRequest<'_>) {
        if let Some((_, stream)) = self.upload(request) {
            lock(stream).release_permit();
        }
    }

    /// Chooses another endpoint, and waits until there is one.
    async fn pick_again(&self, request: &AttemptRequest<'_>) -> Result<Lease, Failure> {
        match self.endpoints.pick(|| request.route().needs(request.is_repeatable())) {
            Ok(lease) => Ok(lease),
            Err(parked) => {
                self.release_upload(request);
                self.wait(parked, request.route()).await
            }
        }
    }

    /// Waits until an endpoint is up, at most for the time that the call has left for that.
    async fn wait(&self, mut parked: Parked, route: &Route) -> Result<Lease, Failure> {
        let limit = self.endpoints.set.config.outage_wait.unwrap_or_default();
        let _guard = route.park(parked.ticket(), self.endpoints.set.last_outage());
        let released = async {
            loop {
                let slot = parked.released().await?;
                match self.endpoints.lease(slot) {
                    Some(lease) => return Some(lease),
                    // Its endpoint was removed meanwhile.
                    None => match self.endpoints.pick(|| route.needs(false)) {
                        Ok(lease) => return Some(lease),
                        Err(again) => parked = again,
                    },
                }
            }
        };
        match timeout(limit.saturating_sub(route.parked()), released).await {
            Ok(Some(lease)) => {
                route.released();
                Ok(lease)
            }
            _ => Err(Failure { error: route.outage_error(), kind: FailureKind::Outage }),
        }
    }
}

/// Sends the request over a connection to an endpoint. The response takes the lease.
///
/// If an idle connection turns out to be closed before anything was sent, the request goes to another connection. That is
/// not another attempt either.
async fn exchange_with(
    local: &Arc<LocalEndpoint>,
    lease: &mut Option<Lease>,
    request: &AttemptRequest<'_>,
) -> Result<BoxResponse<ReceivedBody>, Failure> {
    let reuse = if request.is_repeatable() { Reuse::Any } else { Reuse::Recent };
    loop {
        let mut connection = match local.pool.try_acquire(reuse) {
            Some(connection) => connection,
            None => {
                let began = Instant::now();
                let connected = local.check_if_canceled(local.pool.acquire(reuse)).await;
                connected.map_err(|error| connect_failure(local, error, began))?
            }
        };
        let mut watch = local.observe(request.head().method(), connection.reused);
        let mut error = match connection.exchange(request.message(), &local.base_url).await {
            Ok(response) => return accept(local, lease.take(), connection, request, response, watch),
            Err(ExchangeError::Stalled(timeout)) => {
                local.pool.remove_stalled(&connection, timeout);
                local.failed();
                let error = Error::stalled(timeout);
                watch.end(ExchangeEnd::Failed(&error));
                return Err(Failure { error, kind: FailureKind::TimedOut });
            }
            Err(ExchangeError::Failed(error)) => error,
        };
        // hyper returns a request that was not sent.
        if error.take_message().is_some() {
            request.not_sent();
            if connection.reused {
                watch.end(ExchangeEnd::NotSent);
                continue;
            }
        }
        let failure = Failure::exchange(error.into_error().into(), &local.endpoint.name);
        watch.end(match failure.kind {
            FailureKind::Refused => ExchangeEnd::Refused(&failure.error),
            _ => ExchangeEnd::Failed(&failure.error),
        });
        // Otherwise, the client's fault.
        if !matches!(failure.error.kind(), ErrorKind::BadInput | ErrorKind::RequestBody) {
            local.failed();
        }
        return Err(failure);
    }
}

/// Checks the head of a response.
fn accept(
    local: &LocalEndpoint,
    lease: Option<Lease>,
    connection: Box<Connection>,
    request: &AttemptRequest<'_>,
    mut response: Response<Incoming>,
    mut watch: ExchangeWatch,
) -> Result<BoxResponse<ReceivedBody>, Failure> {
    if response.version() == Version::HTTP_2 {
        trim_values(response.headers_mut());
    }
    if let Err(error) = check_framing(response.headers_mut()) {
        local.failed();
        let error = Error::bad_head(error.into());
        watch.end(ExchangeEnd::Failed(&error));
        return Err(Failure { error, kind: FailureKind::Permanent });
    }
    watch.head_received(response.status(), response.headers());
    let request = request.request;
    let judgment = request.judge(response.status(), response.headers(), None);
    let is_failure = judgment.is_server_error();
    let is_short = response.body().size_hint().exact().is_some_and(|length| length <= SHORT_RESPONSE);
    let has_status = is_failure || judgment.status.grpc.is_some();
    let in_trailers = if has_status { GrpcCodes::default() } else { request.grpc_codes };
    let lease = lease.map(|lease| lease.head_received(is_failure, is_short || !in_trailers.is_empty()));
    let response = response.map(|incoming| ReceivedBody::new(incoming, connection, lease, watch, in_trailers));
    Ok(Box::new(JudgedResponse { response, judgment }))
}

/// Notes that there is no connection to an endpoint, and classifies the error.
fn connect_failure(local: &Arc<LocalEndpoint>, error: BoxError, began: Instant) -> Failure {
    let is_down = local.connect_failed(&error, began);
    let failure = Failure::connect(error, &local.endpoint.name);
    match failure.kind {
        FailureKind::NotSent if is_down => return Failure { kind: FailureKind::Unreachable, ..failure },
        FailureKind::Permanent => local.failed(),
        _ => {}
    }
    failure
}
