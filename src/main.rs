//! Portcullis: one binary, the operator and its command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    portcullis::cli::main()
}
