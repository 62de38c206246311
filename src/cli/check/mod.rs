//! `portcullis check`: what the cluster would say of these files, without a cluster.

mod admitted;
mod facts;
mod files;
mod finding;
mod json;
mod judge;
mod policies;
mod schema;
mod text;
mod yaml;

use std::io::{self, Write};

use clap::Args;
use portcullis_engine::CompiledPolicy;

use self::files::{Document, Note};
use self::json::{Report, Summary};
use self::text::{Color, Paint};
use super::{Failure, Format, Outcome, print};

/// Tells what a cluster with these policies would say of these files; needs no cluster
///
/// Exit code: 0 when nothing would be denied, 1 when something would be, 2 when an option, a file or a policy is no good.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// File with a policy, may be repeated; without it the policies among the files are used
    #[arg(long = "policy", value_name = "FILE")]
    policies: Vec<String>,

    /// Files, directories (*.yaml, *.yml and *.json below them) and - for standard input
    #[arg(required = true, value_name = "FILE|DIR|-")]
    inputs: Vec<String>,

    /// The files are all there is: what is not among them is missing and not merely unknown
    #[arg(long)]
    complete: bool,

    /// Namespace of objects and policies that state none
    #[arg(long, short)]
    namespace: Option<String>,

    /// Form of the result
    #[arg(long, value_enum, default_value = "text")]
    format: Format,

    /// When colours are used
    #[arg(long, value_enum, default_value = "auto")]
    color: Color,

    /// Print the summary alone
    #[arg(long, short)]
    quiet: bool,
}

impl CheckArgs {
    pub(super) fn run(&self) -> Result<Outcome, Failure> {
        let input = files::read(&self.inputs);
        let mut notes = input.notes;
        let policies = self.policies(&input.documents, input.errors)?;
        let objects = admitted(input.documents, &mut notes);
        let options = judge::Options {
            namespace: self.namespace.as_deref(),
            complete: self.complete,
        };
        let judgement = judge::judge(&objects, &policies, options);
        notes.extend(judgement.notes);
        if !self.quiet {
            print_notes(&notes);
        }
        if !judgement.errors.is_empty() {
            return Err(Failure::Input(judgement.errors));
        }
        let summary = Summary::of(&judgement.judged);
        print(|out| match self.format {
            Format::Json => write_json(out, &Report::of(&judgement.judged)),
            Format::Text => {
                if !self.quiet {
                    text::write_findings(out, &judgement.judged, Paint::new(self.color))?;
                }
                text::write_summary(out, summary)
            }
        })?;
        Ok(if summary.deny > 0 {
            Outcome::Violations
        } else {
            Outcome::Clean
        })
    }

    /// The policies of `--policy`, else those among the files.
    fn policies(&self, among: &[Document], mut errors: Vec<String>) -> Result<Vec<CompiledPolicy>, Failure> {
        let given = files::read(&self.policies);
        errors.extend(given.errors);
        if !errors.is_empty() {
            return Err(Failure::Input(errors));
        }
        let documents = if self.policies.is_empty() {
            among
        } else {
            &given.documents
        };
        let policies: Vec<&Document> = documents.iter().filter(|it| policies::is_policy(it)).collect();
        if policies.is_empty() {
            let place = if self.policies.is_empty() {
                "among the files"
            } else {
                "in --policy"
            };
            return Err(Failure::Input(vec![format!(
                "there is no SecurityPolicy {place}; name a file that holds one with --policy FILE"
            )]));
        }
        policies::compile(&policies, self.namespace.as_deref()).map_err(Failure::Input)
    }
}

/// The documents that an API server would see, with a note on each other one.
fn admitted(documents: Vec<Document>, notes: &mut Vec<Note>) -> Vec<Document> {
    let mut admitted = Vec::new();
    for document in documents {
        match admitted::skipped(&document) {
            None => admitted.push(document),
            Some("") => {}
            Some(why) => notes.push(format!("{}: skipped, {why}", document.locate(""))),
        }
    }
    admitted
}

fn print_notes(notes: &[Note]) {
    let mut err = io::stderr().lock();
    for note in notes {
        // Notes are no result: a closed standard error changes nothing.
        let _ = writeln!(err, "note: {note}");
    }
}

fn write_json(out: &mut dyn Write, report: &Report<'_>) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}
