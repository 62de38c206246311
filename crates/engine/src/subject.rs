//! What is judged: one object, whatever its kind, with its pod template where it has one.

use std::fmt;

use crate::object::{Container, EnvVar, Metadata, Object, PodSpec};
use crate::path::FieldPath;
use crate::text::printable;

/// The API server allows no longer name; not every object that is judged has passed it.
const MAX_PART_CHARS: usize = 253;

/// The kinds that rules know, by group and kind: a Knative `Service` is not a core `Service`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `v1` Pod
    Pod,
    /// `v1` PodTemplate
    PodTemplate,
    /// `v1` ReplicationController
    ReplicationController,
    /// `apps` Deployment
    Deployment,
    /// `apps` ReplicaSet
    ReplicaSet,
    /// `apps` StatefulSet
    StatefulSet,
    /// `apps` DaemonSet
    DaemonSet,
    /// `batch` Job
    Job,
    /// `batch` CronJob
    CronJob,
    /// `networking.k8s.io` Ingress
    Ingress,
    /// Anything else: no rule reads it
    Other,
}

impl Kind {
    /// The kind of an object of group `group` (empty for the core group).
    #[must_use]
    pub fn of(group: &str, kind: &str) -> Self {
        match (group, kind) {
            ("", "Pod") => Self::Pod,
            ("", "PodTemplate") => Self::PodTemplate,
            ("", "ReplicationController") => Self::ReplicationController,
            ("apps", "Deployment") => Self::Deployment,
            ("apps", "ReplicaSet") => Self::ReplicaSet,
            ("apps", "StatefulSet") => Self::StatefulSet,
            ("apps", "DaemonSet") => Self::DaemonSet,
            ("batch", "Job") => Self::Job,
            ("batch", "CronJob") => Self::CronJob,
            ("networking.k8s.io", "Ingress") => Self::Ingress,
            _ => Self::Other,
        }
    }

    /// Fields that lead to the pod template; empty for a Pod, `None` for what runs no pods.
    #[must_use]
    pub fn template_fields(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Pod => Some(&[]),
            Self::PodTemplate => Some(&["template"]),
            Self::ReplicationController
            | Self::Deployment
            | Self::ReplicaSet
            | Self::StatefulSet
            | Self::DaemonSet
            | Self::Job => Some(&["spec", "template"]),
            Self::CronJob => Some(&["spec", "jobTemplate", "spec", "template"]),
            Self::Ingress | Self::Other => None,
        }
    }
}

/// Which list of the pod spec a container stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContainerKind {
    /// `containers`
    Main,
    /// `initContainers`, sidecars among them
    Init,
    /// `ephemeralContainers`
    Ephemeral,
}

impl ContainerKind {
    /// The list's field name.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::Main => "containers",
            Self::Init => "initContainers",
            Self::Ephemeral => "ephemeralContainers",
        }
    }
}

/// One container with its place in the pod.
#[derive(Clone, Copy, Debug)]
pub struct ContainerRef<'s, 'a> {
    /// The list that it stands in.
    pub kind: ContainerKind,
    /// Its index in that list.
    pub index: usize,
    /// The container itself.
    pub container: &'s Container<'a>,
}

/// One object, normalised: its pod template is found whatever the kind.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    kind: Kind,
    object: Object<'a>,
    namespace: String,
}

impl<'a> Subject<'a> {
    /// The subject of `object`. `namespace` stands in where the object states none, as in a request or a file.
    #[must_use]
    pub fn new(object: Object<'a>, namespace: &str) -> Self {
        let group = object.api_version.split_once('/').map_or("", |(group, _)| group);
        let kind = Kind::of(group, &object.kind);
        let namespace = if object.metadata.namespace.is_empty() {
            namespace
        } else {
            object.metadata.namespace.as_str()
        };
        Self {
            kind,
            namespace: namespace.to_owned(),
            object,
        }
    }

    /// Reads a subject from JSON.
    ///
    /// # Errors
    /// When `json` is no JSON object or a field that rules read has another type than Kubernetes gives it.
    pub fn from_json(json: &'a str, namespace: &str) -> Result<Self, serde_json::Error> {
        Ok(Self::new(serde_json::from_str(json)?, namespace))
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The object itself.
    #[must_use]
    pub fn object(&self) -> &Object<'a> {
        &self.object
    }

    /// Its namespace; empty when neither object nor caller knows one.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its name, or the prefix of the name that will be generated with a `*`.
    #[must_use]
    pub fn name(&self) -> String {
        let metadata = &self.object.metadata;
        if metadata.name.is_empty() && !metadata.generate_name.is_empty() {
            return format!("{}*", metadata.generate_name);
        }
        metadata.name.to_string()
    }

    /// Whether it is a Pod itself and not a template of pods.
    #[must_use]
    pub fn is_pod(&self) -> bool {
        self.kind == Kind::Pod
    }

    /// Metadata and spec of its pods, where it runs any.
    #[must_use]
    pub fn pod(&self) -> Option<(&Metadata<'a>, &PodSpec<'a>)> {
        let object = &self.object;
        match self.kind {
            Kind::Pod => Some((&object.metadata, &object.spec)),
            Kind::PodTemplate => object.template.as_deref().map(|it| (&it.metadata, &it.spec)),
            Kind::CronJob => {
                let job = object.spec.job_template.as_deref()?;
                job.spec.template.as_deref().map(|it| (&it.metadata, &it.spec))
            }
            Kind::Ingress | Kind::Other => None,
            _ => object.spec.template.as_deref().map(|it| (&it.metadata, &it.spec)),
        }
    }

    /// The spec of its pods, to set what admission would set.
    pub(crate) fn pod_spec_mut(&mut self) -> Option<&mut PodSpec<'a>> {
        let object = &mut self.object;
        match self.kind {
            Kind::Pod => Some(&mut object.spec),
            Kind::PodTemplate => object.template.as_deref_mut().map(|it| &mut it.spec),
            Kind::CronJob => {
                let job = object.spec.job_template.as_deref_mut()?;
                job.spec.template.as_deref_mut().map(|it| &mut it.spec)
            }
            Kind::Ingress | Kind::Other => None,
            _ => object.spec.template.as_deref_mut().map(|it| &mut it.spec),
        }
    }

    /// Path of the pod template: the object's root for a Pod.
    #[must_use]
    pub fn template_path(&self) -> FieldPath {
        FieldPath::template(self.kind.template_fields().unwrap_or_default())
    }

    /// Path of the pod spec.
    #[must_use]
    pub fn pod_spec_path(&self) -> FieldPath {
        self.template_path().field("spec")
    }

    /// Path of a container.
    #[must_use]
    pub fn container_path(&self, it: &ContainerRef<'_, '_>) -> FieldPath {
        self.pod_spec_path()
            .field(it.kind.field())
            .item(it.index, Some(&it.container.name))
    }

    /// Path of one variable of a container.
    #[must_use]
    pub fn env_path(&self, it: &ContainerRef<'_, '_>, index: usize, variable: &EnvVar<'_>) -> FieldPath {
        self.container_path(it)
            .field("env")
            .item(index, Some(&variable.name))
    }

    /// Where a variable would be added that one of the main containers must have: the list of containers itself,
    /// unless there is only one, so that the order of containers says nothing. Another container, such as a sidecar that
    /// was injected into the Pod, does not make it another demand.
    #[must_use]
    pub(crate) fn new_variable_path(&self) -> FieldPath {
        let list = self
            .pod_spec_path()
            .field(ContainerKind::Main.field())
            .any_below();
        let mut main = self.containers().filter(|it| it.kind == ContainerKind::Main);
        match (main.next(), main.next()) {
            (Some(it), None) => list.item(it.index, Some(&it.container.name)).field("env"),
            _ => list,
        }
    }

    /// Every container of every kind: init, main, ephemeral.
    pub fn containers(&self) -> impl Iterator<Item = ContainerRef<'_, 'a>> {
        self.pod().into_iter().flat_map(|(_, spec)| containers(spec))
    }

    /// Whether its pods say that they run Windows; a container that is merely named so does not count.
    #[must_use]
    pub fn is_windows(&self) -> bool {
        self.pod()
            .is_some_and(|(_, spec)| spec.os.name.as_str() == "windows")
    }
}

/// Every container of a pod spec.
pub(crate) fn containers<'s, 'a>(spec: &'s PodSpec<'a>) -> impl Iterator<Item = ContainerRef<'s, 'a>> {
    let list = |kind, list: &'s [Container<'a>]| {
        list.iter()
            .enumerate()
            .map(move |(index, container)| ContainerRef {
                kind,
                index,
                container,
            })
    };
    list(ContainerKind::Init, &spec.init_containers)
        .chain(list(ContainerKind::Main, &spec.containers))
        .chain(list(ContainerKind::Ephemeral, &spec.ephemeral_containers))
}

impl fmt::Display for Subject<'_> {
    /// `Deployment agents/api`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        let part = |text| printable(text, MAX_PART_CHARS);
        if self.namespace.is_empty() {
            return write!(f, "{} {}", part(&self.object.kind), part(&name));
        }
        let (kind, namespace) = (&self.object.kind, &self.namespace);
        write!(f, "{} {}/{}", part(kind), part(namespace), part(&name))
    }
}
