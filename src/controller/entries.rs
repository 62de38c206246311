//! The entries of the webhook configurations: who is judged, and whose writes must not wait for us. Pure.
//!
//! Our outage must not become theirs: what people and tools write is refused while the webhook does not answer
//! (`--failure-policy`), everything that a cluster does to keep what it has is admitted.

use std::collections::BTreeSet;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, RuleWithOperations, ServiceReference, ValidatingWebhook,
    WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use portcullis_api::GROUP;

use super::peers::{NAMESPACE_NAME, in_list};
use crate::built_in;
use crate::context::{FailurePolicy, OperatorArgs};
use crate::webhook::Trust;

/// What people and tools write: workloads, templates, bare Pods.
const WORKLOADS: &str = "workloads.portcullis.dev";

/// What built-in controllers and kubelets write, what is being deleted, and what leaves `spec` as it is, of Pods
/// also the labels: a policy may select them by these.
const CONTROLLERS: &str = "controllers.portcullis.dev";

/// What configures workloads from outside.
const CONFIG: &str = "config.portcullis.dev";

/// Our own kinds.
const POLICIES: &str = "policies.portcullis.dev";

/// Pods that are to get a credential: without it an application may run unprotected.
const DELIVERY: &str = "delivery.portcullis.dev";

/// Path of the webhook that judges.
const VALIDATE: &str = "/validate";

/// Path of the webhook that sets fields of Pods.
const MUTATE: &str = "/mutate";

/// Path of the webhook for our own kinds.
const OWN_KINDS: &str = "/policies";

/// What the configurations are made from.
#[derive(Clone, Debug)]
pub struct Inputs<'i> {
    /// The operator's options.
    pub args: &'i OperatorArgs,
    /// By what the API server calls the webhook.
    pub trust: &'i Trust,
    /// Namespaces with a policy in force.
    pub governed: &'i BTreeSet<String>,
    /// Those of them with a policy that states `delivery`.
    pub delivering: &'i BTreeSet<String>,
}

/// One entry, before it is written as a validating or a mutating one.
struct Entry {
    name: &'static str,
    path: &'static str,
    rules: Vec<RuleWithOperations>,
    /// `None` is all namespaces.
    namespaces: Option<BTreeSet<String>>,
    failure_policy: FailurePolicy,
    condition: Option<(&'static str, String)>,
}

/// The validating entries.
pub fn validating(inputs: &Inputs<'_>) -> Vec<ValidatingWebhook> {
    let governed = inputs.governed;
    let entries = [
        people(VALIDATE, workload_rules(), governed.clone(), inputs.args),
        controllers(VALIDATE, workload_rules(), governed.clone()),
        Entry {
            name: CONFIG,
            path: VALIDATE,
            rules: vec![rule(
                "networking.k8s.io",
                "v1",
                &["ingresses"],
                &["CREATE", "UPDATE"],
            )],
            namespaces: Some(governed.clone()),
            failure_policy: FailurePolicy::Ignore,
            condition: None,
        },
        Entry {
            name: POLICIES,
            path: OWN_KINDS,
            rules: vec![rule(
                GROUP,
                "v1alpha1",
                &["securitypolicies"],
                // Who deletes one is recorded, never refused.
                &["CREATE", "UPDATE", "DELETE"],
            )],
            namespaces: None,
            failure_policy: FailurePolicy::Ignore,
            condition: None,
        },
    ];
    let entries = entries.into_iter().filter(Entry::has_namespaces);
    entries.map(|it| it.into_validating(inputs)).collect()
}

/// The mutating entries: Pods alone. In namespaces whose policy states `delivery` one entry takes all of them.
pub fn mutating(inputs: &Inputs<'_>) -> Vec<MutatingWebhook> {
    let others: BTreeSet<String> = inputs.governed.difference(inputs.delivering).cloned().collect();
    let entries = [
        people(MUTATE, pod_rules(), others.clone(), inputs.args),
        controllers(MUTATE, pod_rules(), others),
        Entry {
            name: DELIVERY,
            path: MUTATE,
            rules: pod_rules(),
            namespaces: Some(inputs.delivering.clone()),
            failure_policy: FailurePolicy::Fail,
            // The mirror of a pod that a node runs from a file gets nothing, and must not wait for us.
            condition: Some(("no-nodes", format!("!{}", is_node()))),
        },
    ];
    let entries = entries.into_iter().filter(Entry::has_namespaces);
    entries.map(|it| it.into_mutating(inputs)).collect()
}

fn people(
    path: &'static str,
    rules: Vec<RuleWithOperations>,
    namespaces: BTreeSet<String>,
    args: &OperatorArgs,
) -> Entry {
    Entry {
        name: WORKLOADS,
        path,
        rules,
        namespaces: Some(namespaces),
        failure_policy: args.failure_policy,
        condition: Some(("people-and-tools", format!("!({})", is_upkeep()))),
    }
}

fn controllers(path: &'static str, rules: Vec<RuleWithOperations>, namespaces: BTreeSet<String>) -> Entry {
    Entry {
        name: CONTROLLERS,
        path,
        rules,
        namespaces: Some(namespaces),
        failure_policy: FailurePolicy::Ignore,
        condition: Some(("controllers-and-upkeep", is_upkeep())),
    }
}

/// CEL: whether a request only keeps what was judged before. The two entries ask this and its opposite, so that no
/// request slips between them; an absent field is no error, which would count as an outage.
fn is_upkeep() -> String {
    let users: Vec<String> = built_in::users().iter().map(|it| format!("'{it}'")).collect();
    [
        format!(
            "(has(request.userInfo.username) && request.userInfo.username in [{}])",
            users.join(", ")
        ),
        is_node(),
        "(object != null && has(object.metadata.deletionTimestamp))".to_owned(),
        "(request.operation == 'UPDATE' && object != null && oldObject != null && has(object.spec) && has(oldObject.spec) && object.spec == oldObject.spec && (request.kind.kind != 'Pod' || (has(object.metadata.labels) ? object.metadata.labels : {}) == (has(oldObject.metadata.labels) ? oldObject.metadata.labels : {})))"
            .to_owned(),
    ]
    .join(" || ")
}

/// CEL: whether a kubelet asks.
fn is_node() -> String {
    "(has(request.userInfo.groups) && 'system:nodes' in request.userInfo.groups)".to_owned()
}

/// Everything that runs pods. Not `scale`: there is nothing in it to judge.
fn workload_rules() -> Vec<RuleWithOperations> {
    let operations = &["CREATE", "UPDATE"];
    vec![
        rule(
            "",
            "v1",
            &[
                "pods",
                "pods/ephemeralcontainers",
                "pods/resize",
                "podtemplates",
                "replicationcontrollers",
            ],
            operations,
        ),
        rule(
            "apps",
            "v1",
            &["deployments", "replicasets", "statefulsets", "daemonsets"],
            operations,
        ),
        rule("batch", "v1", &["jobs", "cronjobs"], operations),
    ]
}

/// Pods, and what `kubectl debug` adds to them.
fn pod_rules() -> Vec<RuleWithOperations> {
    vec![
        rule("", "v1", &["pods"], &["CREATE"]),
        rule("", "v1", &["pods/ephemeralcontainers"], &["UPDATE"]),
    ]
}

fn rule(group: &str, version: &str, resources: &[&str], operations: &[&str]) -> RuleWithOperations {
    let owned = |list: &[&str]| Some(list.iter().map(|it| (*it).to_owned()).collect());
    RuleWithOperations {
        api_groups: owned(&[group]),
        api_versions: owned(&[version]),
        operations: owned(operations),
        resources: owned(resources),
        scope: Some("Namespaced".into()),
    }
}

impl Entry {
    /// An entry for no namespace is left out: a list without values is invalid, and no list would mean all.
    fn has_namespaces(&self) -> bool {
        self.namespaces.as_ref().is_none_or(|it| !it.is_empty())
    }

    fn namespace_selector(&self) -> LabelSelector {
        let expressions = self
            .namespaces
            .as_ref()
            .map(|it| vec![in_list(NAMESPACE_NAME, it.iter().cloned())]);
        LabelSelector {
            match_expressions: expressions,
            ..LabelSelector::default()
        }
    }

    fn match_conditions(&self) -> Option<Vec<MatchCondition>> {
        let (name, expression) = self.condition.as_ref()?;
        Some(vec![MatchCondition {
            name: (*name).to_owned(),
            expression: expression.clone(),
        }])
    }

    fn failure_policy(&self) -> Option<String> {
        Some(match self.failure_policy {
            FailurePolicy::Fail => "Fail".into(),
            FailurePolicy::Ignore => "Ignore".into(),
        })
    }

    // Every field is stated, defaults too: what is read back can then be compared as a whole.
    fn into_validating(self, inputs: &Inputs<'_>) -> ValidatingWebhook {
        ValidatingWebhook {
            admission_review_versions: vec!["v1".into()],
            client_config: client_config(inputs, self.path),
            failure_policy: self.failure_policy(),
            match_conditions: self.match_conditions(),
            match_policy: Some("Equivalent".into()),
            name: self.name.into(),
            namespace_selector: Some(self.namespace_selector()),
            object_selector: Some(LabelSelector::default()),
            rules: Some(self.rules),
            // A look-up may bind the operator to its role, never in a dry run.
            side_effects: "NoneOnDryRun".into(),
            timeout_seconds: Some(inputs.args.webhook_timeout_seconds.into()),
        }
    }

    fn into_mutating(self, inputs: &Inputs<'_>) -> MutatingWebhook {
        MutatingWebhook {
            admission_review_versions: vec!["v1".into()],
            client_config: client_config(inputs, self.path),
            failure_policy: self.failure_policy(),
            match_conditions: self.match_conditions(),
            match_policy: Some("Equivalent".into()),
            name: self.name.into(),
            namespace_selector: Some(self.namespace_selector()),
            object_selector: Some(LabelSelector::default()),
            // Other webhooks may add containers after us.
            reinvocation_policy: Some("IfNeeded".into()),
            rules: Some(self.rules),
            side_effects: "NoneOnDryRun".into(),
            timeout_seconds: Some(inputs.args.webhook_timeout_seconds.into()),
        }
    }
}

fn client_config(inputs: &Inputs<'_>, path: &str) -> WebhookClientConfig {
    let args = inputs.args;
    // Whoever else reaches the port does not know the path.
    let path = format!("{path}/{}", inputs.trust.token.as_str());
    let service = || ServiceReference {
        name: args.webhook_service.clone(),
        namespace: args.namespace.clone(),
        path: Some(path.clone()),
        port: Some(443),
    };
    let url = args.webhook_url.as_ref();
    let url = url.map(|it| format!("{}{path}", it.trim_end_matches('/')));
    WebhookClientConfig {
        ca_bundle: Some(ByteString(inputs.trust.ca_bundle.clone())),
        service: url.is_none().then(service),
        url,
    }
}

#[cfg(test)]
#[path = "entries_tests.rs"]
mod tests;
