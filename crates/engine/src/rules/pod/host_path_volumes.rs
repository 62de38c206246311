//! Pods mount no paths of the node.
//!
//! Field: `volumes[].hostPath`. Allowed: unset. At Restricted `pod/volume-types` reports it alone, unless that rule is
//! milder in this policy.
//! Source: Pod Security Standards, Baseline, "HostPath Volumes"; S0-85, S3-44, S3-73.

use portcullis_api::RuleId;

use super::standard::Standard;
use super::{shown, volume_types};
use crate::rules::{Context, Findings, Rule, Section, Severities};

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::PodHostPathVolumes,
    title: "host path",
    meaning: "pods mount no paths of the node",
    section: Section::PodSecurity,
    severities: Severities::WARN_DENY_DENY,
    page: include_str!("../../../../../docs/rules/pod/host-path-volumes.md"),
    check,
};

/// What to do instead.
pub(super) const FIX: &str =
    "use a persistentVolumeClaim for data, a configMap for files, or an emptyDir for scratch space";

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let standard = Standard::of(context);
    let Some((_, spec)) = context.subject.pod().filter(|_| standard.is_baseline()) else {
        return;
    };
    if standard.is_restricted() && volume_types::reports_host_paths(context) {
        return;
    }
    for (index, volume) in spec.volumes.iter().enumerate() {
        if let Some(it) = &volume.host_path {
            let path = volume_types::path(context, index, volume).fields(&["hostPath", "path"]);
            findings.violation(path, shown(&it.path), "no path of the node", FIX);
            findings.about(it.path.as_str());
        }
    }
}
