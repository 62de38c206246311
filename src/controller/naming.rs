//! Names and labels of generated objects: by them the controller knows its own.

use std::collections::BTreeMap;

/// Label that says who manages an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Its value on what the operator generates.
pub const MANAGER: &str = "portcullis";

/// Label that names the policy from which an object was generated.
pub const POLICY: &str = "portcullis.dev/policy";

/// Characters that Kubernetes allows in the name of an object.
const MAX_NAME: usize = 253;

/// Characters that Kubernetes allows in the value of a label.
const MAX_LABEL_VALUE: usize = 63;

/// `portcullis-<policy>-<suffix>`. A policy's name that is too long is cut, and a digest of it keeps names apart.
///
/// A component stands behind a dot, which no component's name holds, so that policy `a` with component `b-c` and policy
/// `a-b` with component `c` never meet.
pub fn network_policy_name(policy: &str, suffix: &str) -> String {
    let frame = "portcullis-".len() + 1 + suffix.len();
    format!(
        "portcullis-{}-{suffix}",
        shorten(policy, MAX_NAME.saturating_sub(frame))
    )
}

/// The labels of every object that is generated from `policy`.
pub fn labels(policy: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (MANAGED_BY.to_owned(), MANAGER.to_owned()),
        (POLICY.to_owned(), shorten(policy, MAX_LABEL_VALUE)),
    ])
}

/// `name`, or its beginning and a digest when it is longer than `max`.
fn shorten(name: &str, max: usize) -> String {
    if name.len() <= max {
        return name.to_owned();
    }
    let digest = format!("{:08x}", fnv1a(name));
    let head: String = name.chars().take(max.saturating_sub(digest.len() + 1)).collect();
    format!("{}-{digest}", head.trim_end_matches(['-', '.']))
}

/// FNV-1a, 32 bits. The standard library's hash may change with its version, and names must not.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_never_exceed_what_kubernetes_allows_and_stay_apart() {
        let long = "a".repeat(252);
        let (one, other) = (format!("{long}b"), format!("{long}c"));
        let name = network_policy_name(&one, "ingress.api");
        assert_eq!(name.len(), MAX_NAME);
        assert!(name.ends_with("-ingress.api"), "{name}");
        assert_ne!(name, network_policy_name(&other, "ingress.api"));
        assert_eq!(labels(&one).get(POLICY).map(String::len), Some(MAX_LABEL_VALUE));
    }

    #[test]
    fn a_cut_never_ends_in_a_character_that_a_name_may_not_hold_there() {
        let name = format!("{}.{}", "a".repeat(53), "b".repeat(100));
        let value = shorten(&name, MAX_LABEL_VALUE);
        assert_eq!(value, format!("{}-{:08x}", "a".repeat(53), fnv1a(&name)));
    }

    #[test]
    fn policies_and_components_that_read_alike_get_different_names() {
        assert_ne!(
            network_policy_name("a", "ingress.b-c"),
            network_policy_name("a-b", "ingress.c")
        );
    }
}
