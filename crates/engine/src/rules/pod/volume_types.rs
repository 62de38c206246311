//! Pods mount none but harmless kinds of volumes.
//!
//! Field: the kind of each of `volumes[]`. Allowed: `configMap`, `csi`, `downwardAPI`, `emptyDir`, `ephemeral`, `image`,
//! `persistentVolumeClaim`, `projected`, `secret`. A kind that this version does not know is not allowed.
//! Source: Pod Security Standards, Restricted, "Volume Types"; S0-85, S3-44, S3-73.

use portcullis_api::RuleId;

use super::standard::Standard;
use super::{host_path_volumes, shown};
use crate::object::Volume;
use crate::path::FieldPath;
use crate::rules::{Context, Findings, Rule, Section, Severities};

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::PodVolumeTypes,
    title: "volume type",
    meaning: "pods mount none but harmless kinds of volumes",
    section: Section::PodSecurity,
    severities: Severities::WARN_DENY_DENY,
    page: include_str!("../../../../../docs/rules/pod/volume-types.md"),
    check,
};

const ALLOWED: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

const REQUIRED: &str =
    "configMap, csi, downwardAPI, emptyDir, ephemeral, image, persistentVolumeClaim, projected or secret";

const FIX: &str = "use a persistentVolumeClaim, whose StorageClass leads to the same storage";

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let standard = Standard::of(context);
    let Some((_, spec)) = context.subject.pod().filter(|_| standard.is_restricted()) else {
        return;
    };
    for (index, volume) in spec.volumes.iter().enumerate() {
        let Some(kind) = volume.kinds.first().filter(|_| !is_allowed(volume)) else {
            continue;
        };
        let place = path(context, index, volume);
        match &volume.host_path {
            Some(_) if !reports_host_paths(context) => {}
            Some(it) => {
                let observed = format!("hostPath {}", it.path);
                findings.violation(place, shown(&observed), REQUIRED, host_path_volumes::FIX);
                findings.about(observed);
            }
            None => {
                findings.violation(place, shown(kind), REQUIRED, FIX);
                findings.about(kind.as_str());
            }
        }
    }
}

/// Path of a volume.
pub(super) fn path(context: &Context<'_, '_>, index: usize, volume: &Volume<'_>) -> FieldPath {
    let volumes = context.subject.pod_spec_path().field("volumes");
    volumes.item(index, Some(&volume.name))
}

/// Whether this rule reports paths of the node at least as severely as `pod/host-path-volumes` would.
pub(super) fn reports_host_paths(context: &Context<'_, '_>) -> bool {
    context.policy.severity(RuleId::PodVolumeTypes) >= context.policy.severity(RuleId::PodHostPathVolumes)
}

fn is_allowed(volume: &Volume<'_>) -> bool {
    volume.kinds.iter().any(|it| ALLOWED.contains(&it.as_str()))
}
