//! An HTTP gateway that retries requests, and the service of the retry sample.
//!
//! Both are usually run as the program `retry-service`. To embed them in another program, create a [`Service`] from
//! settings and [run](Service::run) it. The logs go to the `log` crate.

mod admin;
mod common;
mod exchange;
mod gateway;
mod generation;
mod permit;
mod plan;
mod program;
mod rejection;
mod reload;
mod request_handler;
mod sample;
mod server;
mod service;
mod settings;
mod telemetry;
mod threads;

pub use crate::{
    program::main,
    service::{Aborted, Service},
    settings::{LoadedSettings, SettingsError},
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
