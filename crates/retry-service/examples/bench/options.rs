//! The options of the bare proxy.

use std::path::PathBuf;

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) threads: usize,
    /// Clients speak HTTP/2 without negotiation.
    pub(crate) http2_clients: bool,
    pub(crate) http2_upstream: bool,
    /// Repeat a request without a body up to three times if the response is a 503.
    pub(crate) retry: bool,
    /// The certificate that an upstream with TLS has to have.
    pub(crate) ca: Option<PathBuf>,
}

impl Options {
    pub(crate) fn parse(options: &[&str]) -> Self {
        let mut parsed = Self { threads: 1, http2_clients: false, http2_upstream: false, retry: false, ca: None };
        for option in options {
            match option.split_once('=') {
                None if *option == "http2-clients" => parsed.http2_clients = true,
                None if *option == "http2-upstream" => parsed.http2_upstream = true,
                None if *option == "retry" => parsed.retry = true,
                Some(("threads", number)) => parsed.threads = number.parse().unwrap(),
                Some(("ca", file)) => parsed.ca = Some(file.into()),
                _ => panic!("unknown option: {option}"),
            }
        }
        parsed
    }
}
