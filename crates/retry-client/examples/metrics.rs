//! Counts attempts and retries with prometheus-client.
//!
//! Shows the observer, which gets each attempt, and what can be read from a client at any time.

use std::{error::Error, time::Duration};

use delayed_backend::Backend;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use retry_client::{AttemptEvent, Client, Outcome, RetryBudget, RetryPolicy};

/// Few values: a label with the path or the error's text would make a time series of each.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempt {
    outcome: String,
    retried: &'static str,
}

fn labels(event: &AttemptEvent<'_>) -> Attempt {
    let outcome = match &event.attempt.outcome {
        Outcome::Response(status) => status.as_u16().to_string(),
        Outcome::Failed { kind, .. } => format!("{kind:?}"),
        _ => "other".to_owned(),
    };
    Attempt { outcome, retried: if event.ended.is_none() { "yes" } else { "no" } }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let attempts = Family::<Attempt, Counter>::default();
    let mut registry = Registry::default();
    registry.register("http_client_attempts", "Attempts by their outcome", attempts.clone());

    let backend = Backend::start("status=503,close,ok".parse()?).await?;
    let client = Client::builder(backend.url())
        .policy(RetryPolicy::builder().interval(Duration::from_millis(10)).build()?)
        .status_codes([503])
        .budget(RetryBudget::share(0.2, 10)?)
        // Called in the task of the call: it must not block.
        .observer(move |event| {
            attempts.get_or_create(&labels(event)).inc();
        })
        .build()?;
    client.get("/hello").text().await?;

    let mut text = String::new();
    encode(&mut text, &registry)?;
    for line in [
        r#"http_client_attempts_total{outcome="503",retried="yes"} 1"#,
        r#"http_client_attempts_total{outcome="ConnectionClosed",retried="yes"} 1"#,
        r#"http_client_attempts_total{outcome="200",retried="no"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }

    // Gauges: retries that are waiting, and those that the budget still allows.
    assert_eq!(client.calls_in_backoff(), 0);
    assert!(client.budget_available().is_some_and(|retries| retries > 90.0));
    Ok(())
}
