//! What tests of the chart on a real API server share: a cluster without a node, the chart installed with no operator
//! running: what holds here is held by the API server alone.

use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};

use crate::cluster::Cluster;

/// The cluster of this test file, made ready by `prepare`; started once, also when that fails.
pub fn cluster(prepare: fn(&Cluster) -> Result<()>) -> Result<&'static Cluster> {
    static CLUSTER: OnceLock<Result<Cluster>> = OnceLock::new();
    let started = CLUSTER.get_or_init(|| {
        let cluster = Cluster::start(1, "chart")?;
        cluster.helm_install(&["replicaCount=0"])?;
        prepare(&cluster)?;
        Ok(cluster)
    });
    started.as_ref().map_err(|error| anyhow!("{error:#}"))
}

/// What an admission policy of the chart said if it refused; an error when anything else went wrong.
pub fn refusal_of(result: Result<String>, policy: &str) -> Result<Option<String>> {
    let Err(error) = result else {
        return Ok(None);
    };
    let text = error.to_string();
    let by = format!(
        " is forbidden: ValidatingAdmissionPolicy 'portcullis-{policy}' with binding 'portcullis-{policy}' denied request: "
    );
    let (before, message) = text
        .split_once(&by)
        .with_context(|| format!("refused by portcullis-{policy}, but: {text}"))?;
    ensure!(
        before.starts_with("Error from server (Forbidden): "),
        "status 403, but: {text}"
    );
    Ok(Some(message.to_owned()))
}
