//! What people read: denials, warnings and errors of ours, the same text wherever it is shown.

use portcullis_api::Severity;

use crate::evaluate::Governing;
use crate::rules;
use crate::subject::Subject;
use crate::verdict::{Verdict, Violation};

/// The API server may cut a warning that is longer than 256 characters and asks for 120; we choose the place ourselves.
const MAX_WARNING_CHARS: usize = 120;

/// What was seen stands in the object of the author: a long text or a line break in it must not make the message another.
const MAX_OBSERVED_CHARS: usize = 200;

/// More warnings than this are counted and no longer listed.
const MAX_WARNINGS: usize = 10;

/// The text of a denial: a first line that stands alone, one block for each denying violation, whom to ask.
#[must_use]
pub fn denial(subject: &Subject<'_>, governing: &[Governing<'_>], verdict: &Verdict) -> String {
    let denying: Vec<&Violation> = verdict
        .violations
        .iter()
        .filter(|it| it.effective_severity() == Severity::Deny)
        .collect();
    let mut text = format!("{}\n\n", headline(subject, denying.iter().copied()));
    for violation in &denying {
        text.push_str(&block(violation));
    }
    text.push_str("  help: ");
    for contact in contacts(governing, &denying) {
        text.push_str(&contact);
        text.push_str(" · ");
    }
    if let Some(last) = denying.last() {
        text.push_str(&format!("portcullis explain {}", last.rule));
    }
    text
}

/// `Deployment agents/api breaks SecurityPolicy agents/magsag in 2 places: root user, wildcard CORS`
#[must_use]
pub fn headline<'v>(
    subject: &dyn std::fmt::Display,
    violations: impl IntoIterator<Item = &'v Violation>,
) -> String {
    let violations: Vec<&Violation> = violations.into_iter().collect();
    let mut policies: Vec<String> = violations
        .iter()
        .flat_map(|it| &it.policies)
        .map(ToString::to_string)
        .collect();
    policies.sort();
    policies.dedup();
    let mut titles: Vec<&str> = violations.iter().map(|it| rules::rule(it.rule).title).collect();
    titles.dedup();
    let places = match violations.len() {
        1 => "1 place".to_owned(),
        count => format!("{count} places"),
    };
    format!(
        "{subject} breaks {} in {places}: {}",
        policies.join(" and "),
        titles.join(", ")
    )
}

fn block(violation: &Violation) -> String {
    format!(
        "  [{}] {}\n    observed: {}    required: {}\n    fix: {}\n",
        violation.rule,
        violation.path.display(),
        shorten(&violation.observed.to_string(), MAX_OBSERVED_CHARS),
        violation.required,
        violation.remedy
    )
}

/// Contacts of the policies that deny, each once.
fn contacts(governing: &[Governing<'_>], denying: &[&Violation]) -> Vec<String> {
    let denies = |it: &&Governing<'_>| {
        denying
            .iter()
            .any(|violation| violation.policies.contains(&it.policy.name))
    };
    let mut contacts: Vec<String> = governing
        .iter()
        .filter(denies)
        .filter_map(|it| it.policy.contact.clone())
        .collect();
    contacts.sort();
    contacts.dedup();
    contacts
}

/// The warnings for kubectl: what warns, what was there before, what could not be judged; at most ten and a count.
#[must_use]
pub fn warnings(verdict: &Verdict) -> Vec<String> {
    let broken = verdict
        .violations
        .iter()
        .filter(|it| it.effective_severity() == Severity::Warn)
        .map(|it| {
            let before = if it.ratcheted { " (was there before)" } else { "" };
            format!(
                "[{}] {}: {}{before}, required: {}",
                it.rule,
                it.path.within_template(),
                it.observed,
                it.required
            )
        });
    let unknown = verdict
        .unknowns
        .iter()
        .filter(|it| it.severity >= Severity::Warn)
        .map(|it| {
            format!(
                "[{}] {}: not judged, {}",
                it.rule,
                it.path.within_template(),
                it.cause
            )
        });
    limit_warnings(broken.chain(unknown).collect())
}

/// Cuts each warning to a length that arrives whole, without control characters, and the list to ten and a count.
#[must_use]
pub fn limit_warnings(all: Vec<String>) -> Vec<String> {
    let hidden = all.len().saturating_sub(MAX_WARNINGS);
    let mut warnings: Vec<String> = all
        .into_iter()
        .take(MAX_WARNINGS)
        .map(|it| shorten(&it, MAX_WARNING_CHARS))
        .collect();
    if hidden > 0 {
        warnings.push(format!("and {hidden} more"));
    }
    warnings
}

/// Without control characters, at which the API server would drop a warning silently, and with at most `limit`
/// characters.
fn shorten(text: &str, limit: usize) -> String {
    let mut clean = text.chars().filter(|it| !it.is_control());
    let mut short: String = clean.by_ref().take(limit).collect();
    if clean.next().is_some() {
        short.pop();
        short.push('…');
    }
    short
}

/// The text of a refusal that is our fault: which facts could not be read, and what to do.
#[must_use]
pub fn our_error(subject: &Subject<'_>, verdict: &Verdict) -> String {
    let mut causes: Vec<&str> = verdict
        .unknowns
        .iter()
        .filter(|it| it.severity == Severity::Deny)
        .map(|it| it.cause.as_str())
        .collect();
    causes.sort_unstable();
    causes.dedup();
    format!(
        "Portcullis could not judge {subject}: {}. This is an error of Portcullis and not of the object: try again, and if it stays, look at the operator's log",
        causes.join("; ")
    )
}
