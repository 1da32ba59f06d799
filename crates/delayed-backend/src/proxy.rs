//! Passes requests to a real server, and its responses back.
//!
//! Each request has a connection of its own to the upstream, over HTTP/1.1, and is sent at most once. With connections
//! that are kept, an upstream that closes an idle one would fail requests that no script meant to fail.

mod head;
pub(crate) mod upstream;

use std::error::Error;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, StatusCode};
use http_body::Body;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::proxy::upstream::Upstream;
use crate::routes::responses::{self, Response};

/// Passes requests to an upstream.
#[derive(Debug)]
pub(crate) struct Proxy {
    upstream: Upstream,
    /// The name of this backend in `Via`. It is random, so that another backend has another one.
    pseudonym: String,
}

/// Why there is no response from the upstream.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot connect to the upstream {0}: {1}")]
    Connect(Upstream, io::Error),
    #[error("no valid response from the upstream {0}: {error}", error = chain(.1))]
    Response(Upstream, hyper::Error),
    #[error("the upstream {0} switched protocols without being asked to")]
    Upgrade(Upstream),
    #[error("the request has come back: the upstream {0} passes requests to this backend")]
    Loop(Upstream),
    #[error("CONNECT is not supported")]
    Tunnel,
    #[error("The body is incomplete")]
    Request,
}

impl Failure {
    fn status(&self) -> StatusCode {
        match self {
            Self::Connect(..) | Self::Response(..) | Self::Upgrade(_) => StatusCode::BAD_GATEWAY,
            Self::Loop(_) => StatusCode::LOOP_DETECTED,
            Self::Tunnel => StatusCode::NOT_IMPLEMENTED,
            Self::Request => StatusCode::BAD_REQUEST,
        }
    }
}

impl Proxy {
    pub(crate) fn new(upstream: Upstream) -> Self {
        // Hashers have random keys.
        let random = RandomState::new().build_hasher().finish();
        Self { upstream, pseudonym: format!("delayed-backend-{random:016x}") }
    }

    /// Passes a request to the upstream, once. Returns its response, or one that says why there is none.
    pub(crate) async fn forward<B>(&self, request: &Parts, body: B) -> Response
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        match self.exchange(request, body).await {
            Ok(response) => received(&self.upstream, request, response),
            Err(failure) => {
                log::warn!("{} {}: {failure}", request.method, request.uri.path());
                responses::error(failure.status(), &failure.to_string(), request)
            }
        }
    }

    async fn exchange<B>(&self, request: &Parts, body: B) -> Result<http::Response<Incoming>, Failure>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let upstream = || self.upstream.clone();
        if request.method == Method::CONNECT {
            return Err(Failure::Tunnel);
        }
        if head::is_via(&request.headers, &self.pseudonym) {
            return Err(Failure::Loop(upstream()));
        }
        let stream = connect(&self.upstream).await.map_err(|error| Failure::Connect(upstream(), error))?;
        let failed = |error: hyper::Error| match error.is_user() {
            // The body of the request, which comes from the client.
            true => Failure::Request,
            false => Failure::Response(upstream(), error),
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        // Ends when the exchange has, or when the request or the response is dropped. Its errors are those of the exchange.
        tokio::spawn(connection);
        let request = Request::from_parts(head::to_upstream(request, &self.upstream, &self.pseudonym), body);
        let response = sender.send_request(request).await.map_err(failed)?;
        match response.status() {
            StatusCode::SWITCHING_PROTOCOLS => Err(Failure::Upgrade(upstream())),
            _ => Ok(response),
        }
    }
}

async fn connect(upstream: &Upstream) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((upstream.host(), upstream.port())).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Turns the upstream's response into one of the backend.
fn received(upstream: &Upstream, request: &Parts, response: http::Response<Incoming>) -> Response {
    let (mut head, body) = response.into_parts();
    head::from_upstream(&mut head, request, &body.size_hint());
    let (upstream, path) = (upstream.clone(), request.uri.path().to_owned());
    let body = body.map_err(move |error| {
        log::warn!("{path}: the response of the upstream {upstream} is incomplete: {}", chain(&error));
        // Over HTTP/1.1, any error closes the connection.
        h2::Error::from(h2::Reason::INTERNAL_ERROR)
    });
    Response::from_parts(head, body.boxed_unsync())
}

/// Returns the messages of an error and its sources.
fn chain(error: &(dyn Error + 'static)) -> String {
    let messages = std::iter::successors(Some(error), |&error| error.source()).map(ToString::to_string);
    messages.collect::<Vec<_>>().join(": ")
}
