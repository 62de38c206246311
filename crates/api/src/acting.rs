//! What each field of a `SecurityPolicy` makes the operator do: act, or only judge.
//!
//! The operator never does for an author what the author may not do. A test compares these tables with the schema and
//! with the chart's table of rights, so that no field comes in unconsidered.

/// Fields that make the operator act. Each has rows in `charts/portcullis/templates/policy-authors.yaml`, which say
/// what the author of such a field must be allowed to do himself. Lists are written as in messages: `entries[]`.
pub const ACTING_FIELDS: &[&str] = &[
    // Writes NetworkPolicies.
    "spec.network",
    // Reads Secrets, and tells facts about them.
    "spec.secrets.entries",
    // Gives pods a Secret's value.
    "spec.secrets.entries[].delivery",
];

/// Fields that say to which pods the acting ones are applied. Changing one moves them to others, which takes the same
/// right again.
pub const REACH_FIELDS: &[&str] = &["spec.workloads", "spec.components"];

/// Fields by which objects are judged, or which are only a part of what an acting field says.
pub const JUDGING_FIELDS: &[&str] = &[
    "spec.rulesVersion",
    "spec.environment",
    "spec.enforcement",
    "spec.contact",
    "spec.rules",
    "spec.podSecurity.level",
    "spec.podSecurity.version",
    // Sets fields of pods, but only to values for which a rule of the same section could as well refuse the pod that
    // lacks them: it takes from nobody what judging leaves.
    "spec.podSecurity.defaults",
    "spec.podSecurity.ids",
    "spec.images.registries",
    "spec.images.requireDigest",
    "spec.images.bases",
    "spec.images.versions",
    "spec.secrets.literals",
    "spec.secrets.onMissing",
    "spec.secrets.entries[].name",
    "spec.secrets.entries[].env",
    "spec.secrets.entries[].aliases",
    "spec.secrets.entries[].components",
    "spec.secrets.entries[].secretRef",
    "spec.http.cors",
];
