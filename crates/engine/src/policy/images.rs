//! `spec.images` as the engine uses it.

use portcullis_api::{ImageVersions, Images};
use semver::VersionReq;

use super::compile::Findings;
use crate::image_name::ImageName;

/// `spec.images` with its ranges parsed.
#[derive(Clone, Debug)]
pub struct CompiledImages {
    /// Registries and repositories that are allowed, with their host; `None` allows every one.
    pub registries: Option<Vec<String>>,
    /// Whether a digest is required.
    pub require_digest: bool,
    /// Repositories and words of minimal images; `None` asks for none.
    pub bases: Option<Vec<String>>,
    /// The supported versions of images.
    pub versions: Vec<CompiledVersions>,
}

/// The supported versions of one image.
#[derive(Clone, Debug)]
pub struct CompiledVersions {
    /// Its repository, with the registry.
    pub repository: String,
    /// The supported versions, as the policy states them.
    pub stated: String,
    /// The supported versions.
    pub supported: VersionReq,
    /// Versions that only get critical fixes.
    pub critical_fixes_only: Option<VersionReq>,
}

pub(super) fn compile(section: &Images, findings: &mut Findings) -> CompiledImages {
    let mut versions: Vec<CompiledVersions> = Vec::new();
    for (index, it) in section.versions.iter().flatten().enumerate() {
        let path = format!("spec.images.versions[{index}]");
        let Some(compiled) = compile_versions(it, &path, findings) else {
            continue;
        };
        if versions.iter().any(|it| it.repository == compiled.repository) {
            let message = format!("must be unique, got {} twice", compiled.repository);
            findings.add(format!("{path}.image"), message);
        }
        versions.push(compiled);
    }
    CompiledImages {
        registries: section.registries.clone(),
        require_digest: section.require_digest.unwrap_or_default(),
        bases: section.bases.clone(),
        versions,
    }
}

fn compile_versions(stated: &ImageVersions, path: &str, findings: &mut Findings) -> Option<CompiledVersions> {
    let name = ImageName::parse(&stated.image);
    if name.tag.is_some() || name.digest.is_some() || !name.is_valid() {
        let message = format!(
            "must be the name of an image, without tag and digest, such as ghcr.io/acme/api, got `{}`",
            stated.image
        );
        findings.add(format!("{path}.image"), message);
    }
    let critical_fixes_only = stated.critical_fixes_only.as_deref();
    let critical_fixes_only =
        critical_fixes_only.map(|it| range(it, format!("{path}.criticalFixesOnly"), findings));
    Some(CompiledVersions {
        repository: name.repository.into_owned(),
        stated: stated.supported.clone(),
        supported: range(&stated.supported, format!("{path}.supported"), findings)?,
        critical_fixes_only: critical_fixes_only.flatten(),
    })
}

/// A range such as `>=1.0.0 <1.1.0`, with commas between its parts or without.
fn range(text: &str, path: String, findings: &mut Findings) -> Option<VersionReq> {
    let mut parts: Vec<String> = Vec::new();
    for word in text.split([',', ' ']).filter(|it| !it.is_empty()) {
        match parts.last_mut() {
            // The operator may stand alone.
            Some(part) if part.ends_with(['<', '>', '=', '~', '^']) => part.push_str(word),
            _ => parts.push(word.to_owned()),
        }
    }
    match VersionReq::parse(&parts.join(", ")) {
        Ok(range) if !parts.is_empty() => Some(range),
        _ => {
            let message = format!("must be a range of versions such as >=1.0.0 <1.1.0, got `{text}`");
            findings.add(path, message);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use semver::Version;

    fn parse(text: &str) -> Option<VersionReq> {
        range(text, String::new(), &mut Findings::default())
    }

    #[rstest]
    #[case(">=1.0.0 <1.1.0", "1.0.7", true)]
    #[case(">=1.0.0, <1.1.0", "1.1.0", false)]
    #[case(">= 1.0.0 < 1.1.0", "1.0.0", true)]
    #[case("0.1", "0.1.9", true)]
    #[case("~2.3", "2.4.0", false)]
    fn ranges(#[case] text: &str, #[case] version: &str, #[case] expected: bool) {
        let range = parse(text).unwrap();
        assert_eq!(
            range.matches(&Version::parse(version).unwrap()),
            expected,
            "{text}"
        );
    }

    #[rstest]
    fn texts_that_are_none(#[values("", " , ", "latest", ">=1.0.0 <", "1.0.0 - 1.1.0")] text: &str) {
        assert_eq!(parse(text), None);
    }
}
