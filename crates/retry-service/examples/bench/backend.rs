//! A backend with the behaviors that nginx, the backend of all other comparisons, does not have.

use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;

use crate::{head::X_REQUEST_ID, serve::serve};

const TEXT: &str = "Hello World!!!";
const ATTEMPTS: u32 = 4;

#[derive(Clone, Copy)]
enum Behavior {
    /// Respond with the headers of the request.
    Echo,
    /// Respond with 200 when the request's body has been read.
    Ok,
    /// Respond with 503 to the first three attempts of each request.
    Retry,
    /// Respond with 503 to all requests.
    Busy,
    /// Never respond.
    Hang,
}

/// The attempts so far, by the id of the request, which is the same for all its attempts.
type Attempts = Arc<Mutex<HashMap<HeaderValue, u32>>>;

pub(crate) async fn run(address: &str, behavior: &str) {
    let behavior = match behavior {
        "echo" => Behavior::Echo,
        "ok" => Behavior::Ok,
        "retry" => Behavior::Retry,
        "busy" => Behavior::Busy,
        "hang" => Behavior::Hang,
        other => panic!("{other}: expected echo, ok, retry, busy or hang"),
    };
    let attempts = Attempts::default();
    let respond = move |mut request: Request<Incoming>, _| {
        let attempts = attempts.clone();
        async move {
            let (status, body) = match behavior {
                Behavior::Echo => (StatusCode::OK, text_of(request.headers()).into()),
                Behavior::Ok => {
                    while let Some(Ok(_)) = request.body_mut().frame().await {}
                    (StatusCode::OK, Bytes::from_static(TEXT.as_bytes()))
                }
                Behavior::Retry if is_last(&attempts, request.headers()) => {
                    (StatusCode::OK, Bytes::from_static(TEXT.as_bytes()))
                }
                Behavior::Retry | Behavior::Busy => (StatusCode::SERVICE_UNAVAILABLE, Bytes::from_static(b"busy")),
                Behavior::Hang => pending().await,
            };
            let mut response = Response::new(Full::new(body));
            *response.status_mut() = status;
            response
        }
    };
    serve(address, false, respond).await;
}

/// Whether this is the last attempt of a request.
fn is_last(attempts: &Attempts, headers: &HeaderMap) -> bool {
    let Some(id) = headers.get(X_REQUEST_ID) else { return false };
    let mut attempts = attempts.lock().unwrap();
    let count = attempts.entry(id.clone()).or_default();
    *count += 1;
    let is_last = *count == ATTEMPTS;
    if is_last {
        attempts.remove(id);
    }
    is_last
}

fn text_of(headers: &HeaderMap) -> String {
    headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect()
}
