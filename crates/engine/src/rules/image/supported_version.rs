//! Images have a version that is supported.
//!
//! Fields: `image` of each container, and `image.reference` of each volume, that `images.versions` of the policy names, and the pods' label
//! `app.kubernetes.io/version` where the tag names no version. A version that only gets critical fixes warns, in every
//! environment.
//! Source: S0-09, S0-10, S1-03, S2-01, S2-02, S2-03, S3-01, S4-01.

use portcullis_api::RuleId;
use semver::{Prerelease, Version};

use super::images;
use crate::policy::CompiledVersions;
use crate::rules::{Context, Findings, Rule, Section, Severities};
use crate::verdict::Observed;

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::ImageSupportedVersion,
    title: "unsupported version",
    meaning: "images have a version that is supported",
    section: Section::Images,
    severities: Severities::WARN_WARN_DENY,
    page: include_str!("../../../../../docs/rules/image/supported-version.md"),
    check,
};

/// Label of the pods with the version of the application.
const LABEL: &str = "app.kubernetes.io/version";

/// What follows the numbers of a version that is not released yet.
const PRE_RELEASES: &[&str] = &[
    "alpha", "beta", "dev", "nightly", "pre", "rc", "snapshot", "SNAPSHOT",
];

const FIX: &str =
    "run a supported version, and name it by the tag or by the pods' label app.kubernetes.io/version";

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let ranges = context.policy.images.as_ref().map_or(&[][..], |it| &it.versions);
    if ranges.is_empty() {
        return;
    }
    let labels = context.subject.pod().map(|(metadata, _)| &metadata.labels);
    let label = labels.and_then(|it| it.get(LABEL)).and_then(|it| parse(it));
    for it in images(context) {
        let version = it.name.tag.and_then(parse).or_else(|| label.clone());
        for range in ranges
            .iter()
            .filter(|range| range.repository == it.name.repository)
        {
            if version.as_ref().is_some_and(|it| range.supported.matches(it)) {
                continue;
            }
            let observed = match &version {
                Some(version) => Observed::Shown(version.to_string()),
                None => Observed::Shown("no version, neither in the tag nor in a label".to_owned()),
            };
            findings.violation(it.path.clone(), observed, range.stated.as_str(), FIX);
            findings.about(version.as_ref().map(Version::to_string).unwrap_or_default());
            if is_maintained(version.as_ref(), range) {
                findings.warns_at_most();
            }
        }
    }
}

/// Whether the version still gets critical fixes.
fn is_maintained(version: Option<&Version>, range: &CompiledVersions) -> bool {
    let maintained = range.critical_fixes_only.as_ref();
    maintained
        .zip(version)
        .is_some_and(|(range, version)| range.matches(version))
}

/// The version that a tag or label names: `v1.4`, `15.3-alpine`, `2.0.0-rc.1`. What it leaves out is 0.
fn parse(text: &str) -> Option<Version> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text
        .find(|it: char| !it.is_ascii_digit() && it != '.')
        .unwrap_or(text.len());
    let (numbers, rest) = text.split_at_checked(end)?;
    let mut parts = [0; 3];
    for (index, number) in numbers.split('.').enumerate() {
        *parts.get_mut(index)? = number.parse().ok()?;
    }
    let rest = match rest.strip_prefix(['-', '_']) {
        Some(rest) => rest,
        None if rest.is_empty() => rest,
        // A commit, such as 7f3a9c1.
        None => return None,
    };
    let [major, minor, patch] = parts;
    let mut version = Version::new(major, minor, patch);
    let rest = rest.to_ascii_lowercase();
    let is_milestone = rest
        .strip_prefix('m')
        .is_some_and(|it| it.starts_with(|it: char| it.is_ascii_digit()));
    if is_milestone || PRE_RELEASES.iter().any(|it| rest.starts_with(it)) {
        version.pre = Prerelease::new(&rest).ok()?;
    }
    Some(version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("1.4.2", Some("1.4.2"))]
    #[case("v1.4", Some("1.4.0"))]
    #[case("15", Some("15.0.0"))]
    #[case("15.3-alpine3.18", Some("15.3.0"))]
    #[case("2.0.0-rc.1", Some("2.0.0-rc.1"))]
    #[case("1.0.0-RC1", Some("1.0.0-rc1"))]
    #[case("1.0.0-M1", Some("1.0.0-m1"))]
    #[case("1.0.0-musl", Some("1.0.0"))]
    #[case("latest", None)]
    #[case("7f3a9c1", None)]
    #[case("1.2.3.4", None)]
    #[case("1..2", None)]
    #[case("99999999999999999999", None)]
    #[case("", None)]
    fn versions(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(
            parse(text).map(|it| it.to_string()).as_deref(),
            expected,
            "{text}"
        );
    }
}
