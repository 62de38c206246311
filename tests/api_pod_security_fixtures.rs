//! The Pod Security Standards: our rules beside the fixtures of Kubernetes' own library, control by control and version by
//! version.

mod standard;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use portcullis_api::RuleId;
use portcullis_engine::CompiledPolicy;
use serde_json::Value;
use standard::{policy, reported};

/// Where the library keeps its fixtures: `<level>/<version>/{pass,fail}/<control><number>.yaml`.
const FIXTURES: &str = "test/testdata";

/// The rule for each control, by the name that the fixtures have.
const CONTROLS: &[(&str, RuleId)] = &[
    ("allowprivilegeescalation", RuleId::PodAllowPrivilegeEscalation),
    ("apparmorprofile", RuleId::PodApparmorProfile),
    ("capabilities_baseline", RuleId::PodCapabilities),
    ("capabilities_restricted", RuleId::PodCapabilities),
    ("hostnamespaces", RuleId::PodHostNamespaces),
    ("hostpathvolumes", RuleId::PodHostPathVolumes),
    ("hostports", RuleId::PodHostPorts),
    ("hostprobesandhostlifecycle", RuleId::PodHostProbes),
    ("privileged", RuleId::PodPrivileged),
    ("procmount", RuleId::PodProcMount),
    ("procmount_restricted", RuleId::PodProcMount),
    ("restrictedvolumes", RuleId::PodVolumeTypes),
    ("runasnonroot", RuleId::PodRunAsNonRoot),
    ("runasuser", RuleId::PodRunAsUser),
    ("seccompprofile_baseline", RuleId::PodSeccompProfile),
    ("seccompprofile_restricted", RuleId::PodSeccompProfile),
    ("selinuxoptions", RuleId::PodSelinuxOptions),
    ("sysctls", RuleId::PodSysctls),
    ("windowshostprocess", RuleId::PodHostProcess),
];

/// What fixtures of the first control break beside it: the API server takes no host process without the host's network, no
/// `privileged` with `allowPrivilegeEscalation: false`, and one fixture has a container that says nothing at all.
const COMPANIONS: &[(RuleId, RuleId)] = &[
    (RuleId::PodHostProcess, RuleId::PodHostNamespaces),
    (RuleId::PodPrivileged, RuleId::PodAllowPrivilegeEscalation),
    (RuleId::PodAllowPrivilegeEscalation, RuleId::PodCapabilities),
];

/// A newer version has no fixtures of its own, as nothing of the standard changed with it.
const LAST_WITH_FIXTURES: &str = "v1.35";

#[test]
fn every_fixture_of_the_standard_is_judged_by_the_rule_of_its_control() -> Result<()> {
    let library = library()?;
    let mut judged = 0;
    for level in ["baseline", "restricted"] {
        for directory in entries(&library.join(FIXTURES).join(level))? {
            let version = file_name(&directory)?;
            let as_well: &[&str] = match version == LAST_WITH_FIXTURES {
                true => &["v1.36", "latest"],
                false => &[],
            };
            for version in [version].iter().chain(as_well) {
                let policy = policy(level, version)?;
                judged += judge_all(&directory, level, &policy)?;
            }
        }
    }
    // Fewer were a library that moved its fixtures.
    ensure!(judged > 4_241, "only {judged} fixtures were judged");
    Ok(())
}

/// Judges the pods in `pass` and `fail` of `directory`; how many they were.
fn judge_all(directory: &Path, level: &str, policy: &CompiledPolicy) -> Result<usize> {
    let mut judged = 0;
    for (kind, is_fail) in [("pass", false), ("fail", true)] {
        for file in entries(&directory.join(kind))? {
            let text = fs::read_to_string(&file)?;
            let pod: Value = serde_saphyr::from_str(&text)?;
            let expected = expected(level, file_name(&file)?, is_fail)?;
            let reported = reported(policy, &pod)?;
            let of_course = |it: &RuleId| {
                COMPANIONS
                    .iter()
                    .any(|(one, beside)| expected.contains(one) && it == beside)
            };
            ensure!(
                reported.is_superset(&expected) && reported.difference(&expected).all(of_course),
                "{} under {:?}: reported {reported:?}, not {expected:?}",
                file.display(),
                policy.pod_security
            );
            judged += 1;
        }
    }
    Ok(judged)
}

/// The rules that must report the fixture `file`.
fn expected(level: &str, file: &str, is_fail: bool) -> Result<BTreeSet<RuleId>> {
    if !is_fail {
        return Ok(BTreeSet::new());
    }
    let control = file
        .trim_end_matches(".yaml")
        .trim_end_matches(|it: char| it.is_ascii_digit());
    let known = CONTROLS.iter().find(|(name, _)| *name == control);
    let (_, rule) = known.with_context(|| format!("{control} is no known control"))?;
    // There the control of Restricted takes the place of that of Baseline.
    let rule = match (level, rule) {
        ("restricted", RuleId::PodHostPathVolumes) => RuleId::PodVolumeTypes,
        (_, rule) => *rule,
    };
    Ok([rule].into())
}

/// The library's directory, of the version that the test cluster is built from.
fn library() -> Result<PathBuf> {
    let output = Command::new("go")
        .args(["mod", "download", "-json", "k8s.io/pod-security-admission"])
        .current_dir("e2e/k8s")
        .output()
        .context("go must be on PATH")?;
    ensure!(
        output.status.success(),
        "go mod download: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    let told: Value = serde_json::from_slice(&output.stdout)?;
    let directory = told.get("Dir").and_then(Value::as_str);
    Ok(directory.context("go told no directory")?.into())
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let all = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let paths = all.map(|it| Ok(it?.path()));
    paths.collect()
}

fn file_name(path: &Path) -> Result<&str> {
    path.file_name()
        .and_then(|it| it.to_str())
        .context("a path has a name")
}
