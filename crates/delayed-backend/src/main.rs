//! The program `delayed-backend`.

use std::process::ExitCode;

fn main() -> ExitCode {
    delayed_backend::main()
}
