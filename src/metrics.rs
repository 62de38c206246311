//! Prometheus metrics of the operator; labels come from closed sets only.

use std::time::Duration;

use portcullis_api::{Enforcement, RuleId, Severity};
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
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
        };
        let registry = &metrics.registry;
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.violations.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.our_errors.clone()))?;
        registry.register(Box::new(metrics.policies.clone()))?;
        registry.register(Box::new(metrics.ceiling.clone()))?;
        Ok(metrics)
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
