//! The client for `scripts/grpc.sh`: unary calls to the server of `scripts/grpc_calls.py`, without a gRPC library. Of ten
//! calls, that fails number 3 after its head, and number 7 without one. Every outcome has to be the expected one, and every
//! response has to have its trailers. Exit code: 0 success, 1 failure, 2 bad usage.
//!
//! ```text
//! grpc URL CALLS off|unbuffered|buffered
//! ```

use std::{
    env,
    error::Error,
    io::{Write as _, stderr, stdout},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use retry_client::{Body, Client, GrpcCode, RetryPolicy};
use tokio::{task::JoinSet, time::Instant};

const CALLERS: u32 = 50;

/// Which failures are retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retries {
    Off,
    /// Those without a head of their own.
    Unbuffered,
    Buffered,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let Some((url, calls, retries)) = parse(&arguments) else {
        let _ = writeln!(stderr(), "usage: grpc URL CALLS off|unbuffered|buffered");
        return ExitCode::from(2);
    };
    match run(url, calls, retries).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[String]) -> Option<(&str, u32, Retries)> {
    let [url, calls, retries] = arguments else { return None };
    let retries = match &**retries {
        "off" => Retries::Off,
        "unbuffered" => Retries::Unbuffered,
        "buffered" => Retries::Buffered,
        _ => return None,
    };
    Some((url, calls.parse().ok()?, retries))
}

async fn run(url: &str, calls: u32, retries: Retries) -> Result<(), Box<dyn Error>> {
    let policy = RetryPolicy::builder().count(3).interval(Duration::from_millis(1)).build()?;
    let mut client = Client::builder(url).http2_prior_knowledge(true).policy(policy);
    if retries != Retries::Off {
        client = client.grpc_status_codes([GrpcCode::Unavailable]);
    }
    if retries == Retries::Buffered {
        // Even on a machine that is busy, trailers arrive within this time.
        client = client.response_buffer(64 * 1024).response_buffer_time(Duration::from_secs(10));
    }
    let (client, next, begin) = (client.build()?, Arc::new(AtomicU32::new(0)), Instant::now());
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (client, next) = (client.clone(), Arc::clone(&next));
        callers.spawn(async move {
            let mut failures = 0_u32;
            loop {
                let number = next.fetch_add(1, Relaxed);
                if number >= calls {
                    return Ok::<_, String>(failures);
                }
                let expected = match (number % 10, retries) {
                    (3, Retries::Off | Retries::Unbuffered) | (7, Retries::Off) => GrpcCode::Unavailable,
                    _ => GrpcCode::Ok,
                };
                let code = call(&client, number).await.map_err(|error| format!("call {number}: {error}"))?;
                if code != expected {
                    return Err(format!("call {number} ended with {code}, expected {expected}"));
                }
                failures += u32::from(code != GrpcCode::Ok);
            }
        });
    }
    let mut failures = 0;
    while let Some(caller) = callers.join_next().await {
        failures += caller??;
    }
    let rate = f64::from(calls) / begin.elapsed().as_secs_f64();
    writeln!(stdout(), "{calls} calls, {failures} UNAVAILABLE as expected, 0 wrong, {rate:.0} per second")?;
    Ok(())
}

/// Makes a call, and checks its response.
async fn call(client: &Client, number: u32) -> Result<GrpcCode, Box<dyn Error>> {
    let request =
        Request::post("/test.Calls/Unary").header("te", "trailers").header("content-type", "application/grpc");
    let (head, body) =
        client.execute(request.body(Body::from(message(&format!("once {number}"))))?).await?.into_parts();
    let body = body.collect().await?;
    let trailers = body.trailers().unwrap_or(&head.headers);
    let code = GrpcCode::of(trailers).ok_or("no status")?;
    if value(trailers, "x-call") != number.to_string() {
        return Err(format!("trailers of another call: {trailers:?}").into());
    }
    if code == GrpcCode::Ok && body.to_bytes() != message(&number.to_string()) {
        return Err("the response of another call".into());
    }
    Ok(code)
}

fn value<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Returns a message with its prefix.
fn message(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0], &length[..], text.as_bytes()].concat()
}
