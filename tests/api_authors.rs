//! The operator never does for an author what the author may not do: the chart's admission policy on a real API server,
//! without a single replica of the operator.

mod chart;
mod cluster;

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use chart::refusal_of;
use cluster::{Cluster, eventually};
use portcullis_api::ACTING_FIELDS;
use rstest::rstest;
use serde_json::{Value, json};

/// Verb, group and resource of each right that some acting field asks for.
const RIGHTS: [(&str, &str, &str); 10] = [
    ("create", "networking.k8s.io", "networkpolicies"),
    ("delete", "networking.k8s.io", "networkpolicies"),
    ("get", "", "secrets"),
    ("patch", "", "pods"),
    ("patch", "apps", "deployments"),
    ("patch", "apps", "statefulsets"),
    ("patch", "apps", "daemonsets"),
    ("patch", "apps", "replicasets"),
    ("patch", "batch", "jobs"),
    ("patch", "batch", "cronjobs"),
];

const NETWORK: &str = "spec.network needs the right to create networkpolicies.networking.k8s.io in namespace agents; \
    ask for it, or leave spec.network out";
const NETWORK_REACH: &str = "changing spec.workloads or spec.components, to which spec.network is applied, needs the \
    right to create networkpolicies.networking.k8s.io in namespace agents; ask for it, or leave them as they are";
const NETWORK_REMOVAL: &str = "removing spec.network, setting it to DryRun or deleting its policy needs the right to \
    delete networkpolicies.networking.k8s.io in namespace agents; ask for it, or leave spec.network as it is";
const ENTRIES: &str = "spec.secrets.entries needs the right to get secrets in namespace agents; ask for it, or leave \
    spec.secrets.entries out";
const DELIVERY_TO_PODS: &str = "spec.secrets.entries[].delivery needs the right to patch pods, deployments.apps, \
    statefulsets.apps, daemonsets.apps, replicasets.apps, jobs.batch, cronjobs.batch in namespace agents (missing: \
    pods); ask for it, or leave delivery out";
const DELIVERY_REACH_TO_PODS: &str = "changing spec.workloads or spec.components, to which \
    spec.secrets.entries[].delivery is applied, needs the right to patch pods, deployments.apps, statefulsets.apps, \
    daemonsets.apps, replicasets.apps, jobs.batch, cronjobs.batch in namespace agents (missing: pods); ask for it, or \
    leave them as they are";

/// Each author has all rights but the one named; a policy is `null` where there is none, before or after.
#[rstest]
#[case::network_added("create networkpolicies", none(), network(), NETWORK)]
#[case::network_added_later("create networkpolicies", plain(), network(), NETWORK)]
#[case::network_tried("create networkpolicies", none(), dry_run(), NETWORK)]
#[case::network_enforced("create networkpolicies", dry_run(), network(), NETWORK)]
#[case::flow_added("create networkpolicies", network(), flow(), NETWORK)]
#[case::flow_removed("create networkpolicies", flow(), network(), NETWORK)]
#[case::network_moved_by_workloads(
    "create networkpolicies",
    network(),
    with(network(), selected()),
    NETWORK_REACH
)]
#[case::network_moved_by_components(
    "create networkpolicies",
    network(),
    with(network(), component("a")),
    NETWORK_REACH
)]
#[case::network_removed("delete networkpolicies", network(), plain(), NETWORK_REMOVAL)]
#[case::network_nulled("delete networkpolicies", network(), json!({"network": null}), NETWORK_REMOVAL)]
#[case::network_no_longer_enforced("delete networkpolicies", network(), dry_run(), NETWORK_REMOVAL)]
#[case::network_deleted("delete networkpolicies", network(), none(), NETWORK_REMOVAL)]
#[case::entries_added("get secrets", none(), entries(1), ENTRIES)]
#[case::entries_added_later("get secrets", plain(), entries(1), ENTRIES)]
#[case::another_entry_added("get secrets", entries(1), entries(2), ENTRIES)]
#[case::entry_of_another_secret("get secrets", entries(1), of_other_secret(entries(1)), ENTRIES)]
#[case::entry_under_another_name("get secrets", entries(1), changed(entries(1), "env", json!("OTHER")), ENTRIES)]
// What takes away alone is looked for among no more than 300.
#[case::entries_removed_from_many("get secrets", entries(301), entries(300), ENTRIES)]
#[case::delivery_added("patch pods", none(), delivered(1), DELIVERY_TO_PODS)]
#[case::delivery_added_to_an_entry("patch pods", entries(1), delivered(1), DELIVERY_TO_PODS)]
#[case::another_entry_delivered("patch pods", delivered(1), delivered(2), DELIVERY_TO_PODS)]
#[case::delivered_from_another_secret(
    "patch pods",
    delivered(1),
    of_other_secret(delivered(1)),
    DELIVERY_TO_PODS
)]
#[case::delivered_to_another_container(
    "patch pods",
    delivered(1),
    to_container(entries(1), "other"),
    DELIVERY_TO_PODS
)]
#[case::delivery_moved_by_workloads(
    "patch pods",
    delivered(1),
    with(delivered(1), selected()),
    DELIVERY_REACH_TO_PODS
)]
#[case::delivery_moved_by_components(
    "patch pods",
    of_component("a"),
    of_component("b"),
    DELIVERY_REACH_TO_PODS
)]
#[case::delivery_moved_while_it_shrinks(
    "patch pods",
    delivered(2),
    with(delivered(1), selected()),
    DELIVERY_REACH_TO_PODS
)]
#[case::most_entries_that_there_may_be("patch pods", delivered(999), delivered(1000), DELIVERY_TO_PODS)]
fn r52_what_its_author_may_not_do_is_refused(
    #[case] lacks: &str,
    #[case] before: Value,
    #[case] after: Value,
    #[case] message: &str,
) -> Result<()> {
    let refusal = Author::without(lacks).writes(&before, &after)?;
    assert_eq!(refusal.as_deref(), Some(message));
    Ok(())
}

#[rstest]
#[case("deployments", "deployments.apps")]
#[case("statefulsets", "statefulsets.apps")]
#[case("daemonsets", "daemonsets.apps")]
#[case("replicasets", "replicasets.apps")]
#[case("jobs", "jobs.batch")]
#[case("cronjobs", "cronjobs.batch")]
fn r52_delivery_asks_for_each_kind_that_makes_pods(
    #[case] resource: &str,
    #[case] missing: &str,
) -> Result<()> {
    let refusal = Author::without(&format!("patch {resource}")).writes(&none(), &delivered(1))?;
    let message = DELIVERY_TO_PODS.replace("(missing: pods)", &format!("(missing: {missing})"));
    assert_eq!(refusal, Some(message));
    Ok(())
}

#[rstest]
#[case::judging_alone("every right", none(), judging())]
#[case::judging_changed("every right", plain(), judging())]
#[case::judging_deleted("every right", judging(), none())]
#[case::judging_moved("every right", judging(), with(judging(), selected()))]
#[case::sections_that_are_null("every right", none(), json!({"network": null, "secrets": null}))]
#[case::entries_that_are_null("every right", none(), json!({"secrets": {"entries": null}}))]
#[case::acting_left_as_it_was("every right", acting(), with(acting(), json!({"contact": "#agents"})))]
#[case::entry_removed("every right", entries(2), entries(1))]
#[case::entries_removed("every right", entries(2), plain())]
#[case::entries_moved("every right", entries(1), with(entries(1), selected()))]
#[case::delivered_entry_removed("every right", delivered(2), delivered(1))]
#[case::delivery_deleted("every right", delivered(1), none())]
#[case::trial_of_network_removed("every right", dry_run(), plain())]
#[case::trial_of_network_deleted("every right", dry_run(), none())]
#[case::network_removed("create networkpolicies", network(), plain())]
#[case::network_deleted("create networkpolicies", network(), none())]
#[case::network_added("delete networkpolicies", none(), network())]
#[case::flow_removed("delete networkpolicies", flow(), network())]
#[case::delivery_removed("patch pods", delivered(1), entries(1))]
#[case::entries_added("patch pods", none(), entries(1))]
#[case::other_sections("get secrets", none(), with(network(), judging()))]
#[case::all_at_once("no right", none(), acting())]
#[case::all_removed("no right", acting(), plain())]
#[case::all_deleted("no right", acting(), none())]
#[case::most_entries_that_there_may_be("no right", delivered(999), delivered(1000))]
fn r52_what_asks_for_nothing_more_is_allowed(
    #[case] lacks: &str,
    #[case] before: Value,
    #[case] after: Value,
) -> Result<()> {
    let refusal = Author::without(lacks).writes(&before, &after)?;
    assert_eq!(refusal, None);
    Ok(())
}

#[rstest]
#[case::cluster_admin(Author(String::new()))]
#[case::who_edits_the_namespace(Author("--as=editor ".to_owned()))]
fn r52_ordinary_roles_are_enough(#[case] author: Author) -> Result<()> {
    assert_eq!(author.writes(&none(), &acting())?, None);
    assert_eq!(author.writes(&acting(), &with(flow(), delivered(3)))?, None);
    assert_eq!(author.writes(&acting(), &none())?, None);
    Ok(())
}

#[test]
fn r52_each_acting_field_is_refused_to_who_has_no_right() -> Result<()> {
    for field in ACTING_FIELDS {
        let policy = match *field {
            "spec.network" => network(),
            "spec.secrets.entries" => entries(1),
            "spec.secrets.entries[].delivery" => delivered(1),
            other => bail!("add a policy that states `{other}`, and what is refused to the tables above"),
        };
        let refusal = Author::without("every right").writes(&none(), &policy)?;
        let refusal = refusal.with_context(|| format!("`{field}` must be refused"))?;
        assert!(
            refusal.starts_with(&format!("{field} needs the right to ")),
            "{refusal}"
        );
    }
    Ok(())
}

#[test]
fn r52_labels_and_annotations_ask_for_nothing() -> Result<()> {
    let policy = given(&acting())?;
    let author = Author::without("every right").0;
    cluster()?.kubectl(&format!("{author}label secpol {policy} -n agents team=agents"))?;
    cluster()?.kubectl(&format!("{author}annotate secpol {policy} -n agents note=none"))?;
    Ok(())
}

#[test]
fn r52_deleting_all_policies_at_once_asks_as_well() -> Result<()> {
    let policy = given(&network())?;
    let all = "/apis/portcullis.dev/v1alpha1/namespaces/agents/securitypolicies";
    let author = Author::without("delete networkpolicies").0;
    let selector = format!("?fieldSelector=metadata.name={policy}");
    let refusal = refusal_of(
        cluster()?.kubectl(&format!("{author}delete --raw {all}{selector}")),
        "policy-authors",
    )?;
    assert_eq!(refusal.as_deref(), Some(NETWORK_REMOVAL));
    cluster()?
        .kubectl(&format!("get secpol {policy} -n agents"))
        .map(drop)
}

#[test]
fn r52_a_namespace_can_be_deleted_with_its_policies() -> Result<()> {
    let cluster = cluster()?;
    cluster.kubectl("create namespace leaving")?;
    cluster.kubectl_with("create -f -", &manifest("leaving", "all", &acting()))?;
    cluster.kubectl("delete namespace leaving").map(drop)
}

/// An author, as the argument that makes kubectl write in its name.
struct Author(String);

impl Author {
    fn without(right: &str) -> Self {
        Self(format!("--as={} ", user_without(right)))
    }

    /// Writes a policy of which an administrator has written the state before; the message if it is refused.
    fn writes(&self, before: &Value, after: &Value) -> Result<Option<String>> {
        let author = &self.0;
        let name = given(before)?;
        let policy = manifest("agents", &name, after);
        let result = match (before, after) {
            (_, Value::Null) => cluster()?.kubectl(&format!("{author}delete secpol {name} -n agents")),
            (Value::Null, _) => cluster()?.kubectl_with(&format!("{author}create -f -"), &policy),
            _ => cluster()?.kubectl_with(&format!("{author}replace -f -"), &policy),
        };
        refusal_of(result, "policy-authors")
    }
}

/// Name of a new policy with these sections, written by an administrator; for `null` there is none yet.
fn given(sections: &Value) -> Result<String> {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let name = format!("policy-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    if !sections.is_null() {
        cluster()?.kubectl_with("create -f -", &manifest("agents", &name, sections))?;
    }
    Ok(name)
}

fn cluster() -> Result<&'static Cluster> {
    chart::cluster(make_authors)
}

fn make_authors(cluster: &Cluster) -> Result<()> {
    cluster.kubectl("create namespace agents")?;
    let mut objects = vec![binding("editor", "ClusterRole", "edit")];
    let lacking = RIGHTS
        .iter()
        .map(|(verb, _, resource)| format!("{verb} {resource}"));
    for lacks in lacking.chain(["every right".to_owned(), "no right".to_owned()]) {
        let user = user_without(&lacks);
        objects.push(role(&user, &lacks));
        objects.push(binding(&user, "Role", &user));
    }
    cluster.kubectl_with(
        "create -f -",
        &json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string(),
    )?;
    // Admission policies and roles take effect a moment after they were written.
    eventually(|| {
        let network = manifest("agents", "trial", &network());
        let create = format!(
            "--as={} create --dry-run=server -f -",
            user_without("every right")
        );
        let refused = refusal_of(cluster.kubectl_with(&create, &network), "policy-authors")?;
        ensure!(refused.is_some(), "the admission policy is in force");
        // Whose role the chart adds to, and who was made last.
        for user in ["editor", &user_without("no right")] {
            cluster.kubectl(&format!(
                "auth can-i create securitypolicies.portcullis.dev -n agents --as={user} -q"
            ))?;
        }
        Ok(())
    })
}

fn user_without(right: &str) -> String {
    format!("without-{}", right.replace(' ', "-"))
}

fn role(name: &str, lacks: &str) -> Value {
    let has = |(verb, _, resource): &(&str, &str, &str)| {
        lacks == "no right" || *lacks != format!("{verb} {resource}")
    };
    let rights = RIGHTS.iter().filter(|right| lacks != "every right" && has(right));
    let mut rules: Vec<Value> = rights
        .map(
            |(verb, group, resource)| json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]}),
        )
        .collect();
    rules.push(json!({
        "apiGroups": ["portcullis.dev"], "resources": ["securitypolicies"],
        "verbs": ["get", "list", "create", "update", "patch", "delete", "deletecollection"]
    }));
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": name, "namespace": "agents"}, "rules": rules
    })
}

fn binding(user: &str, kind: &str, role: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": user, "namespace": "agents"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]
    })
}

fn manifest(namespace: &str, name: &str, sections: &Value) -> String {
    let base = json!({
        "rulesVersion": "v1", "environment": "Production", "enforcement": "Deny", "workloads": {"scope": "Namespace"}
    });
    json!({
        "apiVersion": "portcullis.dev/v1alpha1", "kind": "SecurityPolicy",
        "metadata": {"name": name, "namespace": namespace}, "spec": with(base, sections.clone())
    })
    .to_string()
}

/// The sections of both; the latter's word counts.
fn with(sections: Value, more: Value) -> Value {
    let fields = |it: Value| it.as_object().cloned().unwrap_or_default();
    fields(sections).into_iter().chain(fields(more)).collect()
}

fn none() -> Value {
    Value::Null
}

fn plain() -> Value {
    json!({})
}

fn judging() -> Value {
    json!({"podSecurity": {"defaults": ["SeccompProfile"]}, "http": {}, "secrets": {"onMissing": "Warn"}})
}

fn acting() -> Value {
    with(network(), delivered(1))
}

fn network() -> Value {
    json!({"network": {}})
}

fn dry_run() -> Value {
    json!({"network": {"mode": "DryRun"}})
}

fn flow() -> Value {
    json!({"network": {"flows": [{"from": {"preset": "PolicyWorkloads"}, "to": {"preset": "PublicHttps"}}]}})
}

fn selected() -> Value {
    json!({"workloads": {"scope": "Selected", "selector": {"matchLabels": {"app": "api"}}}})
}

fn component(app: &str) -> Value {
    json!({"components": [{"name": "api", "role": "Other", "selector": {"matchLabels": {"app": app}}}]})
}

fn entries(count: usize) -> Value {
    let secret = json!({"name": "s", "key": "k"});
    let entry = |n| json!({"name": format!("entry-{n}"), "env": format!("KEY_{n}"), "secretRef": secret});
    json!({"secrets": {"entries": (0..count).map(entry).collect::<Vec<_>>()}})
}

fn delivered(count: usize) -> Value {
    to_container(entries(count), "api")
}

fn to_container(sections: Value, container: &str) -> Value {
    changed(
        sections,
        "delivery",
        json!({"mode": "Env", "containers": [container]}),
    )
}

fn of_other_secret(sections: Value) -> Value {
    changed(sections, "secretRef", json!({"name": "other", "key": "k"}))
}

/// An entry delivered to a component whose pods have this label.
fn of_component(app: &str) -> Value {
    with(
        changed(delivered(1), "components", json!(["api"])),
        component(app),
    )
}

/// With this field in each entry.
fn changed(mut sections: Value, field: &str, value: Value) -> Value {
    let entries = sections
        .pointer_mut("/secrets/entries")
        .and_then(Value::as_array_mut);
    for entry in entries.into_iter().flatten().filter_map(Value::as_object_mut) {
        entry.insert(field.to_owned(), value.clone());
    }
    sections
}
