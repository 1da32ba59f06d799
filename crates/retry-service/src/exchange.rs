//! One exchange: the body of the request, the body of its response, and the errors that the service responds with.

pub(crate) mod error_response;
pub(crate) mod in_flight;
pub(crate) mod request_body;
pub(crate) mod response_body;
pub(crate) mod unread_body;
pub(crate) mod upload_rate;
