//! A proxy without retries: hyper's server and hyper-util's client, with nothing between them.

use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Either, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};

use crate::serve::serve;

pub(crate) async fn run(address: &str, upstream: &str) {
    let client =
        Client::builder(TokioExecutor::new()).timer(TokioTimer::new()).pool_timer(TokioTimer::new()).build_http();
    let upstream: Uri = format!("http://{upstream}").parse().unwrap();
    let respond = move |mut request: Request<Incoming>| {
        let mut parts = upstream.clone().into_parts();
        parts.path_and_query = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from_parts(parts).unwrap();
        let response = client.request(request);
        async {
            match response.await {
                Ok(response) => response.map(Either::Left),
                Err(_) => {
                    let mut response =
                        Response::new(Either::Right(Empty::<Bytes>::new().map_err(|never| match never {})));
                    *response.status_mut() = StatusCode::BAD_GATEWAY;
                    response
                }
            }
        }
    };
    serve(address, respond).await;
}
