//! HTTP tasks, with retry-client and with what is usually taken: reqwest-retry, or tower's own layer.

use http_body_util::Full;
use hyper_util::{client::legacy, rt::TokioExecutor};
use retry_client::{
    bytes::Bytes,
    http::{Request, Response},
};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the tasks read.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Product {
    pub(crate) name: String,
}

pub(crate) mod ours {
    use retry_client::{Body, Client, RetryConfig, RetryLayer, RetryPolicy};
    use tower::{ServiceBuilder, ServiceExt as _};

    use super::*;

    pub(crate) async fn get_json(url: &str) -> Result<Product, BoxError> {
        let client = Client::builder(url).policy(RetryPolicy::interactive()).status_codes([503]).build()?;
        Ok(client.get("/hello").read_json().await?)
    }

    pub(crate) async fn post_with_key(url: &str) -> Result<u16, BoxError> {
        let client = Client::builder(url).policy(RetryPolicy::interactive()).build()?;
        Ok(client.post("/echo").header("idempotency-key", "7").body("1 tea").await?.status().as_u16())
    }

    pub(crate) async fn post(url: &str) -> Result<u16, BoxError> {
        let client = Client::builder(url).policy(RetryPolicy::interactive()).build()?;
        Ok(client.post("/echo").body("1 tea").await?.status().as_u16())
    }

    pub(crate) async fn incomplete_body(url: &str) -> Result<String, BoxError> {
        let client = Client::builder(url).policy(RetryPolicy::interactive()).build()?;
        Ok(client.get("/hello").text().await?)
    }

    pub(crate) async fn tower_layer(url: &str) -> Result<u16, BoxError> {
        let service = legacy::Client::builder(TokioExecutor::new()).build_http::<Body>();
        let retries = RetryLayer::new(RetryConfig::new(RetryPolicy::interactive()).status_codes([503]))?;
        let service = ServiceBuilder::new().layer(retries).service(service);
        Ok(service.oneshot(Request::get(format!("{url}/hello")).body(Body::empty())?).await?.status().as_u16())
    }
}

pub(crate) mod usual {
    use reqwest_middleware::ClientBuilder;
    use reqwest_retry::{RetryTransientMiddleware, policies::ExponentialBackoff};
    use tower::{ServiceBuilder, ServiceExt as _, retry::Policy};

    use super::*;

    pub(crate) async fn get_json(url: &str) -> Result<Product, BoxError> {
        let policy = ExponentialBackoff::builder().build_with_max_retries(2);
        let retries = RetryTransientMiddleware::new_with_policy(policy);
        let client = ClientBuilder::new(reqwest::Client::new()).with(retries).build();
        Ok(client.get(format!("{url}/hello")).send().await?.error_for_status()?.json().await?)
    }

    pub(crate) async fn post_with_key(url: &str) -> Result<u16, BoxError> {
        let policy = ExponentialBackoff::builder().build_with_max_retries(2);
        let retries = RetryTransientMiddleware::new_with_policy(policy);
        let client = ClientBuilder::new(reqwest::Client::new()).with(retries).build();
        let request = client.post(format!("{url}/echo")).header("idempotency-key", "7").body("1 tea");
        Ok(request.send().await?.status().as_u16())
    }

    pub(crate) async fn post(url: &str) -> Result<u16, BoxError> {
        let policy = ExponentialBackoff::builder().build_with_max_retries(2);
        let retries = RetryTransientMiddleware::new_with_policy(policy);
        let client = ClientBuilder::new(reqwest::Client::new()).with(retries).build();
        Ok(client.post(format!("{url}/echo")).body("1 tea").send().await?.status().as_u16())
    }

    pub(crate) async fn incomplete_body(url: &str) -> Result<String, BoxError> {
        let policy = ExponentialBackoff::builder().build_with_max_retries(2);
        let retries = RetryTransientMiddleware::new_with_policy(policy);
        let client = ClientBuilder::new(reqwest::Client::new()).with(retries).build();
        Ok(client.get(format!("{url}/hello")).send().await?.text().await?)
    }

    pub(crate) async fn tower_layer(url: &str) -> Result<u16, BoxError> {
        #[derive(Clone)]
        struct Retries(u32);
        impl<B, E> Policy<Request<Full<Bytes>>, Response<B>, E> for Retries {
            type Future = tokio::time::Sleep;
            fn retry(
                &mut self,
                _request: &mut Request<Full<Bytes>>,
                outcome: &mut Result<Response<B>, E>,
            ) -> Option<Self::Future> {
                let failed = outcome.as_ref().map_or(true, |response| response.status() == 503);
                self.0 = self.0.checked_sub(1).filter(|_| failed)?;
                Some(tokio::time::sleep(std::time::Duration::from_millis(100)))
            }
            fn clone_request(&mut self, request: &Request<Full<Bytes>>) -> Option<Request<Full<Bytes>>> {
                Some(request.clone())
            }
        }
        let service = legacy::Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let service = ServiceBuilder::new().retry(Retries(2)).service(service);
        Ok(service.oneshot(Request::get(format!("{url}/hello")).body(Full::default())?).await?.status().as_u16())
    }
}
