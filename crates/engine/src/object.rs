//! The one view of Kubernetes objects: exactly the fields that rules read, borrowed from the request's bytes.
//!
//! `null`, `{}`, `[]` and an absent field read alike, as charts emit all of them. Unknown fields are skipped.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::Text;

/// Reads `null` as the type's default.
fn lenient<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a security context and remembers that it is there.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<SecurityContext<'a>, D::Error> {
    let context = Option::<SecurityContext<'a>>::deserialize(deserializer)?;
    Ok(context
        .map(|it| SecurityContext { present: true, ..it })
        .unwrap_or_default())
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
    /// When it began to be deleted.
    #[serde(deserialize_with = "lenient")]
    pub deletion_timestamp: Option<Text<'a>>,
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
    /// Security context.
    #[serde(deserialize_with = "present")]
    pub security_context: SecurityContext<'a>,
}

/// `env[]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
pub struct EnvVar<'a> {
    /// Name of the variable.
    #[serde(deserialize_with = "lenient")]
    pub name: Text<'a>,
    /// Literal value.
    #[serde(deserialize_with = "lenient")]
    pub value: Option<Text<'a>>,
    /// Where the value comes from instead.
    #[serde(deserialize_with = "lenient")]
    pub value_from: Option<EnvSource<'a>>,
}

/// `env[].valueFrom`; other sources than these hold neither settings nor credentials.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
pub struct EnvSource<'a> {
    /// One key of a Secret.
    #[serde(deserialize_with = "lenient")]
    pub secret_key_ref: Option<KeyReference<'a>>,
    /// One key of a ConfigMap.
    #[serde(deserialize_with = "lenient")]
    pub config_map_key_ref: Option<KeyReference<'a>>,
    /// One field of the pod.
    #[serde(deserialize_with = "lenient")]
    pub field_ref: Option<FieldReference<'a>>,
}

/// One field of the pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
pub struct FieldReference<'a> {
    /// Path of the field, such as `metadata.annotations['origins']`.
    #[serde(deserialize_with = "lenient")]
    pub field_path: Text<'a>,
}

/// One key of a Secret or ConfigMap.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct KeyReference<'a> {
    /// Name of the object.
    #[serde(deserialize_with = "lenient")]
    pub name: Text<'a>,
    /// Key within it.
    #[serde(deserialize_with = "lenient")]
    pub key: Text<'a>,
    /// Whether it may be absent.
    #[serde(deserialize_with = "lenient")]
    pub optional: bool,
}

/// `envFrom[]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
pub struct EnvFrom<'a> {
    /// Put before each key.
    #[serde(deserialize_with = "lenient")]
    pub prefix: Text<'a>,
    /// A ConfigMap.
    #[serde(deserialize_with = "lenient")]
    pub config_map_ref: Option<OptionalReference<'a>>,
    /// A Secret.
    #[serde(deserialize_with = "lenient")]
    pub secret_ref: Option<OptionalReference<'a>>,
}

/// A reference to an object that may be absent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct OptionalReference<'a> {
    /// Name of the object.
    #[serde(deserialize_with = "lenient")]
    pub name: Text<'a>,
    /// Whether it may be absent.
    #[serde(deserialize_with = "lenient")]
    pub optional: bool,
}

/// `volumeMounts[]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct VolumeMount<'a> {
    /// Name of the volume.
    #[serde(deserialize_with = "lenient")]
    pub name: Text<'a>,
}

/// `volumes[]`, as far as Secrets are concerned.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
pub struct Volume<'a> {
    /// Name of the volume.
    #[serde(deserialize_with = "lenient")]
    pub name: Text<'a>,
    /// A whole Secret or some of its keys.
    #[serde(deserialize_with = "lenient")]
    pub secret: Option<SecretVolume<'a>>,
    /// Several sources in one directory.
    #[serde(deserialize_with = "lenient")]
    pub projected: Option<Projected<'a>>,
    /// A driver's volume.
    #[serde(deserialize_with = "lenient")]
    pub csi: Option<CsiVolume<'a>>,
}

/// `volumes[].secret`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
pub struct SecretVolume<'a> {
    /// Name of the Secret.
    #[serde(deserialize_with = "lenient")]
    pub secret_name: Text<'a>,
    /// The keys that are mounted; empty means all.
    #[serde(deserialize_with = "lenient")]
    pub items: Vec<KeyToPath<'a>>,
    /// Whether it may be absent.
    #[serde(deserialize_with = "lenient")]
    pub optional: bool,
}

/// One key of a mounted Secret.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct KeyToPath<'a> {
    /// Key within the Secret.
    #[serde(deserialize_with = "lenient")]
    pub key: Text<'a>,
}

/// `volumes[].projected`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct Projected<'a> {
    /// The sources.
    #[serde(deserialize_with = "lenient")]
    pub sources: Vec<ProjectedSource<'a>>,
}

/// `volumes[].projected.sources[]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct ProjectedSource<'a> {
    /// A Secret.
    #[serde(deserialize_with = "lenient")]
    pub secret: Option<ProjectedSecret<'a>>,
}

/// `volumes[].projected.sources[].secret`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct ProjectedSecret<'a> {
    /// Name of the Secret.
    #[serde(deserialize_with = "lenient")]
    pub name: Text<'a>,
    /// The keys that are mounted; empty means all.
    #[serde(deserialize_with = "lenient")]
    pub items: Vec<KeyToPath<'a>>,
    /// Whether it may be absent.
    #[serde(deserialize_with = "lenient")]
    pub optional: bool,
}

/// `volumes[].csi`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
pub struct CsiVolume<'a> {
    /// Secret with the driver's credentials.
    #[serde(deserialize_with = "lenient")]
    pub node_publish_secret_ref: Option<LocalReference<'a>>,
}

/// Security context of a pod or a container; each reads only the fields that it has.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
pub struct SecurityContext<'a> {
    /// Whether the object states it: a field can be added to it only then.
    #[serde(skip)]
    pub present: bool,
    /// Refuses to start as uid 0.
    #[serde(deserialize_with = "lenient")]
    pub run_as_non_root: Option<bool>,
    /// Numeric user.
    #[serde(deserialize_with = "lenient")]
    pub run_as_user: Option<i64>,
    /// Container only: all powers of the host's root.
    #[serde(deserialize_with = "lenient")]
    pub privileged: Option<bool>,
    /// Container only: may gain more privileges than its parent.
    #[serde(deserialize_with = "lenient")]
    pub allow_privilege_escalation: Option<bool>,
    /// Container only: root file system is read-only.
    #[serde(deserialize_with = "lenient")]
    pub read_only_root_filesystem: Option<bool>,
    /// Container only: capabilities.
    #[serde(deserialize_with = "lenient")]
    pub capabilities: Option<Capabilities<'a>>,
    /// System call filter.
    #[serde(deserialize_with = "lenient")]
    pub seccomp_profile: Option<SeccompProfile<'a>>,
    /// Windows options, as far as they were read.
    #[serde(deserialize_with = "lenient")]
    pub windows_options: Option<WindowsOptions>,
}

/// `securityContext.capabilities`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct Capabilities<'a> {
    /// Added.
    #[serde(deserialize_with = "lenient")]
    pub add: Vec<Text<'a>>,
    /// Dropped.
    #[serde(deserialize_with = "lenient")]
    pub drop: Vec<Text<'a>>,
}

/// `securityContext.seccompProfile`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct SeccompProfile<'a> {
    /// `RuntimeDefault`, `Localhost` or `Unconfined`.
    #[serde(rename = "type", deserialize_with = "lenient")]
    pub kind: Text<'a>,
}

/// `securityContext.windowsOptions`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WindowsOptions {
    /// Whether the container runs as a process of the host.
    #[serde(deserialize_with = "lenient")]
    pub host_process: bool,
}
