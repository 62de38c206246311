//! Policies that this version of the operator cannot read, such as those that a newer one accepted before a rollback.
//! Each is told so in its status, and keeps no other policy from being reconciled.

use jiff::Timestamp;
use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use kube::core::error_boundary::InvalidObject;
use portcullis_api::{SecurityPolicy, SecurityPolicyStatus};

use super::status::{self, StatusError};
use super::{Leading, conditions};
use crate::facts::cannot_be_read;

/// Writes into the policy's status that it cannot be read, unless it says so already.
///
/// # Errors
/// When the status cannot be read or written.
pub async fn tell(leading: &Leading, policy: &InvalidObject) -> Result<(), StatusError> {
    let metadata = &policy.metadata;
    let (namespace, name) = (
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    );
    let known = leading.context.policies.get(namespace, name);
    let in_force = known.is_some_and(|it| it.compiled.is_some());
    let Some(before) = status_of(leading, namespace, name).await? else {
        return Ok(());
    };
    let next = next(policy, in_force, &before, Timestamp::now());
    if next == before {
        return Ok(());
    }
    leading.leadership.confirm().await?;
    status::put(leading, metadata, &next).await
}

/// The status that the policy has; `None` when it was deleted meanwhile.
async fn status_of(
    leading: &Leading,
    namespace: &str,
    name: &str,
) -> Result<Option<SecurityPolicyStatus>, StatusError> {
    let kind = ApiResource::erase::<SecurityPolicy>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(leading.context.client.clone(), namespace, &kind);
    let policy = api.get_opt(name).await.map_err(StatusError::Read)?;
    // One that cannot be read either is written anew.
    let status = |it: DynamicObject| it.data.get("status").cloned().map(serde_json::from_value);
    Ok(policy.map(|it| status(it).and_then(Result::ok).unwrap_or_default()))
}

/// The status of a policy that cannot be read: what was counted and generated before stays true.
fn next(
    policy: &InvalidObject,
    in_force: bool,
    before: &SecurityPolicyStatus,
    now: Timestamp,
) -> SecurityPolicyStatus {
    let generation = policy.metadata.generation;
    let verdicts = conditions::of_invalid(&cannot_be_read(&policy.error), in_force);
    let conditions = verdicts.map(|it| it.into_condition(generation, before, now));
    SecurityPolicyStatus {
        observed_generation: generation,
        conditions: conditions.into(),
        ..before.clone()
    }
}

#[cfg(test)]
mod tests {
    use kube::core::DeserializeGuard;
    use portcullis_api::{GeneratedCounts, WorkloadCounts};
    use serde_json::json;

    use super::*;

    fn policy(rule: &str) -> DeserializeGuard<SecurityPolicy> {
        let policy = json!({
            "apiVersion": "portcullis.dev/v1alpha1", "kind": "SecurityPolicy",
            "metadata": {"name": rule.replace('/', "-"), "namespace": "agents"},
            "spec": {"rulesVersion": "v1", "environment": "Production", "enforcement": "Deny",
                "workloads": {"scope": "Namespace"}, "rules": [{"id": rule, "enforcement": "Warn"}]},
        });
        serde_json::from_value(policy).expect("its metadata can be read")
    }

    #[test]
    fn a_policy_that_cannot_be_read_keeps_its_counts_and_is_told_so_once() {
        let unreadable = policy("pod/of-tomorrow").0.expect_err("its rule is not known");
        let counted = SecurityPolicyStatus {
            workloads: Some(WorkloadCounts::default()),
            generated: Some(GeneratedCounts { network_policies: 3 }),
            ..SecurityPolicyStatus::default()
        };
        let noon = Timestamp::constant(1_769_860_800, 0);
        let told = next(&unreadable, true, &counted, noon);
        assert_eq!(told.workloads, counted.workloads);
        assert_eq!(told.generated, counted.generated);
        assert!(told.conditions.iter().all(|it| it.status == "False"));
        let again = next(&unreadable, true, &told, Timestamp::constant(1_769_860_900, 0));
        assert_eq!(again, told, "another leader has nothing to write");
    }
}
