//! What admission sets on Pods: `podSecurity.defaults` and `secrets.entries[].delivery`.
//!
//! One function computes it, for the webhook that patches Pods and for everybody who judges a template as if its pods
//! had been patched: so that what is judged is what will run, and Git and the cluster never differ.

use std::iter;

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchOperation};
use portcullis_api::{Enforcement, PodDefault};
use serde_json::{Value, json};

use crate::evaluate::Governing;
use crate::object::{
    Capabilities, Container, EnvFrom, EnvSource, EnvVar, KeyReference, PodSpec, SecurityContext,
    SecurityProfile,
};
use crate::path::{FieldPath, Segment};
use crate::policy::CompiledEntry;
use crate::subject::{ContainerKind, Subject};
use crate::text::Text;

/// Containers that other admission webhooks inject: they know best what their containers need, so defaults leave them
/// alone.
const INJECTED: &[&str] = &[
    "istio-proxy",
    "istio-init",
    "istio-validation",
    "linkerd-proxy",
    "linkerd-init",
    "linkerd-network-validator",
    "vault-agent",
    "vault-agent-init",
    "dapr-daprd",
    "daprd",
    "consul-dataplane",
    "consul-connect-inject-init",
    "opentelemetry-auto-instrumentation",
];

/// What was set on a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mutation {
    /// The change, as JSON patch; empty when there is nothing to set.
    pub patch: Vec<PatchOperation>,
    /// What could not be set, and why.
    pub warnings: Vec<String>,
}

/// Which containers of a pod may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A pod that is created.
    All,
    /// `pods/ephemeralcontainers`: the ephemeral containers from this index on; the API server refuses any other change.
    EphemeralFrom(usize),
}

/// Sets on the pods of `subject` what the policies ask for, where nothing is said, and tells what was set. A second
/// call changes nothing. A policy that enforces no more than `Audit` sets nothing; where the whole cluster enforces no
/// more, it is for the caller not to call.
pub fn apply(governing: &[Governing<'_>], subject: &mut Subject<'_>, scope: Scope) -> Mutation {
    let mut mutation = Mutation::default();
    let defaults = defaults(governing);
    let changing = governing.iter().filter(|it| changes(it));
    let deliveries: Vec<&CompiledEntry> = changing.flat_map(deliveries).collect();
    if defaults.is_empty() && deliveries.is_empty() {
        return mutation;
    }
    let base = pointer(&subject.pod_spec_path());
    let windows = subject.is_windows();
    let Some(spec) = subject.pod_spec_mut() else {
        return mutation;
    };
    let PodSpec {
        containers,
        init_containers,
        ephemeral_containers,
        security_context: pod,
        ..
    } = spec;
    let lists: [(ContainerKind, &mut Vec<Container<'_>>); 3] = [
        (ContainerKind::Init, init_containers),
        (ContainerKind::Main, containers),
        (ContainerKind::Ephemeral, ephemeral_containers),
    ];
    for (kind, list) in lists {
        let first = match (scope, kind) {
            (Scope::All, _) => 0,
            (Scope::EphemeralFrom(first), ContainerKind::Ephemeral) => first,
            (Scope::EphemeralFrom(_), _) => continue,
        };
        for (index, container) in list.iter_mut().enumerate().skip(first) {
            let path = format!("{base}/{}/{index}", kind.field());
            if !INJECTED.contains(&container.name.as_str()) {
                let fields = set_defaults(&defaults, pod, &mut container.security_context, windows);
                mutation
                    .patch
                    .extend(fields.into_patch(&format!("{path}/securityContext")));
            }
            if kind != ContainerKind::Ephemeral {
                deliver(&deliveries, container, &path, &mut mutation);
            }
        }
    }
    mutation
}

/// Whether a policy may change anything: one that only watches must not.
fn changes(governing: &Governing<'_>) -> bool {
    governing.policy.enforcement > Enforcement::Audit
}

/// What any of the policies sets, sorted.
fn defaults(governing: &[Governing<'_>]) -> Vec<PodDefault> {
    let changing = governing.iter().filter(|it| changes(it));
    let sections = changing.filter_map(|it| it.policy.pod_security.as_ref());
    let mut defaults: Vec<PodDefault> = sections.flat_map(|it| it.defaults.iter().copied()).collect();
    defaults.sort_unstable();
    defaults.dedup();
    defaults
}

/// JSON pointer of a path that is made of fields alone, none of which needs an escape.
fn pointer(path: &FieldPath) -> String {
    let append = |pointer: String, segment: &Segment| match segment {
        Segment::Field(name) => format!("{pointer}/{name}"),
        Segment::Item { .. } | Segment::Key(_) => pointer,
    };
    path.segments().iter().fold(String::new(), append)
}

/// The entries of a policy that are delivered to the subject's component.
fn deliveries<'p>(governing: &Governing<'p>) -> Vec<&'p CompiledEntry> {
    let components = &governing.components;
    let is_needed = |entry: &&CompiledEntry| {
        let names = entry.components.as_ref();
        names.is_none_or(|names| components.iter().any(|it| names.contains(&it.name)))
    };
    let entries = governing.policy.secrets.iter().flat_map(|it| &it.entries);
    entries
        .filter(|it| !it.deliver_to.is_empty())
        .filter(is_needed)
        .collect()
}

/// Fields that are to be added to one security context.
#[derive(Default)]
struct NewFields {
    /// The context is not there, so that it must be added as a whole.
    whole: bool,
    /// `capabilities` is there without `drop`.
    within_capabilities: bool,
    fields: Vec<(&'static str, Value)>,
}

impl NewFields {
    fn into_patch(self, path: &str) -> Vec<PatchOperation> {
        if self.fields.is_empty() {
            return Vec::new();
        }
        if self.whole {
            let value = self
                .fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
            return vec![add(path, Value::Object(value))];
        }
        let one = |(name, value): (&str, Value)| match value {
            Value::Object(mut inner) if name == "capabilities" && self.within_capabilities => add(
                &format!("{path}/capabilities/drop"),
                inner.remove("drop").unwrap_or_default(),
            ),
            value => add(&format!("{path}/{name}"), value),
        };
        self.fields.into_iter().map(one).collect()
    }
}

fn set_defaults<'a>(
    defaults: &[PodDefault],
    pod: &SecurityContext<'a>,
    own: &mut SecurityContext<'a>,
    windows: bool,
) -> NewFields {
    let mut new = NewFields {
        whole: !own.present,
        ..NewFields::default()
    };
    for default in defaults {
        match default {
            PodDefault::SeccompProfile if !windows && !states_profile(own) && !states_profile(pod) => {
                own.seccomp_profile = Some(SecurityProfile {
                    kind: "RuntimeDefault".into(),
                });
                new.fields
                    .push(("seccompProfile", json!({"type": "RuntimeDefault"})));
            }
            PodDefault::AllowPrivilegeEscalation
                if !windows && own.allow_privilege_escalation.is_none() && !needs_escalation(own) =>
            {
                own.allow_privilege_escalation = Some(false);
                new.fields.push(("allowPrivilegeEscalation", json!(false)));
            }
            // Beside `runAsUser: 0` the pod would be admitted and never start.
            PodDefault::RunAsNonRoot
                if own.run_as_non_root.is_none()
                    && pod.run_as_non_root.is_none()
                    && own.run_as_user.or(pod.run_as_user) != Some(0) =>
            {
                own.run_as_non_root = Some(true);
                new.fields.push(("runAsNonRoot", json!(true)));
            }
            PodDefault::DropCapabilities
                if !windows && own.capabilities.as_ref().is_none_or(|it| it.drop.is_empty()) =>
            {
                new.within_capabilities = own.capabilities.is_some();
                own.capabilities.get_or_insert_with(Capabilities::default).drop = vec!["ALL".into()];
                new.fields.push(("capabilities", json!({"drop": ["ALL"]})));
            }
            _ => {}
        }
    }
    own.present |= !new.fields.is_empty();
    new
}

/// An empty profile states nothing.
fn states_profile(context: &SecurityContext<'_>) -> bool {
    context
        .seccomp_profile
        .as_ref()
        .is_some_and(|it| !it.kind.is_empty())
}

/// The API server refuses `allowPrivilegeEscalation: false` beside these.
fn needs_escalation(context: &SecurityContext<'_>) -> bool {
    let added = context.capabilities.iter().flat_map(|it| &it.add);
    context.privileged == Some(true)
        || added
            .into_iter()
            .any(|it| matches!(it.as_str(), "SYS_ADMIN" | "CAP_SYS_ADMIN"))
}

fn deliver(entries: &[&CompiledEntry], container: &mut Container<'_>, path: &str, mutation: &mut Mutation) {
    let is_named = |it: &&&CompiledEntry| it.deliver_to.iter().any(|name| *name == container.name.as_str());
    let entries: Vec<&CompiledEntry> = entries.iter().filter(is_named).copied().collect();
    for entry in &entries {
        match obstacle(&entries, entry, container) {
            Some(Obstacle::Delivered) => {}
            Some(Obstacle::Other(cause)) => mutation
                .warnings
                .push(format!("secret entry {} is not delivered: {cause}", entry.name)),
            None => {
                mutation.patch.push(add_variable(entry, container, path));
                container.env.push(variable(entry));
            }
        }
    }
}

/// Why an entry is not delivered to a container.
enum Obstacle {
    /// The container has it already: there is nothing to do.
    Delivered,
    /// It would change what the container gets; the text says how, for a warning.
    Other(String),
}

fn obstacle(
    entries: &[&CompiledEntry],
    entry: &CompiledEntry,
    container: &Container<'_>,
) -> Option<Obstacle> {
    let mut known = container.env.iter().filter(|it| entry.is_named(&it.name));
    if known.clone().any(|it| refers_to(it, entry)) {
        return Some(Obstacle::Delivered);
    }
    let container_name = &container.name;
    if let Some(known) = known.next() {
        let name = &known.name;
        let cause = match entries.iter().find(|it| refers_to(known, it)) {
            Some(other) => format!("container {container_name} gets {name} from entry {}", other.name),
            None => format!("container {container_name} sets {name} itself"),
        };
        return Some(Obstacle::Other(cause));
    }
    let could_set = |it: &EnvFrom<'_>| {
        let mut names = iter::once(&entry.env).chain(&entry.aliases);
        names.any(|name| name.starts_with(it.prefix.as_str()))
    };
    container.env_from.iter().any(could_set).then(|| {
        Obstacle::Other(format!(
            "envFrom of container {container_name} could set {}",
            entry.env
        ))
    })
}

fn add_variable(entry: &CompiledEntry, container: &Container<'_>, path: &str) -> PatchOperation {
    let value =
        json!({"name": entry.env, "valueFrom": {"secretKeyRef": {"name": entry.secret, "key": entry.key}}});
    // A list that is absent, null or empty is added as a whole, as nothing can be appended to the first two.
    if container.env.is_empty() {
        add(&format!("{path}/env"), json!([value]))
    } else {
        add(&format!("{path}/env/-"), value)
    }
}

fn refers_to(variable: &EnvVar<'_>, entry: &CompiledEntry) -> bool {
    let reference = variable
        .value_from
        .as_ref()
        .and_then(|it| it.secret_key_ref.as_ref());
    reference.is_some_and(|it| it.name.as_str() == entry.secret && it.key.as_str() == entry.key)
}

fn variable<'a>(entry: &CompiledEntry) -> EnvVar<'a> {
    let reference = KeyReference {
        name: entry.secret.clone().into(),
        key: entry.key.clone().into(),
        optional: false,
    };
    EnvVar {
        name: Text::from(entry.env.clone()),
        value: None,
        value_from: Some(Box::new(EnvSource {
            secret_key_ref: Some(reference),
            ..EnvSource::default()
        })),
    }
}

fn add(path: &str, value: Value) -> PatchOperation {
    // The paths are made of field names and indices, so that parsing cannot fail; the root would be refused by the API
    // server and changes nothing.
    PatchOperation::Add(AddOperation {
        path: PointerBuf::parse(path).unwrap_or_default(),
        value,
    })
}
