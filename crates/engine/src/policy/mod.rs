//! Policies as the engine uses them: parsed once, in one place, for webhook, controller and command line.

mod compile;
mod images;
mod network;
mod pod_security;
mod selector;

use std::collections::HashMap;
use std::fmt;

use portcullis_api::{Enforcement, Role, RuleId, Severity};

pub use compile::{Finding, InvalidPolicy};
pub use images::{CompiledImages, CompiledVersions};
pub use network::{CompiledFlow, CompiledNetwork, CompiledPeer, CompiledPort, Protocol};
pub use pod_security::{CompiledPodSecurity, PodSecurityVersion};
pub use selector::{LabelSelector, Labels};

/// Namespaces that are never governed, beside the operator's own.
pub const EXEMPT_NAMESPACES: &[&str] = &["kube-system"];

/// Names a policy in messages.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for PolicyName {
    /// `SecurityPolicy agents/magsag`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecurityPolicy {}/{}", self.namespace, self.name)
    }
}

/// A policy that can be evaluated: nothing in it can be wrong any more.
#[derive(Clone, Debug)]
pub struct CompiledPolicy {
    /// Its name.
    pub name: PolicyName,
    /// Whom to ask.
    pub contact: Option<String>,
    /// The ceiling that it states itself.
    pub enforcement: Enforcement,
    /// Which pods it governs; `None` is all of the namespace.
    pub workloads: Option<LabelSelector>,
    /// The parts of the application; empty when the policy states none.
    pub components: Vec<CompiledComponent>,
    /// `podSecurity`, where it is stated.
    pub pod_security: Option<CompiledPodSecurity>,
    /// `images`, where it is stated.
    pub images: Option<CompiledImages>,
    /// `secrets`, where it is stated.
    pub secrets: Option<CompiledSecrets>,
    /// `http`, where it is stated.
    pub http: Option<CompiledHttp>,
    /// `network`, where it is stated.
    pub network: Option<CompiledNetwork>,
    /// Severity of each rule in [`RuleId::ALL`]'s order: `Disabled` where its section is not stated.
    pub(crate) severities: Vec<Severity>,
}

impl CompiledPolicy {
    /// Severity of `rule` under this policy, capped by its `enforcement`; `Disabled` when its section is not stated.
    #[must_use]
    pub fn severity(&self, rule: RuleId) -> Severity {
        // The ids are numbered in the order of `ALL`.
        let severity = self.severities.get(rule as usize);
        severity.copied().unwrap_or(Severity::Disabled)
    }

    /// Whether pods with these labels are governed by this policy.
    #[must_use]
    pub fn selects(&self, labels: &impl Labels) -> bool {
        self.workloads
            .as_ref()
            .is_none_or(|selector| selector.matches(labels))
    }

    /// The components that pods with these labels belong to.
    pub fn components_of<'p>(
        &'p self,
        labels: &'p impl Labels,
    ) -> impl Iterator<Item = &'p CompiledComponent> {
        self.components.iter().filter(|it| it.selector.matches(labels))
    }
}

/// One part of the application.
#[derive(Clone, Debug)]
pub struct CompiledComponent {
    /// Its name.
    pub name: String,
    /// Its job.
    pub role: Role,
    /// Its pods.
    pub selector: LabelSelector,
}

/// `spec.secrets` with its defaults filled in.
#[derive(Clone, Debug)]
pub struct CompiledSecrets {
    /// The declared credentials.
    pub entries: Vec<CompiledEntry>,
    /// Which of them have a variable or an alias of that name, as indices.
    by_name: HashMap<String, Vec<usize>>,
    /// Which of them lie in the Secret of that name, as indices.
    by_secret: HashMap<String, Vec<usize>>,
}

impl CompiledSecrets {
    fn new(entries: Vec<CompiledEntry>) -> Self {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        let mut by_secret: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, it) in entries.iter().enumerate() {
            by_secret.entry(it.secret.clone()).or_default().push(index);
            for name in std::iter::once(&it.env).chain(&it.aliases) {
                let indices = by_name.entry(name.clone()).or_default();
                if indices.last() != Some(&index) {
                    indices.push(index);
                }
            }
        }
        Self {
            entries,
            by_name,
            by_secret,
        }
    }

    /// The entries whose variable or alias is `name`, with their indices: two may share one, such as one for each
    /// component.
    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = (usize, &CompiledEntry)> {
        let indices = self.by_name.get(name).into_iter().flatten();
        indices.filter_map(|it| Some((*it, self.entries.get(*it)?)))
    }

    /// The entries that lie in the Secret `name`.
    pub(crate) fn of_secret(&self, name: &str) -> impl Iterator<Item = &CompiledEntry> {
        let indices = self.by_secret.get(name).into_iter().flatten();
        indices.filter_map(|it| self.entries.get(*it))
    }
}

/// One declared credential.
#[derive(Clone, Debug)]
pub struct CompiledEntry {
    /// Name of the entry.
    pub name: String,
    /// Its variable.
    pub env: String,
    /// Other names of the variable.
    pub aliases: Vec<String>,
    /// The components that need it; `None` when the policy states no components.
    pub components: Option<Vec<String>>,
    /// Name of the Secret.
    pub secret: String,
    /// Key within the Secret.
    pub key: String,
    /// Containers to which it is delivered; empty means no delivery.
    pub deliver_to: Vec<String>,
}

impl CompiledEntry {
    /// Whether `name` is the entry's variable or an alias of it.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        self.env == name || self.aliases.iter().any(|alias| alias == name)
    }
}

/// `spec.http` with its origins parsed.
#[derive(Clone, Debug, Default)]
pub struct CompiledHttp {
    /// Variable from which the application reads its origins.
    pub cors_env: Option<String>,
    /// The only origins that may be allowed, in lower case without a closing slash and in the policy's order; `None`
    /// accepts any full origin.
    pub allowed_origins: Option<Vec<String>>,
    /// Whether `cors` is stated at all.
    pub cors: bool,
}
