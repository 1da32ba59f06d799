//! A proxy that does as little as possible: hyper's server, hyper-util's client, and the headers that every proxy of the
//! comparison adds. It is how fast a proxy on hyper can be.

use std::{fs::File, net::SocketAddr, path::Path};

use http::{
    Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, HOST},
};
use http_body_util::{BodyExt as _, Either, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, Error, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::{
    head::{prepare_request, prepare_response},
    options::Options,
    serve::serve,
};

type RequestBody = Either<Incoming, Empty<Bytes>>;
type ResponseBody = Either<Incoming, Empty<Bytes>>;

/// Retries, after the first attempt.
const RETRIES: u32 = 3;

/// Forwards requests to an upstream, `http://127.0.0.1:8080` or `https://localhost:8443`.
pub(crate) async fn run(address: &str, upstream: &str, options: Options) {
    let http2_clients = options.http2_clients;
    let proxy = Proxy::new(upstream.parse().unwrap(), &options);
    let respond = move |request: Request<Incoming>, peer| {
        let proxy = proxy.clone();
        async move { proxy.forward(request, peer).await }
    };
    serve(address, http2_clients, respond).await;
}

#[derive(Clone)]
struct Proxy {
    client: Client<HttpsConnector<HttpConnector>, RequestBody>,
    upstream: Uri,
    version: Version,
    retry: bool,
}

impl Proxy {
    fn new(upstream: Uri, options: &Options) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_only(options.http2_upstream)
            .build(connector(options.ca.as_deref()));
        let version = if options.http2_upstream { Version::HTTP_2 } else { Version::HTTP_11 };
        Self { client, upstream, version, retry: options.retry }
    }

    async fn forward(&self, mut request: Request<Incoming>, peer: SocketAddr) -> Response<ResponseBody> {
        let authority = request.uri().authority().map(ToString::to_string);
        let id = prepare_request(request.headers_mut(), peer, authority.as_deref());
        request.headers_mut().remove(CONNECTION);
        if self.version == Version::HTTP_2 {
            // The target has the host. nginx rejects requests with two.
            request.headers_mut().remove(HOST);
        }
        let mut target = self.upstream.clone().into_parts();
        target.path_and_query = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from_parts(target).unwrap();
        *request.version_mut() = self.version;
        let response = if self.retry {
            self.retry(&request.map(drop)).await
        } else {
            self.client.request(request.map(Either::Left)).await
        };
        let mut response = match response {
            Ok(response) => response.map(Either::Left),
            Err(_) => {
                let mut response = Response::new(Either::Right(Empty::new()));
                *response.status_mut() = StatusCode::BAD_GATEWAY;
                response
            }
        };
        prepare_response(response.headers_mut(), id);
        response
    }

    /// Sends a request without a body until the response is no 503.
    async fn retry(&self, request: &Request<()>) -> Result<Response<Incoming>, Error> {
        for _ in 0..RETRIES {
            let response = self.client.request(request.clone().map(|()| Either::Right(Empty::new()))).await?;
            if response.status() != StatusCode::SERVICE_UNAVAILABLE {
                return Ok(response);
            }
            // A response that is read to its end leaves its connection for the next attempt.
            let _ = response.into_body().collect().await;
        }
        self.client.request(request.clone().map(|()| Either::Right(Empty::new()))).await
    }
}

/// Connects with TCP, or with TLS to an upstream with this certificate.
fn connector(ca: Option<&Path>) -> HttpsConnector<HttpConnector> {
    let mut roots = RootCertStore::empty();
    if let Some(ca) = ca {
        let certificates = CertificateDer::pem_reader_iter(File::open(ca).unwrap());
        roots.add_parsable_certificates(certificates.map(Result::unwrap));
    }
    let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions().wrap_connector(tcp)
}
