//! The mock backend of the retry sample.

pub mod app;
pub mod backend;
pub mod cli;
pub mod duration;
pub mod error_payload;
pub mod journal;
pub mod listen;
pub mod log_line;
pub mod script;
pub mod serve;
pub mod signals;
pub mod usage_error;

mod answers;
mod arrival;
mod behaviour;
mod connection;
mod cut;
mod frames;
mod known_bytes;
mod route;
mod script_text;
mod server;
#[cfg(feature = "tls")]
mod tls;
mod turn;
mod wire;

pub use crate::app::App;
pub use crate::backend::Backend;
pub use crate::behaviour::Behaviour;
pub use crate::journal::{BodySeen, Record};
pub use crate::known_bytes::known_byte;
pub use crate::script::Script;
pub use crate::script_text::ScriptError;
pub use crate::serve::Connections;
pub use crate::server::run;
#[cfg(feature = "tls")]
pub use crate::tls::{Identity, IdentityError};
