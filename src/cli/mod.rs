//! The command line: one file per subcommand, exit codes in one place.

mod check;
mod crds;
mod explain;
mod nearest;
mod operator;
mod rules;
mod self_test;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::error::describe;

/// Admits, generates and reports what a SecurityPolicy demands of an application's workloads
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Operator(Box<operator::OperatorCommand>),
    Check(check::CheckArgs),
    Explain(explain::ExplainArgs),
    Rules(rules::RulesArgs),
    Crds(crds::CrdsArgs),
    SelfTest(self_test::SelfTestArgs),
}

/// The form in which results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For machines
    Json,
}

/// What a subcommand that did its work found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Clean,
    Violations,
}

/// Why a subcommand could not do its work.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("standard output cannot be written")]
    Output(#[from] io::Error),
    /// What the user gave is no good: one line for each finding.
    #[error("{}", .0.join("\nerror: "))]
    Input(Vec<String>),
    #[error("the operator ended")]
    Operator(#[source] anyhow::Error),
    #[error("the self-test failed")]
    SelfTest(#[source] anyhow::Error),
}

/// Runs the subcommand that was asked for: 0 is clean, 1 is a violation of severity Deny, 2 is usage, unreadable input,
/// an invalid policy or a failure of ours. Scripts depend on these; wrong options are 2 by clap's own hand.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Operator(command) => command.run(),
        Command::Check(args) => args.run(),
        Command::Explain(args) => args.run(),
        Command::Rules(args) => args.run(),
        Command::Crds(args) => args.run(),
        Command::SelfTest(args) => args.run(),
    };
    match result {
        Ok(Outcome::Clean) => ExitCode::SUCCESS,
        Ok(Outcome::Violations) => ExitCode::from(1),
        // `portcullis rules | head`: the reader has what it wanted.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            report(&failure);
            ExitCode::from(2)
        }
    }
}

/// Prints the chain of causes.
fn report(failure: &Failure) {
    let text = format!("error: {}", describe(failure));
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes to standard output and makes sure that it arrived.
fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    write(&mut out)?;
    Ok(out.flush()?)
}
