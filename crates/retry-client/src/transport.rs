//! One attempt over the client's connections.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex},
    task::Poll,
};

use http::Version;

use crate::{
    base_url::BaseUrl,
    connection::{exchange::ExchangeError, idle_connections::Reuse, pool::Pool, upload_limit::UploadLimit},
    error::{Error, ErrorKind},
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

/// Sends requests over the connections to one server.
#[derive(Clone)]
pub(crate) struct HttpTransport {
    pub(crate) pool: Arc<Pool>,
    pub(crate) base_url: BaseUrl,
    /// The server and its proxy, for messages.
    pub(crate) server: String,
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
            let (repeatable, request_headers) = (request.is_repeatable(), request.head().headers());
            if let Some((limit, stream)) = transport.upload_limit.as_ref().zip(request.stream()) {
                Box::pin(transport.prepare_upload(limit, &request, stream)).await?;
            }
            let mut response = transport.exchange(request).await?;
            let read_ahead = match delivery {
                Delivery::Streamed => None,
                Delivery::Buffered(limits) => {
                    if limits.allow_body(&response) {
                        // Most short bodies arrive with their head.
                        poll_fn(|cx| Poll::Ready(response.body_mut().read_arrived(cx))).await.map_err(body_failure)?;
                    }
                    ReadAhead::limited(limits, request_headers, &response, repeatable, &transport.buffer_quota)
                }
                Delivery::Complete => Some(ReadAhead::complete()),
            };
            let Some(read_ahead) = read_ahead else { return Ok(response) };
            // Boxed, as most exchanges do not need it.
            Box::pin(read_ahead.read(response)).await.map_err(body_failure)
        }
    }
}

/// Classifies an error of a body that is read ahead.
fn body_failure(error: Error) -> Failure {
    let kind = if error.kind() == ErrorKind::Timeout { FailureKind::TimedOut } else { FailureKind::MaybeProcessed };
    Failure { error, kind }
}

impl HttpTransport {
    /// Waits until a request with a streamed body may take a connection.
    async fn prepare_upload(
        &self,
        limit: &UploadLimit,
        request: &AttemptRequest<'_>,
        stream: &Mutex<StreamBuffer>,
    ) -> Result<(), Failure> {
        if request.may_prefetch_body() {
            limit.prefetch(stream).await;
        }
        // A shared connection has capacity for all uploads.
        if self.pool.is_shared() {
            return Ok(());
        }
        limit.acquire(stream).await.map_err(|error| Failure::connect(error, &self.server))
    }

    /// Sends the request, and waits for the head of its response.
    ///
    /// If an idle connection turns out to be closed before anything was sent, the request goes to another connection. That
    /// is not another attempt, as nothing was sent.
    async fn exchange(&self, request: AttemptRequest<'_>) -> Result<BoxResponse<ReceivedBody>, Failure> {
        let reuse = if request.is_repeatable() { Reuse::Any } else { Reuse::Recent };
        loop {
            let mut connection = match self.pool.try_acquire(reuse) {
                Some(connection) => connection,
                None => self.pool.acquire(reuse).await.map_err(|error| Failure::connect(error, &self.server))?,
            };
            let mut error = match connection.exchange(request.message(), &self.base_url).await {
                Ok(mut response) => {
                    if response.version() == Version::HTTP_2 {
                        trim_values(response.headers_mut());
                    }
                    check_framing(response.headers_mut()).map_err(|error| Failure {
                        error: Error::bad_head(error.into()),
                        kind: FailureKind::Permanent,
                    })?;
                    return Ok(Box::new(response.map(|incoming| ReceivedBody::new(incoming, connection))));
                }
                Err(ExchangeError::Stalled(timeout)) => {
                    self.pool.remove_stalled(&connection, timeout);
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
                return Err(Failure::exchange(error.into_error().into(), &self.server));
            }
        }
    }
}
