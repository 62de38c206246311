//! `portcullis self-test`: tries on a cluster that a bad workload is refused, in a namespace of its own that it takes away
//! again. What `helm test` runs.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, Client, ResourceExt};
use portcullis_api::{SecurityPolicy, condition};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{Failure, Outcome};

/// Name of the policy and of the Deployment that breaks it.
const NAME: &str = "self-test";

/// Tries on the cluster of the current kubeconfig, or of the pod that it runs in, that a bad workload is refused
#[derive(Debug, Args)]
pub(super) struct SelfTestArgs {
    /// Seconds to wait until a new policy is enforced
    #[arg(long, default_value_t = 60)]
    timeout_seconds: u64,
}

impl SelfTestArgs {
    pub(super) fn run(self) -> Result<Outcome, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime
            .context("the runtime cannot be started")
            .map_err(Failure::SelfTest)?;
        let refusal = runtime.block_on(self.test()).map_err(Failure::SelfTest)?;
        super::print(|out| writeln!(out, "a bad workload is refused:\n\n{refusal}"))?;
        Ok(Outcome::Clean)
    }

    async fn test(&self) -> anyhow::Result<String> {
        let client = Client::try_default().await.context("no cluster is reached")?;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let namespace = json!({"metadata": {"generateName": "portcullis-self-test-"}});
        let namespace = create(&namespaces, namespace, &PostParams::default())
            .await?
            .name_any();
        let result = self.refusal(client, &namespace).await;
        // Whatever came of it; a namespace that stays is told of, since nobody would look for it.
        let deleted = namespaces.delete(&namespace, &DeleteParams::default()).await;
        let refusal = result?;
        deleted.with_context(|| format!("namespace {namespace} must be deleted by hand"))?;
        Ok(refusal)
    }

    /// The text with which a root Deployment is refused under a policy against it.
    async fn refusal(&self, client: Client, namespace: &str) -> anyhow::Result<String> {
        let policies: Api<SecurityPolicy> = Api::namespaced(client.clone(), namespace);
        create(&policies, policy(), &PostParams::default()).await?;
        let enforced = await_condition(policies, NAME, is_enforced());
        let limit = Duration::from_secs(self.timeout_seconds);
        let waited = tokio::time::timeout(limit, enforced).await;
        waited.with_context(|| format!("the policy is not enforced within {} s", limit.as_secs()))??;

        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let deployments: Api<Deployment> = Api::namespaced(client, namespace);
        match deployments
            .create(&dry_run, &serde_json::from_value(deployment())?)
            .await
        {
            Ok(_) => bail!("a Deployment that runs as root was admitted"),
            Err(kube::Error::Api(status))
                if status.code == 403 && status.message.contains("[pod/run-as-non-root]") =>
            {
                Ok(status.message.clone())
            }
            Err(error) => {
                Err(error).context("a Deployment that runs as root was refused, but not by its policy")
            }
        }
    }
}

async fn create<K>(api: &Api<K>, object: serde_json::Value, how: &PostParams) -> anyhow::Result<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize,
{
    let what = K::kind(&()).into_owned();
    api.create(how, &serde_json::from_value(object)?)
        .await
        .with_context(|| format!("no {what} can be created"))
}

fn is_enforced() -> impl Condition<SecurityPolicy> {
    |policy: Option<&SecurityPolicy>| {
        let status = policy.and_then(|it| it.status.as_ref());
        let mut conditions = status.into_iter().flat_map(|it| &it.conditions);
        conditions.any(|it| it.type_ == condition::ENFORCED && it.status == "True")
    }
}

fn policy() -> serde_json::Value {
    json!({
        "apiVersion": "portcullis.dev/v1alpha1", "kind": "SecurityPolicy", "metadata": {"name": NAME},
        "spec": {
            "rulesVersion": "v1", "environment": "Production", "enforcement": "Deny",
            "workloads": {"scope": "Namespace"}, "podSecurity": {},
        },
    })
}

fn deployment() -> serde_json::Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME},
        "spec": {
            "selector": {"matchLabels": {"app": NAME}},
            "template": {
                "metadata": {"labels": {"app": NAME}},
                "spec": {"containers": [{"name": NAME, "image": "registry.example/self-test:v1"}]},
            },
        },
    })
}
