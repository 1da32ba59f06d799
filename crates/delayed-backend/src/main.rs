//! The `delayed-backend` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    delayed_backend::cli::main()
}
