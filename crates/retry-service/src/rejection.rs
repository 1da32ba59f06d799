//! Why the service itself rejects a request, and with which status.

use std::fmt;

use http::StatusCode;

/// Why a request is rejected. It is stored in the extensions of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rejection {
    TooManyInFlight,
    TooManyTunnels,
    BodyTooLarge,
    LoopDetected,
}

impl Rejection {
    pub(crate) const ALL: [Self; 4] =
        [Self::TooManyInFlight, Self::TooManyTunnels, Self::BodyTooLarge, Self::LoopDetected];

    /// Returns the label in the metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::TooManyInFlight => "max_in_flight",
            Self::TooManyTunnels => "max_tunnels",
            Self::BodyTooLarge => "max_body_size",
            Self::LoopDetected => "loop",
        }
    }

    /// Returns the status of the response.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::TooManyInFlight | Self::TooManyTunnels => StatusCode::SERVICE_UNAVAILABLE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::LoopDetected => StatusCode::LOOP_DETECTED,
        }
    }

    /// Returns the message in the response.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::TooManyInFlight => "too many requests in flight",
            Self::TooManyTunnels => "too many open tunnels",
            Self::BodyTooLarge => "request body too large",
            Self::LoopDetected => "the request has already passed through this gateway",
        }
    }
}

/// The message with the setting that sets the limit, for the log.
impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())?;
        match self {
            Self::LoopDetected => Ok(()),
            limit => write!(f, " (--{})", limit.label().replace('_', "-")),
        }
    }
}
