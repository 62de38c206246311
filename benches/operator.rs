//! B5 and B6: memory and start of the operator on a cluster with 1,000 policies, one in each of 1,000 namespaces. Needs
//! `KUBECONFIG` of a cluster with the chart installed and no replica of its own; `e2e/bench` starts one.

mod client;
mod cluster;
mod mix;
mod process;
mod results;

use std::time::{Duration, Instant};

use kube::Client;
use serde_json::json;

use client::Request;
use cluster::{Access, Operator};

/// Namespaces with a policy each.
const TENANTS: usize = 1_000;

/// Reviews that memory must survive without growth.
const REVIEWS: usize = 100_000;

/// Starts that are timed.
const STARTS: usize = 5;

/// Pause before memory is read, so that what is still under way has ended.
const SETTLE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::try_default().await?;
    let options = cluster::options(&client).await?;
    let memory = memory(&client, &options).await?;
    let access = Access::read(&client, &options).await?;
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(start(&options, &access)?);
    }
    let start = process::median(&starts)?;
    println!("start with {TENANTS} policies: {start:.0} ms");
    results::write(
        "operator.json",
        &json!({"memory": memory, "startMilliseconds": start, "starts": starts}),
    )
}

/// B5: resident memory, step by step.
async fn memory(client: &Client, options: &[String]) -> anyhow::Result<serde_json::Value> {
    let operator = Operator::start(options)?;
    operator.wait_ready()?;
    tokio::time::sleep(SETTLE).await;
    let idle = operator.resident_megabytes()?;
    println!("idle: {idle:.1} MB");

    cluster::govern(client, [mix::NAMESPACE.to_owned()]).await?;
    cluster::wait_enforced(client, 1).await?;
    let access = Access::read(client, options).await?;
    let target = operator.webhook(&access)?;
    let reviews = mix::reviews()?;
    let requests: Vec<_> = reviews
        .iter()
        .map(|it| Request::new(&access.path, it.kind, &it.body))
        .collect();
    let cpu = operator.cpu_time()?;
    target.load(&requests, REVIEWS)?;
    let cpu = (operator.cpu_time()? - cpu).as_secs_f64() * 1e6 / REVIEWS as f64;
    let after_reviews = operator.resident_megabytes()?;
    println!("after {REVIEWS} reviews: {after_reviews:.1} MB, {cpu:.1} µs of CPU each");

    cluster::govern(client, (1..=TENANTS).map(tenant)).await?;
    cluster::wait_enforced(client, TENANTS + 1).await?;
    tokio::time::sleep(SETTLE).await;
    let with_policies = operator.resident_megabytes()?;
    println!("with {TENANTS} policies: {with_policies:.1} MB");
    operator.stop()?;
    Ok(json!({
        "idleMegabytes": idle,
        "afterReviewsMegabytes": after_reviews,
        "withPoliciesMegabytes": with_policies,
        "cpuMicroseconds": cpu,
    }))
}

/// B6: milliseconds from exec to the first refusal by the policy of one namespace; it can only come once all policies
/// have been read.
fn start(options: &[String], access: &Access) -> anyhow::Result<f64> {
    let request = cluster::violating(&tenant(TENANTS), &access.path)?;
    let started = Instant::now();
    let operator = Operator::start(options)?;
    let target = operator.webhook(access)?;
    Operator::wait_refused(&target, &request)?;
    let took = started.elapsed();
    operator.stop()?;
    Ok(took.as_secs_f64() * 1e3)
}

fn tenant(index: usize) -> String {
    format!("tenant-{index:04}")
}
