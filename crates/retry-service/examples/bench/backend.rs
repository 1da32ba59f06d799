//! The backend of all contenders, which does as little as possible.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::serve::serve;

const TEXT: &[u8] = b"Hello World!!!";

pub(crate) async fn run(address: &str, behaviour: &str) {
    let count = Arc::new(AtomicU64::new(0));
    let every = match behaviour {
        "ok" => 1,
        "flaky" => 4,
        "busy" => u64::MAX,
        "hang" => 0,
        other => panic!("{other}: expected ok, flaky, busy or hang"),
    };
    let respond = move |_: Request<Incoming>| {
        let number = count.fetch_add(1, Relaxed) + 1;
        async move {
            if every == 0 {
                std::future::pending::<()>().await;
            }
            let healthy = number.is_multiple_of(every);
            let mut response = Response::new(Full::new(Bytes::from_static(if healthy { TEXT } else { b"busy" })));
            *response.status_mut() = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            response
        }
    };
    serve(address, respond).await;
}
