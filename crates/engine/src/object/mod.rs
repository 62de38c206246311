//! The one view of Kubernetes objects: exactly the fields that rules read, borrowed from the request's bytes.
//!
//! `null`, `{}`, `[]` and an absent field read alike, as charts emit all of them. Unknown fields are skipped.

mod probes;
mod security;
mod variables;
mod volumes;

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

pub use self::probes::{Handler, HostField, Lifecycle};
use self::security::present;
pub use self::security::{
    Capabilities, SeLinuxOptions, SecurityContext, SecurityProfile, Sysctl, WindowsOptions,
};
pub use self::variables::{EnvFrom, EnvSource, EnvVar, FieldReference, KeyReference, OptionalReference};
pub use self::volumes::{
    CsiVolume, HostPathVolume, ImageVolume, KeyToPath, Projected, ProjectedSecret, ProjectedSource,
    SecretVolume, Volume, VolumeMount,
};
use crate::Text;

/// Reads `null` as the type's default.
fn lenient<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Any object that the API server may ask about.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
pub struct Object<'a> {
    /// Group and version, such as `apps/v1`.
    #[serde(deserialize_with = "lenient")]
    pub api_version: Text<'a>,
    /// Kind, such as `Deployment`.
    #[serde(deserialize_with = "lenient")]
    pub kind: Text<'a>,
    /// Name, namespace, labels, annotations.
    #[serde(deserialize_with = "lenient")]
    pub metadata: Metadata<'a>,
    /// The spec; for a Pod the pod spec itself.
    #[serde(deserialize_with = "lenient")]
    pub spec: PodSpec<'a>,
    /// The pod template of a PodTemplate, which has no spec.
    #[serde(deserialize_with = "lenient")]
    pub template: Option<Box<PodTemplate<'a>>>,
}

/// `metadata` of an object or a pod template.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
pub struct Metadata<'a> {
    /// Name; empty where the API server has yet to generate it.
    #[serde(deserialize_with = "lenient")]
    pub name: Text<'a>,
    /// Prefix of the name that is to be generated.
    #[serde(deserialize_with = "lenient")]
    pub generate_name: Text<'a>,
    /// Namespace; empty in files that leave it to the command.
    #[serde(deserialize_with = "lenient")]
    pub namespace: Text<'a>,
    /// Labels.
    #[serde(deserialize_with = "lenient")]
    pub labels: BTreeMap<Text<'a>, Text<'a>>,
    /// Annotations.
    #[serde(deserialize_with = "lenient")]
    pub annotations: BTreeMap<Text<'a>, Text<'a>>,
    /// Who owns the object.
    #[serde(deserialize_with = "lenient")]
    pub owner_references: Vec<OwnerReference<'a>>,
}

/// One owner of an object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
pub struct OwnerReference<'a> {
    /// Group and version of the owner.
    #[serde(deserialize_with = "lenient")]
    pub api_version: Text<'a>,
    /// Kind of the owner.
    #[serde(deserialize_with = "lenient")]
    pub kind: Text<'a>,
    /// Name of the owner.
    #[serde(deserialize_with = "lenient")]
    pub name: Text<'a>,
    /// UID of the owner.
    #[serde(deserialize_with = "lenient")]
    pub uid: Text<'a>,
    /// Whether it is the managing controller.
    #[serde(deserialize_with = "lenient")]
    pub controller: bool,
}

/// A pod template: metadata and pod spec.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct PodTemplate<'a> {
    /// Labels and annotations of the pods.
    #[serde(deserialize_with = "lenient")]
    pub metadata: Metadata<'a>,
    /// The pod spec.
    #[serde(deserialize_with = "lenient")]
    pub spec: PodSpec<'a>,
}

/// The job template of a CronJob.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct JobTemplate<'a> {
    /// The spec of the job, whose `template` is the pod template.
    #[serde(deserialize_with = "lenient")]
    pub spec: Box<PodSpec<'a>>,
}

/// A pod spec; also the spec of what carries a pod template, so that one pass over the bytes reads every kind.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
pub struct PodSpec<'a> {
    /// `spec.template` of a controller; never there in a pod spec.
    #[serde(deserialize_with = "lenient")]
    pub template: Option<Box<PodTemplate<'a>>>,
    /// `spec.jobTemplate` of a CronJob; never there in a pod spec.
    #[serde(deserialize_with = "lenient")]
    pub job_template: Option<Box<JobTemplate<'a>>>,
    /// Main containers.
    #[serde(deserialize_with = "lenient")]
    pub containers: Vec<Container<'a>>,
    /// Init containers, sidecars among them.
    #[serde(deserialize_with = "lenient")]
    pub init_containers: Vec<Container<'a>>,
    /// Containers that `kubectl debug` added.
    #[serde(deserialize_with = "lenient")]
    pub ephemeral_containers: Vec<Container<'a>>,
    /// Volumes.
    #[serde(deserialize_with = "lenient")]
    pub volumes: Vec<Volume<'a>>,
    /// Secrets for the registry.
    #[serde(deserialize_with = "lenient")]
    pub image_pull_secrets: Vec<LocalReference<'a>>,
    /// Security context of the pod.
    #[serde(deserialize_with = "present")]
    pub security_context: SecurityContext<'a>,
    /// Shares the host's network.
    #[serde(deserialize_with = "lenient")]
    pub host_network: bool,
    /// Shares the host's process ids.
    #[serde(rename = "hostPID", deserialize_with = "lenient")]
    pub host_pid: bool,
    /// Shares the host's inter-process communication.
    #[serde(rename = "hostIPC", deserialize_with = "lenient")]
    pub host_ipc: bool,
    /// `false` gives the pod a user namespace of its own.
    #[serde(deserialize_with = "lenient")]
    pub host_users: Option<bool>,
    /// Shares one process namespace among its containers.
    #[serde(deserialize_with = "lenient")]
    pub share_process_namespace: bool,
    /// `Always`, `OnFailure` or `Never`; unset means the first.
    #[serde(deserialize_with = "lenient")]
    pub restart_policy: Text<'a>,
    /// What all containers get together.
    #[serde(deserialize_with = "lenient")]
    pub resources: Resources,
    /// Operating system that the pod states.
    #[serde(deserialize_with = "lenient")]
    pub os: Os<'a>,
}

/// `spec.os`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct Os<'a> {
    /// `linux` or `windows`.
    #[serde(deserialize_with = "lenient")]
    pub name: Text<'a>,
}

/// A reference to an object of the same namespace by name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct LocalReference<'a> {
    /// Name of the object.
    #[serde(deserialize_with = "lenient")]
    pub name: Text<'a>,
}

/// One container of any kind.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
pub struct Container<'a> {
    /// Name within the pod.
    #[serde(deserialize_with = "lenient")]
    pub name: Text<'a>,
    /// The image.
    #[serde(deserialize_with = "lenient")]
    pub image: Text<'a>,
    /// `Always`, `IfNotPresent` or `Never`.
    #[serde(deserialize_with = "lenient")]
    pub image_pull_policy: Text<'a>,
    /// Entrypoint instead of the image's.
    #[serde(deserialize_with = "lenient")]
    pub command: Vec<Text<'a>>,
    /// Arguments.
    #[serde(deserialize_with = "lenient")]
    pub args: Vec<Text<'a>>,
    /// Variables.
    #[serde(deserialize_with = "lenient")]
    pub env: Vec<EnvVar<'a>>,
    /// Whole ConfigMaps and Secrets as variables.
    #[serde(deserialize_with = "lenient")]
    pub env_from: Vec<EnvFrom<'a>>,
    /// Mounted volumes.
    #[serde(deserialize_with = "lenient")]
    pub volume_mounts: Vec<VolumeMount<'a>>,
    /// Ports.
    #[serde(deserialize_with = "lenient")]
    pub ports: Vec<ContainerPort>,
    /// Whether it is alive.
    #[serde(deserialize_with = "lenient")]
    pub liveness_probe: Option<Handler<'a>>,
    /// Whether it takes requests.
    #[serde(deserialize_with = "lenient")]
    pub readiness_probe: Option<Handler<'a>>,
    /// Whether it has started.
    #[serde(deserialize_with = "lenient")]
    pub startup_probe: Option<Handler<'a>>,
    /// What is called after its start and before its end.
    #[serde(deserialize_with = "lenient")]
    pub lifecycle: Option<Box<Lifecycle<'a>>>,
    /// What it gets of the node.
    #[serde(deserialize_with = "lenient")]
    pub resources: Resources,
    /// Security context.
    #[serde(deserialize_with = "present")]
    pub security_context: SecurityContext<'a>,
}

/// `resources` of a pod or a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// What is set aside for it.
    #[serde(deserialize_with = "lenient")]
    pub requests: ResourceList,
    /// What it gets at most.
    #[serde(deserialize_with = "lenient")]
    pub limits: ResourceList,
}

/// Which amounts are stated; how large they are nobody asks.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ResourceList {
    /// Processor time.
    pub cpu: Option<IgnoredAny>,
    /// Memory.
    pub memory: Option<IgnoredAny>,
}

/// One port of a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// The port of the container.
    #[serde(deserialize_with = "lenient")]
    pub container_port: i64,
    /// The same port on the node; 0 is none.
    #[serde(deserialize_with = "lenient")]
    pub host_port: i64,
}
