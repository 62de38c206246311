//! What users read in `status.conditions`.

use serde_json::{Value, json};

use super::*;
use crate::controller::apply::{Applied, Contested};
use crate::controller::audit::Audited;
use crate::controller::conditions::Listing;
use portcullis_api::{Enforcement, WorkloadCounts};
use portcullis_engine::CompiledPolicy;

const NOON: Timestamp = Timestamp::constant(1_769_860_800, 0);

fn policy(spec: Value) -> SecurityPolicy {
    let mut whole = json!({
        "rulesVersion": "v1", "environment": "Production", "enforcement": "Deny",
        "workloads": {"scope": "Selected", "selector": {"matchLabels": {"part-of": "magsag"}}},
    });
    for (field, value) in spec.as_object().expect("a map") {
        whole[field] = value.clone();
    }
    serde_json::from_value(json!({
        "apiVersion": "portcullis.dev/v1alpha1", "kind": "SecurityPolicy",
        "metadata": {"name": "magsag", "namespace": "agents", "generation": 4}, "spec": whole,
    }))
    .expect("policy has the shape of its type")
}

fn view() -> View {
    View {
        ceiling: Enforcement::Deny,
        listing: Listing::Listed,
        in_force: true,
        awaits_secrets: false,
        audited: None,
    }
}

fn audited(matched: i32, components: &[&str]) -> Option<Audited> {
    Some(Audited {
        counts: WorkloadCounts {
            matched,
            compliant: matched,
            ..WorkloadCounts::default()
        },
        components: components.iter().map(|it| (*it).to_owned()).collect(),
    })
}

/// What became of a policy that compiles and was applied so.
fn outcome(applied: Applied) -> Result<Enforced, EnforceError> {
    Ok(Enforced {
        applied,
        secrets: None,
    })
}

/// One line for each condition.
fn conditions(policy: &SecurityPolicy, outcome: Result<Enforced, EnforceError>, view: &View) -> String {
    let status = of(policy, &outcome, view, NOON);
    assert!(
        status
            .conditions
            .iter()
            .all(|it| it.observed_generation == Some(4))
    );
    let lines = status
        .conditions
        .iter()
        .map(|it| format!("{}={} {}: {}", it.type_, it.status, it.reason, it.message));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_policy_in_force_is_ready() {
    insta::assert_snapshot!(conditions(&policy(json!({})), Ok(Enforced::default()), &view()), @r"
    Accepted=True Valid: the policy compiles
    Enforced=True Enforced: the webhook judges the namespace
    Ready=True Enforced: the policy is in force
    ");
}

#[test]
fn an_invalid_policy_names_the_field_and_says_what_stays() {
    let policy = policy(json!({"network": {"flows": [
        {"from": {"preset": "PolicyWorkloads"}, "to": {"cidr": "10.0.0.0/33", "except": []}, "ports": [443]},
    ]}}));
    let invalid = CompiledPolicy::try_from(&policy).expect_err("the range is none");
    insta::assert_snapshot!(conditions(&policy, Err(invalid.into()), &view()), @r"
    Accepted=False Invalid: `spec.network.flows[0].to.cidr` must be a range such as 10.0.0.0/8 or fd00::/8, got `10.0.0.0/33`
    Enforced=False Invalid: the version before stays in force; what was generated is left as it is
    Ready=False Invalid: `spec.network.flows[0].to.cidr` must be a range such as 10.0.0.0/8 or fd00::/8, got `10.0.0.0/33`
    ");
}

#[test]
fn what_an_invalid_policy_had_generated_stays_in_the_status() {
    let mut policy = policy(json!({}));
    policy.status = Some(SecurityPolicyStatus {
        generated: Some(GeneratedCounts { network_policies: 3 }),
        ..SecurityPolicyStatus::default()
    });
    let status = of(
        &policy,
        &Err(EnforceError::Exempt("kube-system".into())),
        &view(),
        NOON,
    );
    assert_eq!(status.generated, Some(GeneratedCounts { network_policies: 3 }));
}

#[test]
fn r45_a_foreign_object_of_our_name_is_a_conflict() {
    let applied = Applied {
        conflicts: vec!["portcullis-magsag-dns".into()],
        ..Applied::default()
    };
    insta::assert_snapshot!(conditions(&policy(json!({"network": {}})), outcome(applied), &view()), @r"
    Accepted=True Valid: the policy compiles
    Enforced=False Conflict: NetworkPolicy portcullis-magsag-dns exists and is not Portcullis': it is left alone; rename or delete it
    Ready=False Conflict: NetworkPolicy portcullis-magsag-dns exists and is not Portcullis': it is left alone; rename or delete it
    ");
}

#[test]
fn r46_a_fight_names_the_other_manager() {
    let contested = Contested {
        name: "portcullis-magsag-dns".into(),
        by: Some("other-operator".into()),
        pause: std::time::Duration::from_secs(4),
    };
    let applied = Applied {
        contested: vec![contested],
        ..Applied::default()
    };
    insta::assert_snapshot!(conditions(&policy(json!({"network": {}})), outcome(applied), &view()), @r"
    Accepted=True Valid: the policy compiles
    Enforced=False Conflict: NetworkPolicy portcullis-magsag-dns is changed again and again by other-operator and not put back at once any more; stop other-operator from changing it
    Ready=False Conflict: NetworkPolicy portcullis-magsag-dns is changed again and again by other-operator and not put back at once any more; stop other-operator from changing it
    ");
}

#[test]
fn the_ceiling_is_told_and_only_where_it_caps() {
    let view = View {
        ceiling: Enforcement::Warn,
        ..view()
    };
    insta::assert_snapshot!(conditions(&policy(json!({})), Ok(Enforced::default()), &view), @r"
    Accepted=True Valid: the policy compiles
    Enforced=False EnforcementCeiling: the cluster's enforcementCeiling is Warn: `spec.enforcement` Deny is not in force beyond it
    Ready=False EnforcementCeiling: the cluster's enforcementCeiling is Warn: `spec.enforcement` Deny is not in force beyond it
    ");
    let audit = policy(json!({"enforcement": "Audit"}));
    let told = conditions(&audit, Ok(Enforced::default()), &view);
    assert!(told.contains("Enforced=True"), "{told}");
}

#[test]
fn unknown_secrets_are_never_taken_for_present() {
    let secrets = DeclaredSecrets {
        declared: 2,
        present: 1,
        missing: 0,
        unknown: Some("Secrets of namespace agents have not been listed yet".into()),
    };
    let outcome = Ok(Enforced {
        secrets: Some(secrets),
        ..Enforced::default()
    });
    insta::assert_snapshot!(conditions(&policy(json!({})), outcome, &view()), @r"
    Accepted=True Valid: the policy compiles
    Enforced=True Enforced: the webhook judges the namespace
    Ready=False SecretsUnreadable: Secrets of namespace agents have not been listed yet
    ");
}

#[test]
fn missing_secrets_are_counted_without_names() {
    let secrets = DeclaredSecrets {
        declared: 3,
        present: 2,
        missing: 1,
        unknown: None,
    };
    let outcome = Ok(Enforced {
        secrets: Some(secrets),
        ..Enforced::default()
    });
    insta::assert_snapshot!(conditions(&policy(json!({})), outcome, &view()), @r"
    Accepted=True Valid: the policy compiles
    Enforced=True Enforced: the webhook judges the namespace
    Ready=False SecretMissing: 1 of 3 entries of `spec.secrets.entries` wait for their Secret or its key
    ");
}

#[test]
fn a_selector_that_matches_nothing_is_named() {
    let components = json!({"components": [
        {"name": "api", "role": "HttpService", "selector": {"matchLabels": {"app": "api"}}},
        {"name": "redis", "role": "Redis", "selector": {"matchLabels": {"app": "rediss"}}},
    ]});
    let ready = |audited| {
        let view = View { audited, ..view() };
        let told = conditions(&policy(components.clone()), Ok(Enforced::default()), &view);
        told.lines().last().map(str::to_owned).unwrap_or_default()
    };
    insta::assert_snapshot!(ready(audited(0, &[])), @"Ready=True NoWorkloads: `spec.workloads.selector` matches no workload of the namespace yet");
    insta::assert_snapshot!(ready(audited(2, &["api"])), @"Ready=True NoWorkloads: no workload is matched yet by `spec.components[1].selector` (redis)");
    insta::assert_snapshot!(ready(audited(2, &["api", "redis"])), @"Ready=True Enforced: the policy is in force");
}

#[test]
fn a_dry_run_says_that_nothing_was_written() {
    let proposed = portcullis_api::ProposedNetworkPolicy {
        name: "portcullis-magsag-dns".into(),
        summary: "egress from all workloads to the cluster's DNS on 53/UDP, 53/TCP".into(),
    };
    let applied = Applied {
        proposed: vec![proposed],
        ..Applied::default()
    };
    let told = conditions(
        &policy(json!({"network": {"mode": "DryRun"}})),
        outcome(applied),
        &view(),
    );
    insta::assert_snapshot!(told, @r"
    Accepted=True Valid: the policy compiles
    Enforced=True Enforced: the webhook judges the namespace; 1 NetworkPolicies are only proposed, since `spec.network.mode` is DryRun
    Ready=True Enforced: the policy is in force
    ");
}

#[test]
fn the_time_moves_only_when_a_condition_turns() {
    let mut policy = policy(json!({}));
    policy.status = Some(of(&policy, &Ok(Enforced::default()), &view(), NOON));
    let later = Timestamp::constant(1_769_860_900, 0);
    let same = of(&policy, &Ok(Enforced::default()), &view(), later);
    assert_eq!(
        policy.status.as_ref(),
        Some(&same),
        "a steady state writes nothing"
    );
    let pending = View {
        listing: Listing::Pending,
        ..view()
    };
    let turned = of(&policy, &Ok(Enforced::default()), &pending, later);
    let times: Vec<bool> = turned
        .conditions
        .iter()
        .map(|it| it.last_transition_time.0 == later)
        .collect();
    assert_eq!(
        times,
        [false, true, true],
        "Accepted stayed, Enforced and Ready turned"
    );
}

#[test]
fn a_contested_webhook_configuration_is_no_ready_policy() {
    let contested = View {
        listing: Listing::Contested,
        ..view()
    };
    insta::assert_snapshot!(conditions(&policy(json!({})), Ok(Enforced::default()), &contested), @r"
    Accepted=True Valid: the policy compiles
    Enforced=False Conflict: the webhook configuration is changed or deleted again and again, and lets workloads pass unjudged until it is put back; stop whoever changes it
    Ready=False Conflict: the webhook configuration is changed or deleted again and again, and lets workloads pass unjudged until it is put back; stop whoever changes it
    ");
}

#[test]
fn secrets_that_were_not_listed_yet_leave_the_status_as_it_was() {
    let seen = |present, cause: Option<&str>| {
        Ok(Enforced {
            secrets: Some(DeclaredSecrets {
                declared: 2,
                present,
                missing: 0,
                unknown: cause.map(Into::into),
            }),
            ..Enforced::default()
        })
    };
    let mut policy = policy(json!({}));
    let before = of(&policy, &seen(2, None), &view(), NOON);
    policy.status = Some(before.clone());
    let unknown = seen(0, Some("Secrets of namespace agents have not been listed yet"));
    let awaiting = View {
        awaits_secrets: true,
        ..view()
    };
    assert_eq!(of(&policy, &unknown, &awaiting, NOON), before);

    let refused = of(&policy, &unknown, &view(), NOON);
    assert_eq!(
        refused.secrets.map(|it| it.present),
        Some(0),
        "refused is no waiting"
    );
    policy.metadata.generation = Some(5);
    let anew = of(&policy, &unknown, &awaiting, NOON);
    let ready = anew.conditions.iter().find(|it| it.type_ == condition::READY);
    assert_eq!(
        ready.map(|it| it.reason.as_str()),
        Some(reason::SECRETS_UNREADABLE),
        "another spec was never ready"
    );
}
