//! Errors of calls that give up, in the types that applications use.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the test's message")]

use std::{
    error::Error,
    fmt::{Debug, Display},
    future::pending,
    io,
    time::Duration,
};

use anyhow::Context as _;
use retry_core::{Retry, RetryError, RetryPolicy, retry};

fn policy() -> RetryPolicy {
    RetryPolicy::builder().count(1).interval(Duration::from_millis(1)).build().unwrap()
}

async fn give_up<E>(error: impl Fn() -> E) -> Result<(), RetryError<E>> {
    retry(policy(), || async { Err(error()) }).await
}

fn refused() -> io::Error {
    io::ErrorKind::ConnectionRefused.into()
}

/// An error with a cause.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the greeting")]
struct ReadError(#[from] io::Error);

const READ_ERROR: &str = "gave up after 2 attempts, no retries left: cannot read the greeting";

#[tokio::test]
async fn any_error_that_can_be_printed_becomes_an_anyhow_error() {
    async fn check<E>(error: impl Fn() -> E, expected: &str)
    where
        E: Debug + Display + Send + Sync + 'static,
    {
        let run = async || -> anyhow::Result<()> { Ok(give_up(&error).await?) };
        let error = run().await.unwrap_err();
        assert_eq!(format!("{error:#}"), format!("gave up after 2 attempts, no retries left: {expected}"));
    }
    check(|| "busy", "busy").await;
    check(|| String::from("busy"), "busy").await;
    check(refused, "connection refused").await;
    check(|| Box::<dyn Error + Send + Sync>::from("busy"), "busy").await;
    check(|| anyhow::anyhow!("busy"), "busy").await;
    check(|| anyhow::Error::from(refused()).context("no greeting"), "no greeting: connection refused").await;
}

#[tokio::test]
async fn the_question_mark_converts_into_a_boxed_error_and_into_an_enum() {
    #[derive(Debug, thiserror::Error)]
    enum AppError {
        #[error("no greeting")]
        Greeting(#[from] RetryError<ReadError>),
        #[error("no name")]
        Name(#[from] RetryError<String>),
    }
    let boxed = async || -> Result<(), Box<dyn Error + Send + Sync>> { Ok(give_up(|| ReadError(refused())).await?) };
    assert_eq!(boxed().await.unwrap_err().to_string(), READ_ERROR);

    let greeting = async || -> Result<(), AppError> { Ok(give_up(|| ReadError(refused())).await?) };
    let error = greeting().await.unwrap_err();
    assert!(matches!(&error, AppError::Greeting(gave_up) if gave_up.attempts() == 2));
    assert_eq!(error.source().unwrap().to_string(), READ_ERROR);

    let name = async || -> Result<(), AppError> { Ok(give_up(|| String::from("busy")).await?) };
    assert!(matches!(name().await.unwrap_err(), AppError::Name(gave_up) if gave_up.last().unwrap() == "busy"));
}

#[tokio::test]
async fn causes_are_kept_on_request_and_printed_once() {
    let with_context = |error: anyhow::Error| format!("{:#}", error.context("start-up"));
    let plain = give_up(|| ReadError(refused())).await.context("start-up");
    assert_eq!(format!("{:#}", plain.unwrap_err()), format!("start-up: {READ_ERROR}"));

    let error = give_up(|| ReadError(refused())).await.map_err(RetryError::with_causes).unwrap_err();
    assert_eq!((error.attempts(), error.to_string()), (2, READ_ERROR.to_string()));
    assert!(error.last().unwrap().is::<ReadError>());
    assert_eq!(with_context(error.into()), format!("start-up: {READ_ERROR}: connection refused"));

    let boxed = || Box::<dyn Error + Send + Sync>::from(ReadError(refused()));
    let error = give_up(boxed).await.map_err(RetryError::with_causes).unwrap_err();
    assert_eq!(with_context(error.into()), format!("start-up: {READ_ERROR}: connection refused"));

    let anyhow = || anyhow::Error::from(ReadError(refused()));
    let error = give_up(anyhow).await.map_err(RetryError::with_causes).unwrap_err();
    assert_eq!(with_context(error.into()), format!("start-up: {READ_ERROR}: connection refused"));
}

#[tokio::test(start_paused = true)]
async fn after_a_timeout_there_is_no_last_error() {
    let retry = Retry::new(policy()).attempt_timeout(Duration::from_secs(1));
    let gave_up = retry.run(|_| pending::<Result<(), io::Error>>()).await.unwrap_err();
    let message = "gave up after 2 attempts, no retries left: the attempt timed out";
    assert_eq!(gave_up.to_string(), message);
    assert!(gave_up.last().is_none());
    let error = gave_up.with_causes();
    assert_eq!((error.to_string(), error.source().is_none()), (message.to_string(), true));
}

/// Results of calls are passed up through many functions.
#[test]
fn an_error_is_one_word_larger_than_the_last_one() {
    assert_eq!(size_of::<RetryError<io::Error>>(), 2 * size_of::<usize>());
}
