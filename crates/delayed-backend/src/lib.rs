//! delayed-backend
