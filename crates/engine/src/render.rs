//! What people read: denials, warnings and errors of ours, the same text wherever it is shown.

use portcullis_api::Severity;

use crate::evaluate::{Governing, Selection};
use crate::rules;
use crate::subject::Subject;
use crate::text::printable;
use crate::verdict::{Verdict, Violation};

/// The API server may cut a warning that is longer than 256 characters and asks for 120; we choose the place ourselves.
const MAX_WARNING_CHARS: usize = 120;

/// More warnings than this are counted and no longer listed.
const MAX_WARNINGS: usize = 10;

/// A denial lists no more: the rest is counted. See docs/adr/0006-bounded-denials.md.
const MAX_BLOCKS: usize = 50;

/// Nor does it list more bytes, so that the whole stays below 64 KiB.
const MAX_BLOCKS_BYTES: usize = 32 * 1024;

/// Room for the first line and for whom to ask: policies state at most 200 characters.
const MAX_LINE_CHARS: usize = 2000;

/// The text of a denial: a first line that stands alone, one block for each denying violation, whom to ask.
#[must_use]
pub fn denial(subject: &Subject<'_>, governing: &[Governing<'_>], verdict: &Verdict) -> String {
    let all: Vec<&Violation> = denying(verdict).collect();
    let blocks = blocks(verdict);
    let mut text = format!(
        "{}\n\n{}",
        headline(subject, all.iter().copied()),
        blocks.concat()
    );
    match all.len() - blocks.len() {
        0 => {}
        hidden => text.push_str(&format!("  and {hidden} more\n")),
    }
    if let Some(why) = presumption(governing, all.iter().copied()) {
        text.push_str(&format!(
            "  note: {why}; apply the Service and its workload first\n"
        ));
    }
    let page = all.last().map(|it| format!("portcullis explain {}", it.rule));
    let help: Vec<String> = contacts(governing, &all).into_iter().chain(page).collect();
    text.push_str("  help: ");
    text.push_str(&printable(&help.join(" · "), MAX_LINE_CHARS));
    text
}

/// Why policies are among those of `violations` that perhaps select other pods: those behind the Ingress are still to come.
pub fn presumption<'v>(
    governing: &[Governing<'_>],
    violations: impl Iterator<Item = &'v Violation> + Clone,
) -> Option<String> {
    governing.iter().find_map(|it| {
        let Selection::Presumed(awaited) = &it.selection else {
            return None;
        };
        let mut policies = violations.clone().flat_map(|it| &it.policies);
        let why = format!("{awaited}, and until its pods are known every policy of the namespace applies");
        policies
            .any(|name| *name == it.policy.name)
            .then(|| printable(&why, MAX_LINE_CHARS).into_owned())
    })
}

/// The violations that a denial lists: not all of them, when they are very many.
pub fn listed(verdict: &Verdict) -> impl Iterator<Item = &Violation> {
    denying(verdict).take(blocks(verdict).len())
}

fn denying(verdict: &Verdict) -> impl Iterator<Item = &Violation> {
    let violations = verdict.violations.iter();
    violations.filter(|it| it.effective_severity() == Severity::Deny)
}

/// The texts of the violations that are listed. One fits in any case: Findings bounds its parts.
fn blocks(verdict: &Verdict) -> Vec<String> {
    let mut room = MAX_BLOCKS_BYTES;
    denying(verdict)
        .take(MAX_BLOCKS)
        .map(block)
        .take_while(|it| {
            let left = room.checked_sub(it.len());
            room = left.unwrap_or_default();
            left.is_some()
        })
        .collect()
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
    let line = format!(
        "{subject} breaks {} in {places}: {}",
        policies.join(" and "),
        titles.join(", ")
    );
    printable(&line, MAX_LINE_CHARS).into_owned()
}

fn block(violation: &Violation) -> String {
    format!(
        "  [{}] {}\n    observed: {}    required: {}\n    fix: {}\n",
        violation.rule,
        violation.path.display(),
        violation.observed,
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
pub fn warnings(governing: &[Governing<'_>], verdict: &Verdict) -> Vec<String> {
    let warns = |it: &&Violation| it.effective_severity() == Severity::Warn;
    let warning = verdict.violations.iter().filter(warns);
    let presumption = presumption(governing, warning.clone());
    let broken = warning.map(|it| {
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
    limit_warnings(presumption.into_iter().chain(broken).chain(unknown).collect())
}

/// Cuts each warning to a length that arrives whole, without control characters, at which the API server would drop it
/// silently, and the list to ten and a count.
#[must_use]
pub fn limit_warnings(all: Vec<String>) -> Vec<String> {
    let hidden = all.len().saturating_sub(MAX_WARNINGS);
    let mut warnings: Vec<String> = all
        .into_iter()
        .take(MAX_WARNINGS)
        .map(|it| printable(&it, MAX_WARNING_CHARS).into_owned())
        .collect();
    if hidden > 0 {
        warnings.push(format!("and {hidden} more"));
    }
    warnings
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
        printable(&causes.join("; "), MAX_LINE_CHARS)
    )
}
