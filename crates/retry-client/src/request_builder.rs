//! A request that is built and sent by the client.

use std::{
    fmt::{self, Display},
    pin::Pin,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    client::Client,
    error::Error,
    request::{body::Body, header_count::check_header_count},
    response::body::{ResponseBody, parse_text},
    retry::{attempt_event::WithoutQuery, attempt_request::RequestParts, call_options::CallOptions},
};

/// A request to be sent by a [`Client`], which returns it from methods such as [`Client::get`].
///
/// There are two ways to send it. They differ in what is retried if the body of the response ends early:
///
/// | | returns | a body that breaks |
/// |---|---|---|
/// | [`send`](Self::send), or `.await` | the response, once its head has arrived | is an error of the caller's, who reads it |
/// | [`text`](Self::text), `read_json` (feature `json`), [`bytes`](Self::bytes) | the body of a response with a status of 2xx | is retried, as the attempt includes the body |
///
/// ```no_run
/// # async fn run(client: retry_client::Client) -> Result<(), retry_client::Error> {
/// let response = client.post("/orders").header("idempotency-key", "17").body("1 tea").send().await?;
/// let orders = client.get("/orders").query("status", "not paid").text().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// An invalid path, header or body is an error of kind [`BadInput`](crate::ErrorKind::BadInput), which is returned when
/// the request is sent.
#[must_use = "a request does nothing until it is sent or awaited"]
pub struct RequestBuilder {
    client: Client,
    parts: Result<RequestParts, Error>,
}

impl Client {
    /// Creates a GET request. [`RequestBuilder`] shows how it is sent, and what is retried.
    pub fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    /// Creates a HEAD request.
    pub fn head(&self, path: &str) -> RequestBuilder {
        self.request(Method::HEAD, path)
    }

    /// Creates a POST request. It is retried if it was not sent, but not if the server may have processed it; unless it has
    /// an `Idempotency-Key`.
    pub fn post(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    /// Creates a PUT request.
    pub fn put(&self, path: &str) -> RequestBuilder {
        self.request(Method::PUT, path)
    }

    /// Creates a PATCH request. It is retried as a [POST](Self::post).
    pub fn patch(&self, path: &str) -> RequestBuilder {
        self.request(Method::PATCH, path)
    }

    /// Creates a DELETE request.
    pub fn delete(&self, path: &str) -> RequestBuilder {
        self.request(Method::DELETE, path)
    }

    /// Creates a request with any method.
    ///
    /// The path starts with `/`, may have a query, and is appended to the base URL. A URL of the client's server, such as
    /// one from a `Link` header, is used as it is.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let parts = self.0.transport.base_url.locate(&method, path).map(|uri| {
            let mut parts = RequestParts::new(Request::new(Body::empty()));
            (*parts.head.method_mut(), *parts.head.uri_mut()) = (method, uri);
            parts
        });
        RequestBuilder { client: self.clone(), parts }
    }
}

impl RequestBuilder {
    /// Adds a header, even if there is one of the same name.
    pub fn header(self, name: impl AsRef<str>, value: impl TryInto<HeaderValue>) -> Self {
        self.edit(|parts| {
            let name = name.as_ref();
            let invalid =
                |what| Error::bad_input(format!("header {name:?}: its {what} has a character that is not allowed"));
            let valid_name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid("name"))?;
            // A value may be confidential, and is not part of the message.
            let value = value.try_into().map_err(|_| invalid("value"))?;
            let headers = parts.head.headers_mut();
            check_header_count(headers.len() + 1)?;
            headers.append(valid_name, value);
            Ok(())
        })
    }

    /// Adds a parameter to the query of the URL, percent-encoded.
    pub fn query(self, name: &str, value: impl Display) -> Self {
        self.edit(|parts| {
            let uri = parts.head.uri_mut();
            let separator = if uri.query().is_some() { '&' } else { '?' };
            let value = value.to_string();
            let [name, value] = [name, &*value].map(|text| utf8_percent_encode(text, QUERY));
            let longer = format!("{uri}{separator}{name}={value}");
            *uri = longer.parse().map_err(|_| Error::bad_input("the URL is longer than 65,534 bytes"))?;
            Ok(())
        })
    }

    /// Sets the body: bytes, text, or a [`Body`] of any other kind.
    pub fn body(self, body: impl Into<Body>) -> Self {
        self.edit(|parts| {
            parts.body = body.into();
            Ok(())
        })
    }

    /// Sets the body to a value in JSON, and the `Content-Type` unless there is one. For the JSON of the response, see
    /// [`read_json`](Self::read_json).
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    pub fn json<T: serde::Serialize + ?Sized>(self, value: &T) -> Self {
        use http::header::CONTENT_TYPE;

        self.edit(|parts| {
            let json = serde_json::to_vec(value);
            parts.body = json.map_err(|error| Error::bad_input(format!("the body as JSON: {error}")))?.into();
            let json = || HeaderValue::from_static("application/json");
            parts.head.headers_mut().entry(CONTENT_TYPE).or_insert_with(json);
            Ok(())
        })
    }

    /// Sets options for this request, instead of the settings of the client.
    pub fn options(self, options: CallOptions) -> Self {
        self.edit(|parts| {
            parts.options = Some(options.into());
            Ok(())
        })
    }

    fn edit(mut self, edit: impl FnOnce(&mut RequestParts) -> Result<(), Error>) -> Self {
        if let Ok(parts) = &mut self.parts
            && let Err(error) = edit(parts)
        {
            self.parts = Err(error);
        }
        self
    }

    /// Sends the request, and returns the response once its head has arrived, whatever its status. The same as `.await` on
    /// the request, without an allocation.
    ///
    /// Reading the body afterwards fails if the connection breaks. To have that retried, use [`text`](Self::text),
    /// `read_json` or [`bytes`](Self::bytes), or turn on
    /// [`response_buffer`](crate::ClientBuilder::response_buffer) or [`resume`](crate::ClientBuilder::resume).
    ///
    /// # Errors
    ///
    /// Returns the error of the last attempt if no attempt got a response.
    pub fn send(self) -> impl Future<Output = Result<Response<ResponseBody>, Error>> + Send + 'static {
        let Self { client, parts } = self;
        client.send_owned(parts)
    }

    /// Sends the request, and returns the body of its response as text. An attempt includes the body, so that a body that
    /// ends early is retried.
    ///
    /// # Errors
    ///
    /// As [`bytes`](Self::bytes), and if the body is not UTF-8.
    pub async fn text(self) -> Result<String, Error> {
        self.client.read(self.parts, parse_text).await
    }

    /// Sends the request, and parses the body of its response as JSON. An attempt includes the body, so that a body that
    /// ends early is retried.
    ///
    /// # Errors
    ///
    /// As [`bytes`](Self::bytes), and if the body is not the JSON of a `T`.
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    pub async fn read_json<T: serde::de::DeserializeOwned>(self) -> Result<T, Error> {
        self.client.read(self.parts, |body| crate::response::body::parse_json(&body)).await
    }

    /// Sends the request, and returns the body of its response. An attempt includes the body, so that a body that ends
    /// early is retried.
    ///
    /// # Errors
    ///
    /// - A status other than 2xx is an error of kind [`Status`](crate::ErrorKind::Status), which contains the response; see
    ///   [`Error::into_response`].
    /// - A body longer than [`response_limit`](crate::ClientBuilder::response_limit) is an error of kind
    ///   [`TooLarge`](crate::ErrorKind::TooLarge).
    /// - If no attempt got a complete response, returns the error of the last one.
    pub async fn bytes(self) -> Result<Bytes, Error> {
        self.client.read(self.parts, Ok).await
    }
}

/// All but the unreserved characters of RFC 3986, section 2.3.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl IntoFuture for RequestBuilder {
    type Output = Result<Response<ResponseBody>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// As [`send`](Self::send).
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// Without headers and query, which may be confidential.
impl fmt::Debug for RequestBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.parts {
            Ok(parts) => write!(f, "RequestBuilder({} {})", parts.head.method(), WithoutQuery(parts.head.uri())),
            Err(error) => write!(f, "RequestBuilder({error})"),
        }
    }
}
