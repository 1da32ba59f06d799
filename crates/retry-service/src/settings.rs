//! The settings: each is a flag, an environment variable, and a key in a file.

mod build;
mod dump;
mod environment;
mod error;
mod file;
mod flags;
mod input;
mod load;
mod stray_values;
mod upstream;
mod values;
mod warnings;

pub use self::{error::SettingsError, load::LoadedSettings};
pub(crate) use self::{flags::Settings, load::ReloadedSettings, values::Command};
