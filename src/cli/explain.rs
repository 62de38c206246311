//! `portcullis explain RULE`: the page of one rule.

use clap::Args;
use portcullis_api::RuleId;
use portcullis_engine::rules;

use super::{Failure, Outcome, nearest, print};

/// Prints the documentation of a rule
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Id of the rule, such as secret/missing; `portcullis rules` lists them
    rule: String,
}

impl ExplainArgs {
    pub(super) fn run(&self) -> Result<Outcome, Failure> {
        let id: RuleId = self.rule.parse().map_err(|_| self.unknown())?;
        let page = rules::rule(id).page.trim_end();
        print(|out| writeln!(out, "{page}"))?;
        Ok(Outcome::Clean)
    }

    fn unknown(&self) -> Failure {
        let ids = RuleId::ALL.iter().map(|id| id.as_str());
        let hint = nearest::hint(&self.rule, ids);
        Failure::Input(vec![format!(
            "`{}` is no rule id, `portcullis rules` lists them{hint}",
            self.rule
        )])
    }
}
