//! `portcullis operator`: its log and its runtime; what it does stands in `crate::operator`.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::{Failure, Outcome};
use crate::context::OperatorArgs;
use crate::operator;

/// Runs the operator: webhook, controller and audit
#[derive(Debug, Args)]
pub(super) struct OperatorCommand {
    /// Form of the log on standard error
    #[arg(long, env = "PORTCULLIS_LOG_FORMAT", value_enum, default_value = "json")]
    log_format: LogFormat,

    /// How much is logged: error, warn, info, debug, trace, or directives such as info,portcullis=debug
    #[arg(long, env = "PORTCULLIS_LOG_LEVEL", default_value = "info", value_parser = parse_directives)]
    log_level: String,

    #[command(flatten)]
    args: OperatorArgs,
}

/// The client logs answers that it cannot parse, which may be Secrets, and the watchers the whole of each refusal; what
/// matters of both we log ourselves.
const QUIET: &str = "kube_client=error,kube_runtime=error";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// One line for people
    Text,
    /// One JSON object on a line
    Json,
}

impl OperatorCommand {
    pub(super) fn run(self) -> Result<Outcome, Failure> {
        self.start_log();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("the runtime cannot be started")
            .map_err(Failure::Operator)?;
        runtime
            .block_on(operator::run(self.args))
            .map_err(Failure::Operator)?;
        Ok(Outcome::Clean)
    }

    fn start_log(&self) {
        let log = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(format!("{},{QUIET}", self.log_level)))
            // Colours are for people: elsewhere they are noise around each word.
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr);
        match self.log_format {
            LogFormat::Text => log.init(),
            LogFormat::Json => log.json().flatten_event(true).init(),
        }
    }
}

/// Accepts what the filter accepts, but a word alone must be a level: the filter takes `inof` for the name of a module.
fn parse_directives(text: &str) -> Result<String, String> {
    let alone = text.split(',').filter(|it| !it.contains('='));
    for word in alone {
        word.parse::<LevelFilter>()
            .map_err(|_| format!("must be one of error, warn, info, debug, trace, off, got `{word}`"))?;
    }
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
