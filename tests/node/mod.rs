//! What tests on a real node share: one cluster for each test file, with the operator's image installed by helm.

// Each file that includes this uses its own part.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test file uses its own part of this module"
)]

use std::ops::Deref;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, anyhow, ensure};

use crate::cluster::{Cluster, eventually, printed_by, root};

/// How manifests are applied: as a user types it.
const APPLY: &str = "apply -f -";

/// A level-3 cluster with the operator installed from its image.
#[derive(Debug)]
pub struct Node(Cluster);

impl Deref for Node {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.0
    }
}

/// The node of this test file; started once, also when that fails.
pub fn node() -> Result<&'static Node> {
    static NODE: OnceLock<Result<Node>> = OnceLock::new();
    NODE.get_or_init(Node::start)
        .as_ref()
        .map_err(|error| anyhow!("{error:#}"))
}

impl Node {
    fn start() -> Result<Self> {
        let image = root().join("dist/portcullis.tar");
        ensure!(
            image.exists(),
            "dist/portcullis.tar is not there: run `make image`"
        );
        let node = Self(Cluster::start(3, "node")?);
        let mut load = node.command("e2e/load-image");
        load.args(["--name", &node.name]).arg(image);
        printed_by(&mut load).context("e2e/load-image")?;
        node.install()?;
        Ok(node)
    }

    /// Installs the operator as a user would, and waits for it.
    pub fn install(&self) -> Result<()> {
        self.helm_install(&["image.repository=portcullis.test/portcullis", "image.tag=dev"])
    }

    /// Applies a manifest; what kubectl printed as its error where it was refused.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.kubectl_with(APPLY, manifest)
    }

    /// The text with which a manifest is refused; an error when it is not.
    pub fn refusal(&self, manifest: &str) -> Result<String> {
        self.refused_by(APPLY, manifest)
    }

    /// The warnings with which a manifest is admitted; an error when there is none.
    pub fn warnings(&self, manifest: &str) -> Result<String> {
        self.warned_by(APPLY, manifest)
    }

    /// Makes a namespace with a policy in it, and waits until it is enforced.
    pub fn govern(&self, namespace: &str, policy: &str) -> Result<()> {
        self.kubectl(&format!("create namespace {namespace}"))?;
        self.apply(policy)?;
        self.wait_enforced(namespace)
    }

    /// Waits until the policies of the namespace are enforced. Their conditions alone may stem from an operator that was
    /// there before, so the webhook configuration has to list the namespace too.
    pub fn wait_enforced(&self, namespace: &str) -> Result<()> {
        self.wait(&format!(
            "securitypolicies.portcullis.dev --all --for=condition=Enforced -n {namespace}"
        ))?;
        eventually(|| {
            let selectors = self.kubectl(
                "get validatingwebhookconfiguration zz-portcullis -o jsonpath={.webhooks[*].namespaceSelector}",
            )?;
            let quoted = format!("\"{namespace}\"");
            ensure!(
                selectors.contains(&quoted),
                "{namespace} is not listed: {selectors}"
            );
            Ok(())
        })
    }

    /// Whether a pod with these labels (as JSON) gets a connection to `address`.
    pub fn dial(&self, namespace: &str, labels: &str, address: &str) -> Result<bool> {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let name = format!("dial-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let pod = format!(
            r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "{name}", "namespace": "{namespace}", "labels": {labels}}},
            "spec": {{"restartPolicy": "Never", "automountServiceAccountToken": false,
            "securityContext": {{"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {{"type": "RuntimeDefault"}}}},
            "containers": [{{"name": "dial", "image": "portcullis.test/probe:v1", "args": ["dial", "{address}"],
            "securityContext": {{"allowPrivilegeEscalation": false, "capabilities": {{"drop": ["ALL"]}}}}}}]}}}}"#
        );
        self.apply(&pod)?;
        let path = "{.status.containerStatuses[0].state.terminated.exitCode}";
        let code = eventually(|| {
            let code = self.kubectl(&format!("get pod {name} -n {namespace} -o jsonpath={path}"))?;
            ensure!(!code.is_empty(), "the pod has not ended");
            Ok(code)
        })?;
        self.kubectl(&format!("delete pod {name} -n {namespace} --now"))?;
        Ok(code == "0")
    }
}
