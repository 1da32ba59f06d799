//! retry-service
