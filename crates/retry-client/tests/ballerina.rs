//! Ballerina's own retry tests (`http_retry_test.bal`, `http2_retry_test.bal`). The sixth, about waits, is
//! `ballerina_retry_test_6_interval_3_factor_half` in `retry-core`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the test's message")]

mod common;

use common::{Reply, Server};
use http::{Method, Request};
use retry_client::{Body, RetryMethods};

/// Three requests hang and the fourth gets a response, as with the sample's backend.
fn slow_then_fine() -> [Reply; 4] {
    [Reply::Hang, Reply::Hang, Reply::Hang, Reply::Ok("Hello World!!!")]
}

#[tokio::test]
async fn ballerina_retry_test_1_post_that_times_out_three_times_succeeds_at_the_fourth_attempt() {
    let server = Server::start(slow_then_fine()).await;
    let client = server.client().retry_methods(RetryMethods::All).build().unwrap();
    let response = client.post("/hello").body("a payload").await.unwrap();
    assert_eq!(response.into_body().text().await.unwrap(), "Hello World!!!");
    let bodies: Vec<_> = server.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies, ["a payload"; 4]);
}

#[tokio::test]
async fn ballerina_retry_test_2_every_method_through_execute() {
    let check = async |method: Method| {
        let server = Server::start(slow_then_fine()).await;
        let client = server.client().retry_methods(RetryMethods::All).build().unwrap();
        let request =
            Request::builder().method(&method).uri("/hello").header("x-test", "kept").body(Body::empty()).unwrap();
        let response = client.execute(request).await.unwrap();
        let expected = if method == Method::HEAD { "" } else { "Hello World!!!" };
        assert_eq!(response.status(), 200, "{method}");
        assert_eq!(response.into_body().text().await.unwrap(), expected, "{method}");
        let seen = server.seen();
        assert_eq!(seen.len(), 4, "{method}");
        assert!(seen.iter().all(|seen| seen.method == method && seen.headers["x-test"] == "kept"), "{method}");
    };
    tokio::join!(
        check(Method::HEAD),
        check(Method::PUT),
        check(Method::PATCH),
        check(Method::DELETE),
        check(Method::OPTIONS),
        check(Method::GET),
    );
}

#[tokio::test]
async fn ballerina_retry_test_3_multipart_and_nested_multipart_arrive_whole_at_the_attempt_that_succeeds() {
    const MULTIPART: &str = "--outer\r\ncontent-type: application/json\r\n\r\n{\"a\":1}\r\n--outer--\r\n";
    const NESTED: &str = "--outer\r\ncontent-type: multipart/mixed; boundary=inner\r\n\r\n\
        --inner\r\ncontent-type: text/plain\r\n\r\none\r\n--inner\r\ncontent-type: text/xml\r\n\r\n<two/>\r\n--inner--\r\n\
        \r\n--outer--\r\n";
    let check = async |body: &'static str| {
        let server = Server::start(slow_then_fine()).await;
        let client = server.client().retry_methods(RetryMethods::All).build().unwrap();
        let request =
            Request::post("/hello").header("content-type", "multipart/mixed; boundary=outer").body(Body::from(body));
        assert_eq!(client.execute(request.unwrap()).await.unwrap().status(), 200);
        let seen = server.seen();
        assert_eq!(seen.len(), 4);
        for seen in seen {
            assert_eq!(seen.body, body);
            assert_eq!(seen.headers["content-type"], "multipart/mixed; boundary=outer");
        }
    };
    tokio::join!(check(MULTIPART), check(NESTED));
}

#[tokio::test]
async fn ballerina_retry_test_4_listed_statuses_are_retried() {
    let bad = Reply::Status(502, "Gateway Timed out.");
    let server = Server::start([bad.clone(), bad.clone(), bad, Reply::Ok("Hello World!!!")]).await;
    let client = server.client().status_codes([501, 502, 503]).build().unwrap();
    let response = client.get("/hello").await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.into_body().text().await.unwrap(), "Hello World!!!");
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn ballerina_retry_test_5_the_last_response_with_a_listed_status_is_returned() {
    let server = Server::start([Reply::Status(502, "Gateway Timed out.")]).await;
    let client = server.client().status_codes([501, 502, 503]).build().unwrap();
    let response = client.get("/hello").await.unwrap();
    assert_eq!(response.status(), 502);
    assert_eq!(response.headers()["content-type"], "text/plain");
    assert_eq!(response.into_body().text().await.unwrap(), "Gateway Timed out.");
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn ballerina_retry_test_7_the_simple_retry_over_http2() {
    let server = Server::start(slow_then_fine()).await;
    let client = server.client().http2_prior_knowledge(true).retry_methods(RetryMethods::All).build().unwrap();
    let response = client.post("/hello").body("a payload").await.unwrap();
    assert_eq!(response.version(), http::Version::HTTP_2);
    assert_eq!(response.into_body().text().await.unwrap(), "Hello World!!!");
    let seen = server.seen();
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().all(|seen| seen.body == "a payload"));
}
