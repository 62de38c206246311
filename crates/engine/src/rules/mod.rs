//! The rules: one file each, in one sorted table.
//!
//! To add one: its id in `portcullis_api::RuleId`, a file here with its [`Rule`], a line in [`rule`], a page under
//! `docs/rules/` and a folder of fixtures under `fixtures/`. A missing page does not compile, a missing folder fails
//! a test.

mod http;
mod image;
mod pod;
mod secret;
mod storage;

use std::cell::OnceCell;
use std::collections::BTreeSet;

use portcullis_api::{Environment, RuleId, SecurityPolicySpec, Severity};

use crate::environment::{self, Budget, RestsOn};
use crate::facts::{FactKey, Facts};
use crate::path::FieldPath;
use crate::policy::{CompiledComponent, CompiledPolicy};
use crate::subject::{ContainerRef, Subject};
use crate::text::printable;
use crate::verdict::{Observed, Unknown, Violation};

/// What was seen stands in the object of the author, who may write much.
const MAX_OBSERVED_CHARS: usize = 200;

/// Room for a list of origins.
const MAX_REQUIRED_CHARS: usize = 1000;

/// Room for a command that creates a Secret with many keys.
const MAX_REMEDY_CHARS: usize = 2000;

/// Room for what another server answered.
const MAX_CAUSE_CHARS: usize = 500;

/// More offenders of one violation than this are not told apart: one text may hold tens of thousands, and many variables
/// may refer to it.
const MAX_OFFENDERS: usize = 32;

/// One rule: what it is called, when it runs, what it costs to break it, and its check.
#[derive(Debug)]
pub struct Rule {
    /// Stable id; also the path of its page and its fixtures.
    pub id: RuleId,
    /// Two or three words for the first line of a denial, such as `root user`.
    pub title: &'static str,
    /// The demand in one line.
    pub meaning: &'static str,
    /// The section of a policy that switches it on.
    pub section: Section,
    /// Default severity in each environment.
    pub severities: Severities,
    /// Its documentation, as Markdown.
    pub page: &'static str,
    /// Looks at one subject under one policy.
    pub check: fn(&Context<'_, '_>, &mut Findings<'_>),
}

/// The section of a policy that switches a rule on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// `spec.podSecurity`
    PodSecurity,
    /// `spec.images`
    Images,
    /// `spec.secrets`
    Secrets,
    /// `spec.http`
    Http,
}

impl Section {
    /// Whether the policy states the section; an empty one counts.
    #[must_use]
    pub fn is_stated(self, spec: &SecurityPolicySpec) -> bool {
        match self {
            Self::PodSecurity => spec.pod_security.is_some(),
            Self::Images => spec.images.is_some(),
            Self::Secrets => spec.secrets.is_some(),
            Self::Http => spec.http.is_some(),
        }
    }

    /// The field of the policy, such as `spec.http`.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::PodSecurity => "spec.podSecurity",
            Self::Images => "spec.images",
            Self::Secrets => "spec.secrets",
            Self::Http => "spec.http",
        }
    }
}

/// Default severity in each environment: the columns of `docs/rules.tsv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Severities {
    /// In Development.
    pub development: Severity,
    /// In Staging.
    pub staging: Severity,
    /// In Production.
    pub production: Severity,
}

impl Severities {
    /// `warn/deny/deny`
    pub const WARN_DENY_DENY: Self = Self {
        development: Severity::Warn,
        staging: Severity::Deny,
        production: Severity::Deny,
    };
    /// `off/deny/deny`
    pub const OFF_DENY_DENY: Self = Self {
        development: Severity::Disabled,
        staging: Severity::Deny,
        production: Severity::Deny,
    };
    /// `off/warn/deny`
    pub const OFF_WARN_DENY: Self = Self {
        development: Severity::Disabled,
        staging: Severity::Warn,
        production: Severity::Deny,
    };
    /// `warn/warn/deny`
    pub const WARN_WARN_DENY: Self = Self {
        development: Severity::Warn,
        staging: Severity::Warn,
        production: Severity::Deny,
    };
    /// `off/off/warn`
    pub const OFF_OFF_WARN: Self = Self {
        development: Severity::Disabled,
        staging: Severity::Disabled,
        production: Severity::Warn,
    };
    /// `off/warn/warn`
    pub const OFF_WARN_WARN: Self = Self {
        development: Severity::Disabled,
        staging: Severity::Warn,
        production: Severity::Warn,
    };

    /// The column for `environment`.
    #[must_use]
    pub fn of(self, environment: Environment) -> Severity {
        match environment {
            Environment::Development => self.development,
            Environment::Staging => self.staging,
            Environment::Production => self.production,
        }
    }
}

/// The rule with this id.
#[must_use]
pub fn rule(id: RuleId) -> &'static Rule {
    match id {
        RuleId::PodRunAsNonRoot => &pod::run_as_non_root::RULE,
        RuleId::PodRunAsUser => &pod::run_as_user::RULE,
        RuleId::PodPrivileged => &pod::privileged::RULE,
        RuleId::PodHostNamespaces => &pod::host_namespaces::RULE,
        RuleId::PodHostProcess => &pod::host_process::RULE,
        RuleId::PodHostPathVolumes => &pod::host_path_volumes::RULE,
        RuleId::PodHostPorts => &pod::host_ports::RULE,
        RuleId::PodAllowPrivilegeEscalation => &pod::allow_privilege_escalation::RULE,
        RuleId::PodCapabilities => &pod::capabilities::RULE,
        RuleId::PodSeccompProfile => &pod::seccomp_profile::RULE,
        RuleId::PodApparmorProfile => &pod::apparmor_profile::RULE,
        RuleId::PodSelinuxOptions => &pod::selinux_options::RULE,
        RuleId::PodProcMount => &pod::proc_mount::RULE,
        RuleId::PodSysctls => &pod::sysctls::RULE,
        RuleId::PodHostProbes => &pod::host_probes::RULE,
        RuleId::PodVolumeTypes => &pod::volume_types::RULE,
        RuleId::PodExpectedUid => &pod::expected_uid::RULE,
        RuleId::PodShareProcessNamespace => &pod::share_process_namespace::RULE,
        RuleId::PodResources => &pod::resources::RULE,
        RuleId::PodProbes => &pod::probes::RULE,
        RuleId::PodReadOnlyRootFilesystem => &pod::read_only_root_filesystem::RULE,
        RuleId::StoragePermissions => &storage::permissions::RULE,
        RuleId::ImagePinned => &image::pinned::RULE,
        RuleId::ImageSupportedVersion => &image::supported_version::RULE,
        RuleId::ImagePullPolicy => &image::pull_policy::RULE,
        RuleId::ImageMinimalBase => &image::minimal_base::RULE,
        RuleId::HttpCorsWildcard => &http::cors_wildcard::RULE,
        RuleId::HttpCorsExplicit => &http::cors_explicit::RULE,
        RuleId::SecretMissing => &secret::missing::RULE,
        RuleId::SecretKeyMissing => &secret::key_missing::RULE,
        RuleId::SecretLiteral => &secret::literal::RULE,
    }
}

/// All rules, in the order of reports.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    RuleId::ALL.iter().map(|id| rule(*id))
}

/// What the checks of one policy look at.
#[derive(Debug)]
pub struct Context<'c, 'a> {
    /// The policy that asks.
    pub policy: &'c CompiledPolicy,
    /// The components of the policy that the subject belongs to; empty when the policy states none or none matches.
    pub components: &'c [&'c CompiledComponent],
    /// The object.
    pub subject: &'c Subject<'a>,
    /// What is known beside it.
    pub facts: &'c Facts,
    /// What the rules on CORS share.
    origins: OnceCell<Vec<http::Setting<'c>>>,
}

impl<'c, 'a> Context<'c, 'a> {
    pub(crate) fn new(
        policy: &'c CompiledPolicy,
        components: &'c [&'c CompiledComponent],
        subject: &'c Subject<'a>,
        facts: &'c Facts,
    ) -> Self {
        Self {
            policy,
            components,
            subject,
            facts,
            origins: OnceCell::new(),
        }
    }

    /// The variables of one container of the subject; all its containers share `budget`.
    pub(crate) fn variables_of<'b>(
        &self,
        it: &ContainerRef<'c, 'a>,
        budget: &'b Budget,
    ) -> environment::Environment<'c, 'a, 'b> {
        let metadata = self.subject.pod().map(|(metadata, _)| metadata);
        environment::Environment::new(it.container, metadata, self.facts, budget)
    }
}

/// Takes what a check finds.
#[derive(Debug)]
pub struct Findings<'c> {
    policy: &'c CompiledPolicy,
    rule: RuleId,
    severity: Severity,
    pub(crate) violations: Vec<Violation>,
    pub(crate) unknowns: Vec<Unknown>,
}

impl<'c> Findings<'c> {
    pub(crate) fn new(policy: &'c CompiledPolicy, rule: RuleId, severity: Severity) -> Self {
        Self {
            policy,
            rule,
            severity,
            violations: Vec::new(),
            unknowns: Vec::new(),
        }
    }

    /// Records a violation: where, what was seen, what is asked for, how to mend it. All of it may hold text of whoever
    /// wrote the object, so that it is made fit for messages here.
    pub fn violation(
        &mut self,
        path: FieldPath,
        observed: Observed,
        required: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.violations.push(Violation {
            rule: self.rule,
            severity: self.severity,
            policies: vec![self.policy.name.clone()],
            path,
            observed: observed.printable(MAX_OBSERVED_CHARS),
            required: printable(&required.into(), MAX_REQUIRED_CHARS).into_owned(),
            remedy: printable(&remedy.into(), MAX_REMEDY_CHARS).into_owned(),
            about: BTreeSet::new(),
            inherited_at: Vec::new(),
            facts: BTreeSet::new(),
            ratcheted: false,
        });
    }

    /// Says of the violation recorded last that it is no more than a warning, whatever the rule's severity.
    pub fn warns_at_most(&mut self) {
        if let Some(violation) = self.violations.last_mut() {
            violation.severity = violation.severity.min(Severity::Warn);
        }
    }

    /// Says of the violation recorded last what offends at its place: an origin, a Secret and a key, a capability, the
    /// name of an entry. Once for each offender; with one that the object did not have before it is another violation.
    /// Never shown, but never a credential either: of that `Observed` keeps a digest.
    pub fn about(&mut self, what: impl Into<String>) {
        if let Some(violation) = self.violations.last_mut() {
            violation.about.insert(what.into());
        }
    }

    /// As [`Findings::about`], for each of `offenders`. Where there are too many, `whole` stands for the others: it tells
    /// the text that holds them all.
    pub(crate) fn about_each(
        &mut self,
        offenders: impl Iterator<Item = String>,
        whole: impl FnOnce() -> String,
    ) {
        let Some(violation) = self.violations.last_mut() else {
            return;
        };
        for offender in offenders {
            if violation.about.len() < MAX_OFFENDERS {
                violation.about.insert(offender);
            } else if !violation.about.contains(&offender) {
                violation.about.insert(whole());
                return;
            }
        }
    }

    /// Says of the violation recorded last that a container inherits it, so that it would be none the worse with the same
    /// violation at `path`, its own.
    pub fn inherited_at(&mut self, path: FieldPath) {
        if let Some(violation) = self.violations.last_mut() {
            violation.inherited_at.push(path);
        }
    }

    /// Says of the violation recorded last that it rests on `fact`, which is looked up live before a denial. Once for each
    /// fact.
    pub fn rests_on(&mut self, fact: FactKey) {
        if let Some(violation) = self.violations.last_mut() {
            violation.facts.insert(fact);
        }
    }

    /// As [`Findings::rests_on`], for all that a variable's value rests on.
    pub(crate) fn rests_on_all(&mut self, sources: &RestsOn<'_>) {
        sources.iter().for_each(|it| self.rests_on(it.key()));
    }

    /// Records that the demand cannot be judged, since `fact` is unknown.
    pub fn unknown(&mut self, path: FieldPath, fact: FactKey, cause: impl Into<String>) {
        self.add_unknown(path, Some(fact), &cause.into());
    }

    /// Takes back every violation: nobody knows whether the policy selects the object, for the reason `cause`.
    pub(crate) fn cannot_be_judged(&mut self, cause: &str) {
        for violation in std::mem::take(&mut self.violations) {
            self.add_unknown(violation.path.clone(), None, cause);
            if let Some(unknown) = self.unknowns.last_mut() {
                unknown.violations.push(violation);
            }
        }
    }

    fn add_unknown(&mut self, path: FieldPath, fact: Option<FactKey>, cause: &str) {
        self.unknowns.push(Unknown {
            rule: self.rule,
            severity: self.severity,
            policies: vec![self.policy.name.clone()],
            path,
            fact,
            cause: printable(cause, MAX_CAUSE_CHARS).into_owned(),
            beside: BTreeSet::new(),
            violations: Vec::new(),
        });
    }

    /// Says of the demand recorded last as unknown that all of `sources` decide with the fact.
    pub(crate) fn unknown_beside(&mut self, sources: &RestsOn<'_>) {
        if let Some(unknown) = self.unknowns.last_mut() {
            unknown.beside.extend(sources.iter().map(|it| it.key()));
        }
    }
}
