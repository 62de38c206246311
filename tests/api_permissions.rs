//! What the operator's own account may do, on a real API server: as little as RBAC can say, and what RBAC cannot say by
//! the chart's admission policy.

mod chart;
mod cluster;

use anyhow::{Context, Result, ensure};
use chart::refusal_of;
use cluster::{Cluster, OPERATOR_NAMESPACE, eventually};
use rstest::rstest;
use serde_json::json;

const OPERATOR: &str = "--as=system:serviceaccount:portcullis-system:portcullis";
const READER: &str = "portcullis-secret-reader";

#[rstest]
// Secrets: its certificate, and nothing else.
#[case("get secrets/portcullis-tls -n portcullis-system", true)]
#[case("get secrets/other -n portcullis-system", false)]
#[case("list secrets -n portcullis-system", false)]
#[case("get secrets -n default", false)]
#[case("get secrets -n kube-system", false)]
#[case("list secrets -A", false)]
#[case("watch secrets -A", false)]
#[case("create secrets -n default", false)]
// Its Lease.
#[case("update leases.coordination.k8s.io/portcullis -n portcullis-system", true)]
#[case("update leases.coordination.k8s.io/other -n portcullis-system", false)]
#[case("update leases.coordination.k8s.io/portcullis -n kube-system", false)]
// Its webhook configurations.
#[case("patch validatingwebhookconfigurations/zz-portcullis -A", true)]
#[case("delete mutatingwebhookconfigurations/zz-portcullis -A", true)]
#[case("patch validatingwebhookconfigurations/other -A", false)]
#[case("create mutatingwebhookconfigurations -A", false)]
// Roles: it binds one, under one name.
#[case(
    "bind clusterroles.rbac.authorization.k8s.io/portcullis-secret-reader -A",
    true
)]
#[case("bind clusterroles.rbac.authorization.k8s.io/cluster-admin -A", false)]
#[case("bind clusterroles.rbac.authorization.k8s.io -A", false)]
#[case("bind roles.rbac.authorization.k8s.io -n default", false)]
#[case("escalate clusterroles.rbac.authorization.k8s.io/portcullis -A", false)]
#[case("patch clusterroles.rbac.authorization.k8s.io/portcullis -A", false)]
#[case(
    "patch rolebindings.rbac.authorization.k8s.io/portcullis-secret-reader -n default",
    true
)]
#[case(
    "delete rolebindings.rbac.authorization.k8s.io/portcullis-secret-reader -n default",
    true
)]
#[case("patch rolebindings.rbac.authorization.k8s.io/other -n default", false)]
#[case("delete rolebindings.rbac.authorization.k8s.io/other -n default", false)]
#[case("create rolebindings.rbac.authorization.k8s.io -n default", false)]
#[case("create clusterrolebindings.rbac.authorization.k8s.io -A", false)]
// Workloads and policies are read.
#[case("get deployments.apps -n default", true)]
#[case("patch deployments.apps -n default", false)]
#[case("create pods -n default", false)]
#[case("delete pods -n default", false)]
#[case("create pods/exec -n default", false)]
#[case("patch securitypolicies.portcullis.dev -n default", false)]
#[case(
    "patch securitypolicies.portcullis.dev/any --subresource=status -n default",
    true
)]
#[case("delete customresourcedefinitions -A", false)]
#[case("impersonate serviceaccounts -A", false)]
#[case("* * -A", false)]
fn r49_the_operators_account_may_do_what_it_needs_and_no_more(
    #[case] right: &str,
    #[case] expected: bool,
) -> Result<()> {
    // Roles take effect a moment after they were written.
    eventually(|| {
        let answer = cluster()?.kubectl_printed(&format!("auth can-i {right} {OPERATOR}"), "")?;
        // It warns of what is not there to be had a right to, such as a resource that is misspelt here.
        ensure!(answer.err.is_empty(), "{}", answer.err);
        let may = answer.out.trim() == "yes";
        ensure!(may == expected, "may {right}: {may}");
        Ok(())
    })
}

/// Cluster admin is granted beside its own rights, as if somebody had been generous: who it is counts, not what it may.
#[rstest]
#[case::of_another_name(
    binding("other", "default", READER, "portcullis"),
    "metadata.name must be portcullis-secret-reader: system:serviceaccount:portcullis-system:portcullis writes no other \
    RoleBinding, got other"
)]
#[case::of_another_role(
    binding(READER, "default", "cluster-admin", "portcullis"),
    "roleRef of RoleBinding portcullis-secret-reader must be ClusterRole portcullis-secret-reader, got ClusterRole \
    cluster-admin"
)]
#[case::of_another_account(
    binding(READER, "default", READER, "default"),
    "subjects of RoleBinding portcullis-secret-reader must be exactly ServiceAccount portcullis of namespace \
    portcullis-system"
)]
#[case::in_kube_system(
    binding(READER, "kube-system", READER, "portcullis"),
    "RoleBinding portcullis-secret-reader must not be in namespace kube-system, where no policy is in force"
)]
#[case::in_the_operators_namespace(
    binding(READER, "portcullis-system", READER, "portcullis"),
    "RoleBinding portcullis-secret-reader must not be in namespace portcullis-system, where no policy is in force"
)]
fn r49_no_other_rolebinding_is_written_whatever_rights_were_added(
    #[case] binding: String,
    #[case] message: &str,
) -> Result<()> {
    let refusal = refusal_of(
        apply(&format!("{OPERATOR} --as-group=system:masters"), &binding),
        "secret-reader",
    )?;
    assert_eq!(refusal.as_deref(), Some(message));
    Ok(())
}

#[test]
fn r49_nobody_else_binds_others_under_its_name() -> Result<()> {
    let refusal = refusal_of(
        apply("", &binding(READER, "default", READER, "default")),
        "secret-reader",
    )?;
    let message = "subjects of RoleBinding portcullis-secret-reader must be exactly ServiceAccount portcullis of namespace \
        portcullis-system";
    assert_eq!(refusal.as_deref(), Some(message));
    apply("", &binding("other", "default", "view", "default")).map(drop)
}

#[test]
fn r49_its_own_rolebinding_lets_it_read_secrets_of_that_namespace_only() -> Result<()> {
    let cluster = cluster()?;
    cluster.kubectl("create namespace agents")?;
    let refusal = cluster.kubectl(&format!("{OPERATOR} get secrets -n agents"));
    let refusal = refusal.err().context("must be refused")?.to_string();
    ensure!(refusal.contains("cannot list resource \"secrets\""), "{refusal}");

    let binding = binding(READER, "agents", READER, "portcullis");
    apply(OPERATOR, &binding)?;
    apply(OPERATOR, &binding).context("a second time")?;
    eventually(|| cluster.kubectl(&format!("{OPERATOR} get secrets -n agents")))?;
    cluster
        .kubectl(&format!("auth can-i get secrets -n default -q {OPERATOR}"))
        .err()
        .context("nowhere else")?;
    cluster
        .kubectl(&format!("{OPERATOR} delete rolebinding {READER} -n agents"))
        .map(drop)
}

/// As the operator writes.
fn apply(user: &str, manifest: &str) -> Result<String> {
    let arguments = format!("apply --server-side --field-manager=portcullis -f - {user}");
    cluster()?.kubectl_with(arguments.trim_end(), manifest)
}

fn binding(name: &str, namespace: &str, role: &str, account: &str) -> String {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": OPERATOR_NAMESPACE}]
    })
    .to_string()
}

fn cluster() -> Result<&'static Cluster> {
    chart::cluster(wait_in_force)
}

/// Waits for the admission policy, which takes effect a moment after it was written.
fn wait_in_force(cluster: &Cluster) -> Result<()> {
    let other = binding(READER, "default", "view", "portcullis");
    eventually(|| {
        let result = cluster.kubectl_with("create --dry-run=server -f -", &other);
        let refusal = refusal_of(result, "secret-reader")?;
        refusal.map(drop).context("the admission policy is in force")
    })
}
