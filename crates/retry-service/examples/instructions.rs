//! The hot paths of the gateway and of the libraries. `scripts/check-instructions.py` counts their instructions.
//!
//! ```text
//! instructions gateway <upstream>            prints its address, and serves until it is killed
//! instructions client <server> <requests>    sends requests, one after the other
//! instructions call <retries> <calls>        runs calls of retry-core
//! ```
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::panic, reason = "stops at the first error")]

use std::{env, future::pending, hint::black_box};

use retry_client::{
    Client, RetryPolicy,
    retry_core::{Attempt, Retry},
};
use retry_service::{LoadedSettings, Service};
use tokio::{net::TcpListener, runtime};

fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    // One thread, so that each run takes the same steps in the same order.
    runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        match arguments[..] {
            ["gateway", upstream] => gateway(upstream).await,
            ["client", server, requests] => client(server, requests.parse().unwrap()).await,
            ["call", retries, calls] => call(retries.parse().unwrap(), calls.parse().unwrap()).await,
            _ => panic!("usage: instructions gateway|client|call …"),
        }
    });
}

async fn gateway(upstream: &str) {
    let args = ["instructions", "--forward", "--upstream", upstream, "--interval", "0", "--budget-ratio", "off"];
    let settings = LoadedSettings::from_args(args.map(Into::into)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    Service::new(settings).run(listener, pending()).await;
}

async fn client(server: &str, requests: usize) {
    let client = Client::builder(server).policy(RetryPolicy::default()).status_codes([503]).build().unwrap();
    for _ in 0..requests {
        black_box(client.get("/hello").await.unwrap().into_body().bytes().await.unwrap());
    }
}

async fn call(retries: u32, calls: usize) {
    let policy = RetryPolicy::builder().count(retries).interval(std::time::Duration::ZERO).backoff_factor(1.0);
    let retry = Retry::new(policy.build().unwrap());
    for _ in 0..calls {
        let operation = async |attempt: Attempt| if attempt.number > retries { Ok(()) } else { Err(()) };
        black_box(retry.run(operation).await).unwrap();
    }
}
