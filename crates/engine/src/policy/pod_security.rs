//! `spec.podSecurity` as the engine uses it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use portcullis_api::{ExpectedIds, PodDefault, PodSecurity, PodSecurityLevel};

use super::compile::Findings;

/// `spec.podSecurity` with its defaults filled in.
#[derive(Clone, Debug)]
pub struct CompiledPodSecurity {
    /// Level of the standard.
    pub level: PodSecurityLevel,
    /// Version of the standard.
    pub version: PodSecurityVersion,
    /// What is set on pods, sorted.
    pub defaults: Vec<PodDefault>,
    /// Users and groups as which pods run.
    pub ids: Vec<ExpectedIds>,
}

/// A version of the Pod Security Standards: that of Kubernetes 1.x, by its minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodSecurityVersion(u16);

impl PodSecurityVersion {
    /// What `latest` means.
    pub const LATEST: Self = Self::minor(36);

    /// The version of Kubernetes 1.`minor`.
    #[must_use]
    pub const fn minor(minor: u16) -> Self {
        Self(minor)
    }
}

impl FromStr for PodSecurityVersion {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        if text == "latest" {
            return Ok(Self::LATEST);
        }
        // `v1.01` and `v1.+1` are no versions, though they parse.
        text.strip_prefix("v1.")
            .and_then(|it| it.parse().ok())
            .map(Self::minor)
            .filter(|it| *it <= Self::LATEST && it.to_string() == text)
            .ok_or(UnknownVersion)
    }
}

impl fmt::Display for PodSecurityVersion {
    /// `v1.36`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v1.{}", self.0)
    }
}

/// A text that is no version of the standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be latest or one of v1.0 to {}", PodSecurityVersion::LATEST)]
pub struct UnknownVersion;

pub(super) fn compile(
    section: &PodSecurity,
    components: &BTreeSet<&str>,
    findings: &mut Findings,
) -> CompiledPodSecurity {
    let version = section
        .version
        .as_deref()
        .map_or(Ok(PodSecurityVersion::LATEST), str::parse);
    let version = version.unwrap_or_else(|error: UnknownVersion| {
        findings.add("spec.podSecurity.version".into(), error.to_string());
        PodSecurityVersion::LATEST
    });
    let mut defaults = section.defaults.clone().unwrap_or_default();
    defaults.sort_unstable();
    defaults.dedup();
    CompiledPodSecurity {
        level: section.level.unwrap_or(PodSecurityLevel::Restricted),
        version,
        defaults,
        ids: compile_ids(section, components, findings),
    }
}

fn compile_ids(
    section: &PodSecurity,
    components: &BTreeSet<&str>,
    findings: &mut Findings,
) -> Vec<ExpectedIds> {
    let ids = section.ids.clone().unwrap_or_default();
    for (index, it) in ids.iter().enumerate() {
        let path = format!("spec.podSecurity.ids[{index}]");
        findings.components(&path, it.components.as_deref(), components);
        for (field, range) in [
            ("runAsUser", it.run_as_user),
            ("runAsGroup", it.run_as_group),
            ("fsGroup", it.fs_group),
        ] {
            if let Some(range) = range.filter(|it| it.min > it.max) {
                let message = format!("must be a range, got {} to {}", range.min, range.max);
                findings.add(format!("{path}.{field}"), message);
            }
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("latest", PodSecurityVersion::LATEST)]
    #[case("v1.0", PodSecurityVersion::minor(0))]
    #[case("v1.36", PodSecurityVersion::minor(36))]
    fn versions(#[case] text: &str, #[case] expected: PodSecurityVersion) {
        assert_eq!(text.parse(), Ok(expected));
    }

    #[rstest]
    fn texts_that_are_none(
        #[values("", "v1.37", "1.36", "v1.036", "v1.+1", "v1.", "v2.0", "Latest")] text: &str,
    ) {
        assert_eq!(text.parse::<PodSecurityVersion>(), Err(UnknownVersion));
    }
}
