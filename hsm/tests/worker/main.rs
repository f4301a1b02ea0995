//! What `siv` does when it re-executes itself, and nothing else: the worker of this crate's tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    hsm::worker::run()
}
