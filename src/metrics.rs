//! Prometheus metrics of the operator; labels come from closed sets only.

use std::time::Duration;

use portcullis_api::{Enforcement, RuleId, Severity};
use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// Upper bounds in seconds: an answer from memory, one with a look-up, one that is near its timeout.
const DURATION_BUCKETS: &[f64] = &[0.001, 0.005, 0.025, 0.1, 0.5, 2.0, 5.0];

/// All counters of the operator.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    violations: IntCounterVec,
    duration: Histogram,
    our_errors: IntCounter,
    policies: IntGaugeVec,
    ceiling: IntGaugeVec,
    api_available: IntGauge,
    leader: IntGauge,
    reconcile_errors: IntCounterVec,
}

/// What the controller failed to bring about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconciled {
    /// A policy: its NetworkPolicies or its status.
    SecurityPolicy,
    /// The webhook configurations.
    WebhookConfiguration,
    /// The right to read the Secrets of a namespace.
    RoleBinding,
    /// The audit of a namespace.
    Audit,
}

impl Reconciled {
    const ALL: [Self; 4] = [
        Self::SecurityPolicy,
        Self::WebhookConfiguration,
        Self::RoleBinding,
        Self::Audit,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::SecurityPolicy => "SecurityPolicy",
            Self::WebhookConfiguration => "WebhookConfiguration",
            Self::RoleBinding => "RoleBinding",
            Self::Audit => "Audit",
        }
    }
}

impl Metrics {
    /// All counters at zero.
    ///
    /// # Errors
    /// When two metrics have the same name, which only a change of this file can cause.
    pub fn new() -> prometheus::Result<Self> {
        let metrics = Self {
            registry: Registry::new(),
            requests: IntCounterVec::new(
                Opts::new(
                    "portcullis_admission_requests_total",
                    "Admission requests answered",
                ),
                &["webhook", "decision"],
            )?,
            violations: IntCounterVec::new(
                Opts::new(
                    "portcullis_violations_total",
                    "Violations found in admission requests",
                ),
                &["rule", "severity"],
            )?,
            duration: Histogram::with_opts(
                HistogramOpts::new(
                    "portcullis_admission_duration_seconds",
                    "Time from a read request to its answer",
                )
                .buckets(DURATION_BUCKETS.to_vec()),
            )?,
            our_errors: IntCounter::new(
                "portcullis_our_errors_total",
                "Requests refused by an error of Portcullis",
            )?,
            policies: IntGaugeVec::new(
                Opts::new("portcullis_policies", "SecurityPolicies known"),
                &["state"],
            )?,
            ceiling: IntGaugeVec::new(
                Opts::new(
                    "portcullis_enforcement_ceiling",
                    "1 for the enforcement ceiling of the cluster that is in force",
                ),
                &["ceiling"],
            )?,
            api_available: IntGauge::new(
                "portcullis_api_available",
                "1 while the API server knows SecurityPolicies, 0 without their CustomResourceDefinition",
            )?,
            leader: IntGauge::new("portcullis_leader", "1 while this replica is the one that writes")?,
            reconcile_errors: IntCounterVec::new(
                Opts::new(
                    "portcullis_reconcile_errors_total",
                    "What the controller failed to bring about, each of which is tried again",
                ),
                &["kind"],
            )?,
        };
        for kind in Reconciled::ALL {
            // There from the start, so that a first failure is an increase.
            metrics.reconcile_errors.with_label_values(&[kind.as_str()]);
        }
        for collector in metrics.collectors() {
            metrics.registry.register(collector)?;
        }
        Ok(metrics)
    }

    /// All that `/metrics` shows; each stands in docs/metrics.md.
    fn collectors(&self) -> [Box<dyn Collector>; 9] {
        [
            Box::new(self.requests.clone()),
            Box::new(self.violations.clone()),
            Box::new(self.duration.clone()),
            Box::new(self.our_errors.clone()),
            Box::new(self.policies.clone()),
            Box::new(self.ceiling.clone()),
            Box::new(self.api_available.clone()),
            Box::new(self.leader.clone()),
            Box::new(self.reconcile_errors.clone()),
        ]
    }

    /// Says whether the API server knows SecurityPolicies.
    pub fn api_available(&self, is_available: bool) {
        self.api_available.set(is_available.into());
    }

    /// Says whether this replica is the one that writes.
    pub fn leader(&self, is_leader: bool) {
        self.leader.set(is_leader.into());
    }

    /// Counts something that the controller failed to bring about.
    pub fn reconcile_error(&self, kind: Reconciled) {
        self.reconcile_errors.with_label_values(&[kind.as_str()]).inc();
    }

    /// Counts one answered request of a webhook.
    pub fn request(&self, webhook: &'static str, decision: &'static str, took: Duration) {
        self.requests.with_label_values(&[webhook, decision]).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// Counts one violation.
    pub fn violation(&self, rule: RuleId, severity: Severity) {
        self.violations
            .with_label_values(&[rule.as_str(), severity.as_str()])
            .inc();
    }

    /// Counts one request that was refused by a fault of ours.
    pub fn our_error(&self) {
        self.our_errors.inc();
    }

    /// The text that Prometheus reads, with the number of policies and the ceiling of this moment.
    ///
    /// # Errors
    /// When a metric cannot be written as text, which its type makes impossible.
    pub fn render(&self, accepted: i64, invalid: i64, ceiling: Enforcement) -> prometheus::Result<Vec<u8>> {
        self.policies.with_label_values(&["accepted"]).set(accepted);
        self.policies.with_label_values(&["invalid"]).set(invalid);
        for it in [Enforcement::Deny, Enforcement::Warn, Enforcement::Audit] {
            self.ceiling
                .with_label_values(&[Severity::from(it).as_str()])
                .set((it == ceiling).into());
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_metric_stands_in_its_page_and_nothing_else() {
        let page = include_str!("../docs/metrics.md");
        let headings = page.lines().filter_map(|it| it.strip_prefix("## `"));
        let documented: BTreeSet<&str> = headings.filter_map(|it| it.strip_suffix('`')).collect();
        let metrics = Metrics::new().unwrap();
        let collectors = metrics.collectors();
        let known: BTreeSet<&str> = collectors
            .iter()
            .flat_map(|it| it.desc())
            .map(|it| it.fq_name.as_str())
            .collect();
        assert_eq!(documented, known);
    }

    #[test]
    fn each_metrics_section_names_its_labels_and_its_help() {
        let page = include_str!("../docs/metrics.md");
        let metrics = Metrics::new().unwrap();
        for description in metrics.collectors().iter().flat_map(|it| it.desc()) {
            let heading = format!("## `{}`", description.fq_name);
            let section = page.split(&heading).nth(1).unwrap_or_default();
            let section = section.split("\n## ").next().unwrap_or_default();
            assert!(
                section.contains(&description.help),
                "{heading}: {}",
                description.help
            );
            for label in &description.variable_labels {
                assert!(section.contains(&format!("`{label}`")), "{heading}: {label}");
            }
        }
    }

    #[test]
    fn what_is_fed_is_shown() {
        let metrics = Metrics::new().unwrap();
        metrics.leader(true);
        metrics.api_available(true);
        metrics.reconcile_error(Reconciled::Audit);
        let text = metrics.render(2, 1, Enforcement::Warn).unwrap();
        let text = String::from_utf8(text).unwrap();
        let shown: Vec<&str> = text.lines().filter(|it| !it.starts_with('#')).collect();
        for line in [
            "portcullis_leader 1",
            "portcullis_api_available 1",
            r#"portcullis_reconcile_errors_total{kind="Audit"} 1"#,
            r#"portcullis_reconcile_errors_total{kind="RoleBinding"} 0"#,
            r#"portcullis_policies{state="accepted"} 2"#,
            r#"portcullis_policies{state="invalid"} 1"#,
            r#"portcullis_enforcement_ceiling{ceiling="Warn"} 1"#,
            r#"portcullis_enforcement_ceiling{ceiling="Deny"} 0"#,
        ] {
            assert!(shown.contains(&line), "{line} is missing in\n{text}");
        }
    }
}
