//! The result for people: what kubectl would say, and where it stands in the files.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use portcullis_api::Severity;
use portcullis_engine::render;

use super::json::Summary;
use super::judge::Judged;

/// When colours are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Puts colours around words, or leaves them as they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint(bool);

impl Paint {
    /// For standard output.
    pub(super) fn new(color: Color) -> Self {
        Self(match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                let refused = std::env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty());
                !refused && io::stdout().is_terminal()
            }
        })
    }

    fn bold(self, text: impl Display) -> String {
        self.code("1", text)
    }

    fn severity(self, severity: Severity) -> String {
        match severity {
            Severity::Deny => self.code("31", severity.as_str()),
            Severity::Warn => self.code("33", severity.as_str()),
            Severity::Audit | Severity::Disabled => self.code("36", severity.as_str()),
        }
    }

    /// `code` is of ANSI's "select graphic rendition".
    fn code(self, code: &str, text: impl Display) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }
}

/// One block for each object with findings.
pub(super) fn write_findings(out: &mut dyn Write, judged: &[Judged<'_>], paint: Paint) -> io::Result<()> {
    for it in judged {
        write_object(out, it, paint)?;
    }
    Ok(())
}

fn write_object(out: &mut dyn Write, judged: &Judged<'_>, paint: Paint) -> io::Result<()> {
    let verdict = &judged.verdict;
    if verdict.violations.is_empty() && verdict.unknowns.is_empty() {
        return Ok(());
    }
    writeln!(out, "{}\n", paint.bold(headline(judged)))?;
    for it in &verdict.violations {
        let place = judged.document.locate(&it.path.indexed());
        writeln!(
            out,
            "  {place}: {} [{}] {}",
            paint.severity(it.severity),
            it.rule,
            it.path
        )?;
        writeln!(out, "    observed: {}    required: {}", it.observed, it.required)?;
        writeln!(out, "    fix: {}", it.remedy)?;
    }
    for it in &verdict.unknowns {
        let place = judged.document.locate(&it.path.indexed());
        writeln!(out, "  {place}: not judged [{}] {}", it.rule, it.path)?;
        writeln!(out, "    cause: {}", it.cause)?;
        writeln!(
            out,
            "    fix: add it to the files, or say --complete when they are all there is"
        )?;
    }
    writeln!(out, "  help: {}\n", help(judged))
}

fn headline(judged: &Judged<'_>) -> String {
    let violations = &judged.verdict.violations;
    if violations.is_empty() {
        return format!("{} could not be judged in full", judged.subject);
    }
    render::headline(&judged.subject, violations)
}

/// Whom to ask, and the page of the last rule.
fn help(judged: &Judged<'_>) -> String {
    let verdict = &judged.verdict;
    let unknown = verdict.unknowns.last().map(|it| it.rule);
    let rule = verdict.violations.last().map(|it| it.rule).or(unknown);
    let page = rule.map(|it| format!("portcullis explain {it}"));
    let parts: Vec<String> = judged.contacts.iter().cloned().chain(page).collect();
    parts.join(" · ")
}

/// `3 objects judged: 1 Deny, 0 Warn, 0 Audit, 2 not judged`
pub(super) fn write_summary(out: &mut dyn Write, summary: Summary) -> io::Result<()> {
    let Summary {
        objects,
        deny,
        warn,
        audit,
        not_judged,
    } = summary;
    let plural = if objects == 1 { "" } else { "s" };
    writeln!(
        out,
        "{objects} object{plural} judged: {deny} Deny, {warn} Warn, {audit} Audit, {not_judged} not judged"
    )
}
