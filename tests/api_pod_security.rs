//! The Pod Security Standards: what our rules say of random pods beside what the API server's own admission decides,
//! control by control and in every version.

mod cluster;
mod standard;

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use cluster::{Cluster, eventually};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use portcullis_api::RuleId;
use portcullis_engine::CompiledPolicy;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config as RunnerConfig, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use standard::{pods, policy, reported};

/// How the API server names the controls in its refusals.
const REASONS: &[(&str, RuleId)] = &[
    (
        "allowPrivilegeEscalation != false",
        RuleId::PodAllowPrivilegeEscalation,
    ),
    ("forbidden AppArmor profile", RuleId::PodApparmorProfile),
    ("forbidden AppArmor profiles", RuleId::PodApparmorProfile),
    ("non-default capabilities", RuleId::PodCapabilities),
    ("unrestricted capabilities", RuleId::PodCapabilities),
    ("host namespaces", RuleId::PodHostNamespaces),
    ("hostPath volumes", RuleId::PodHostPathVolumes),
    ("hostPort", RuleId::PodHostPorts),
    ("probe or lifecycle host", RuleId::PodHostProbes),
    ("privileged", RuleId::PodPrivileged),
    ("procMount", RuleId::PodProcMount),
    ("restricted volume types", RuleId::PodVolumeTypes),
    ("runAsNonRoot != true", RuleId::PodRunAsNonRoot),
    ("runAsUser=0", RuleId::PodRunAsUser),
    ("seccompProfile", RuleId::PodSeccompProfile),
    ("seLinuxOptions", RuleId::PodSelinuxOptions),
    ("forbidden sysctls", RuleId::PodSysctls),
    ("hostProcess", RuleId::PodHostProcess),
];

/// So many pods are compared as they are created; those that the API server takes in no namespace do not count.
const CREATED: usize = 10_000;

/// So many more as containers for debugging are added to one that runs.
const DEBUGGED: usize = 1_000;

/// The same pods in every run; another number makes others.
const SEED: u8 = 1;

/// Requests at a time.
const PARALLEL: usize = 16;

/// Pod to which containers for debugging are added: it satisfies every level.
const DEBUGGED_POD: &str = "debugged";

/// What is asked for in one namespace of the cluster.
#[derive(Debug)]
struct Namespace {
    level: &'static str,
    version: String,
    name: String,
    policy: CompiledPolicy,
}

/// One pod in one namespace.
struct Case {
    namespace: Arc<Namespace>,
    pod: Value,
    /// Whether it is there already, but for its ephemeral containers.
    is_debugged: bool,
}

#[tokio::test(flavor = "multi_thread")]
async fn random_pods_are_judged_as_the_api_server_judges_them() -> Result<()> {
    let cluster = Cluster::start(1, "pod-security")?;
    let namespaces = namespaces()?;
    create(&cluster, &namespaces)?;
    let client = client(&cluster).await?;
    let seed = TestRng::from_seed(RngAlgorithm::ChaCha, &[SEED; 32]);
    let mut runner = TestRunner::new_with_rng(RunnerConfig::default(), seed);
    let pods = [
        (pods::pod().boxed(), false, CREATED),
        (debugged_pod().boxed(), true, DEBUGGED),
    ];
    let mut seen = BTreeSet::new();
    for (pods, is_debugged, wanted) in pods {
        let cases = (prop::sample::select(namespaces.clone()), pods);
        let cases = std::iter::repeat_with(|| {
            let tree = cases
                .new_tree(&mut runner)
                .map_err(|reason| anyhow::anyhow!("{reason}"))?;
            let (namespace, pod) = tree.current();
            Ok(Case {
                namespace,
                pod,
                is_debugged,
            })
        });
        // Some are refused before the standard is asked.
        let judged = stream::iter(cases.take(4 * wanted))
            .map_ok(|case| compare(&client, case))
            .try_buffer_unordered(PARALLEL)
            .try_filter_map(async |rules| Ok(rules));
        let judged: Vec<BTreeSet<RuleId>> = judged.take(wanted).try_collect().await?;
        ensure!(
            judged.len() == wanted,
            "only {} of {} were judged",
            judged.len(),
            4 * wanted
        );
        // Pods of one kind would prove nothing.
        let admitted = judged.iter().filter(|it| it.is_empty()).count();
        ensure!(
            admitted > wanted / 100,
            "only {admitted} of {wanted} were admitted"
        );
        seen.extend(judged.into_iter().flatten());
    }
    let of_controls: BTreeSet<RuleId> = REASONS.iter().map(|(_, rule)| *rule).collect();
    ensure!(seen == of_controls, "broken were {seen:?}");
    Ok(())
}

/// The controls that the pod breaks; `None` where the API server refuses it for something else, and an error where it
/// judges otherwise than we do.
async fn compare(client: &Client, case: Case) -> Result<Option<BTreeSet<RuleId>>> {
    let Some(theirs) = refused_for(client, &case).await? else {
        return Ok(None);
    };
    let ours = reported(&case.namespace.policy, &case.pod)?;
    ensure!(
        ours == theirs,
        "{} {}: ours {ours:?}, the API server's {theirs:?}, seed {SEED}, pod {}",
        case.namespace.level,
        case.namespace.version,
        case.pod
    );
    Ok(Some(ours))
}

/// The controls for which the API server refuses the pod; `None` where it refuses it for something else.
async fn refused_for(client: &Client, case: &Case) -> Result<Option<BTreeSet<RuleId>>> {
    let api = Api::<DynamicObject>::namespaced_with(
        client.clone(),
        &case.namespace.name,
        &ApiResource::erase::<Pod>(&()),
    );
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let result = match case.is_debugged {
        true => {
            let sub_resource = "ephemeralcontainers";
            api.replace_subresource(sub_resource, DEBUGGED_POD, &dry_run, &case.pod)
                .await
        }
        false => {
            api.create(&dry_run, &serde_json::from_value(case.pod.clone())?)
                .await
        }
    };
    match result {
        Ok(_) => Ok(Some(BTreeSet::new())),
        Err(kube::Error::Api(status)) if status.code == 403 => reasons(&status.message).map(Some),
        Err(kube::Error::Api(status)) if status.code == 422 => Ok(None),
        Err(error) => Err(error).context("the API server answers"),
    }
}

/// The controls in a refusal: `pods "a" is forbidden: violates PodSecurity "baseline:v1.0": REASON (…), REASON (…)`.
fn reasons(message: &str) -> Result<BTreeSet<RuleId>> {
    let (_, told) = message
        .split_once("violates PodSecurity")
        .context(message.to_owned())?;
    let (_, told) = told.split_once("\": ").context(message.to_owned())?;
    let told = format!(", {told}");
    let is_told = |reason: &str| told.contains(&format!(", {reason} ("));
    let rules: BTreeSet<RuleId> = REASONS
        .iter()
        .filter(|(reason, _)| is_told(reason))
        .map(|(_, rule)| *rule)
        .collect();
    if rules.is_empty() {
        bail!("no control is known in: {message}");
    }
    Ok(rules)
}

/// The pod that runs, with containers for debugging.
fn debugged_pod() -> impl Strategy<Value = Value> {
    pods::ephemeral_containers().prop_map(|containers| {
        let mut pod = running_pod();
        if let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) {
            spec.insert("ephemeralContainers".into(), containers.into());
        }
        pod
    })
}

fn running_pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": DEBUGGED_POD},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "api",
                "image": "example.com/image:1",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}

/// One namespace for each level and version.
fn namespaces() -> Result<Vec<Arc<Namespace>>> {
    let versions = (0..=36)
        .map(|minor| format!("v1.{minor}"))
        .chain(["latest".to_owned()]);
    let pairs = versions.flat_map(|version| ["baseline", "restricted"].map(|level| (level, version.clone())));
    let namespace = |(level, version): (&'static str, String)| {
        let name = format!("{level}-{}", version.replace('.', "-"));
        let policy = policy(level, &version)?;
        Ok(Arc::new(Namespace {
            level,
            version,
            name,
            policy,
        }))
    };
    pairs.map(namespace).collect()
}

/// Creates the namespaces, each with the pod that runs.
fn create(cluster: &Cluster, namespaces: &[Arc<Namespace>]) -> Result<()> {
    let list = |items: Vec<Value>| json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    let labelled = |it: &Arc<Namespace>| {
        let labels = json!({
            "pod-security.kubernetes.io/enforce": it.level,
            "pod-security.kubernetes.io/enforce-version": it.version,
        });
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": it.name, "labels": labels}})
    };
    cluster.kubectl_with("create -f -", &list(namespaces.iter().map(labelled).collect()))?;
    let pod = |it: &Arc<Namespace>| {
        let mut pod = running_pod();
        if let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("namespace".into(), it.name.clone().into());
        }
        pod
    };
    let pods = list(namespaces.iter().map(pod).collect());
    // The account of each namespace is there a moment later.
    eventually(|| cluster.kubectl_with("apply -f -", &pods).map(drop))
}

async fn client(cluster: &Cluster) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(cluster.variable("KUBECONFIG")?)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
