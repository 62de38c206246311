//! `portcullis rules`: what is checked, how severely, and which section of a policy asks for it.

use std::io::{self, Write};

use clap::Args;
use portcullis_engine::rules::{self, Rule};
use serde_json::{Value, json};

use super::{Failure, Format, Outcome, print};

/// Lists the rules with their default severity in each environment
#[derive(Debug, Args)]
pub(super) struct RulesArgs {
    /// Form of the list
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

impl RulesArgs {
    pub(super) fn run(&self) -> Result<Outcome, Failure> {
        match self.format {
            Format::Text => print(|out| write_table(out))?,
            Format::Json => {
                let rules: Vec<Value> = rules::all().map(to_json).collect();
                print(|out| writeln!(out, "{:#}", json!({"rules": rules})))?;
            }
        }
        Ok(Outcome::Clean)
    }
}

fn write_table(out: &mut dyn Write) -> io::Result<()> {
    let row = |out: &mut dyn Write, cells: [&str; 6]| {
        let [id, development, staging, production, section, meaning] = cells;
        writeln!(
            out,
            "{id:<32} {development:<12} {staging:<8} {production:<11} {section:<17} {meaning}"
        )
    };
    row(
        out,
        [
            "RULE",
            "DEVELOPMENT",
            "STAGING",
            "PRODUCTION",
            "SECTION",
            "MEANING",
        ],
    )?;
    for rule in rules::all() {
        let severities = rule.severities;
        let cells = [
            rule.id.as_str(),
            severities.development.as_str(),
            severities.staging.as_str(),
            severities.production.as_str(),
            rule.section.field(),
            rule.meaning,
        ];
        row(out, cells)?;
    }
    Ok(())
}

fn to_json(rule: &Rule) -> Value {
    json!({
        "id": rule.id,
        "severities": {
            "Development": rule.severities.development,
            "Staging": rule.severities.staging,
            "Production": rule.severities.production,
        },
        "section": rule.section.field(),
        "meaning": rule.meaning,
    })
}
