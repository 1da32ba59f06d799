//! retry-client
