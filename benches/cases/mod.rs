//! What B1 measures: one Deployment of the mix, judged under pod rules alone and under all rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use portcullis_api::{Enforcement, SecurityPolicy};
use portcullis_engine::mutation::{self, Scope};
use portcullis_engine::{
    CompiledPolicy, ConfigMapFact, Fact, Facts, KeyFact, SecretFact, Subject, Verdict, evaluate, select,
};
use serde_json::Value;

use crate::mix;

/// A policy and all that is known beside the object.
#[derive(Debug)]
pub struct Case {
    /// Name in the results.
    pub name: &'static str,
    policy: CompiledPolicy,
    facts: Facts,
}

impl Case {
    /// Pod rules alone, as the Pod Security library has them, and all rules.
    pub fn all() -> anyhow::Result<[Self; 2]> {
        let all_rules = mix::policy()?;
        let mut pod_rules = all_rules.clone();
        let spec = &mut pod_rules.spec;
        (spec.secrets, spec.http, spec.network) = (None, None, None);
        // The library only judges: it sets nothing.
        spec.pod_security.iter_mut().for_each(|it| it.defaults = None);
        Ok([
            Self::new("pod-rules", &pod_rules)?,
            Self::new("all-rules", &all_rules)?,
        ])
    }

    fn new(name: &'static str, policy: &SecurityPolicy) -> anyhow::Result<Self> {
        Ok(Self {
            name,
            policy: CompiledPolicy::try_from(policy)?,
            facts: facts(),
        })
    }

    /// What the webhook does with a parsed object: select, set as admission would, evaluate. Since nothing is left to
    /// set, each call with the same subject does the same.
    pub fn judge(&self, subject: &mut Subject<'_>) -> Verdict {
        let governing = select([&self.policy], subject, None, &self.facts);
        mutation::apply(&governing, subject, Scope::All);
        evaluate(&governing, subject, &self.facts, Enforcement::Deny)
    }

    /// That the policy governs the subject and finds nothing: otherwise the measurement would mean nothing.
    pub fn ensure_clean(&self, subject: &mut Subject<'_>) -> anyhow::Result<()> {
        ensure!(
            !select([&self.policy], subject, None, &self.facts).is_empty(),
            "{}: not governed",
            self.name
        );
        let verdict = self.judge(subject);
        ensure!(
            verdict == Verdict::default(),
            "{}: the mix must comply, got {verdict:#?}",
            self.name
        );
        Ok(())
    }
}

/// The first Deployment of the mix.
pub fn deployment() -> anyhow::Result<Value> {
    let reviews = mix::reviews()?;
    let review = reviews
        .iter()
        .find(|it| it.kind == "Deployment")
        .context("the mix has a Deployment")?;
    let review: Value = serde_json::from_str(&review.body)?;
    Ok(review
        .pointer("/request/object")
        .context("a review has an object")?
        .clone())
}

fn facts() -> Facts {
    let secret = |keys: &Vec<&str>| SecretFact {
        keys: keys
            .iter()
            .map(|it| ((*it).to_owned(), KeyFact { empty: false }))
            .collect(),
    };
    let config_map = |data: &BTreeMap<&str, &str>| ConfigMapFact {
        data: data
            .iter()
            .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()))
            .collect(),
    };
    let secrets = mix::secrets();
    let config_maps = mix::config_maps();
    Facts {
        secrets: secrets
            .iter()
            .map(|(name, keys)| ((*name).to_owned(), Fact::Known(Arc::new(secret(keys)))))
            .collect(),
        config_maps: config_maps
            .iter()
            .map(|(name, data)| ((*name).to_owned(), Fact::Known(Arc::new(config_map(data)))))
            .collect(),
        pods_behind: None,
    }
}
