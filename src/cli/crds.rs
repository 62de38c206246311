//! `portcullis crds`: the CustomResourceDefinitions of all kinds.

use clap::Args;

use super::{Failure, Outcome, print};

/// Prints the CustomResourceDefinitions as YAML, to be applied with kubectl
#[derive(Debug, Args)]
pub(super) struct CrdsArgs {}

impl CrdsArgs {
    pub(super) fn run(&self) -> Result<Outcome, Failure> {
        let crds = portcullis_api::crds().map_err(|error| Failure::Input(vec![error.to_string()]))?;
        let texts = crds
            .iter()
            .map(serde_saphyr::to_string)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Failure::Input(vec![error.to_string()]))?;
        print(|out| write!(out, "{}", texts.join("---\n")))?;
        Ok(Outcome::Clean)
    }
}
