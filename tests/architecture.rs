//! What the crates must never do, proven rather than kept by habit (docs/architecture.md).

use std::process::Command;

use anyhow::{Result, ensure};
use rstest::rstest;

/// Crates that begin a runtime or a client.
const RUNTIME: &[&str] = &["tokio v", "hyper v", "kube-client v", "kube-runtime v"];

#[rstest]
#[case("portcullis-api")]
#[case("portcullis-engine")]
fn pure_crates_reach_no_runtime(#[case] package: &str) -> Result<()> {
    let tree = cargo_tree(package)?;
    assert!(tree.starts_with(package), "not a tree of {package}: {tree}");
    let reached = tree
        .lines()
        .find(|line| RUNTIME.iter().any(|it| line.starts_with(it)));
    assert_eq!(reached, None, "{package} must stay without runtime and client");
    Ok(())
}

/// The other half of it, the clock and the file system of the standard library, is clippy's to refuse; each crate has
/// its own list since the nearest file replaces the others.
#[rstest]
#[case("crates/api")]
#[case("crates/engine")]
fn pure_crates_refuse_clock_environment_and_files(#[case] folder: &str) -> Result<()> {
    let list = std::fs::read_to_string(format!("{}/{folder}/clippy.toml", env!("CARGO_MANIFEST_DIR")))?;
    for method in [
        "std::time::SystemTime::now",
        "std::time::Instant::now",
        "std::env::var",
        "std::fs::read",
    ] {
        assert!(
            list.contains(&format!("\"{method}\"")),
            "{folder}/clippy.toml must list {method}"
        );
    }
    Ok(())
}

fn cargo_tree(package: &str) -> Result<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--offline",
            "-e",
            "normal",
            "--prefix",
            "none",
            "-p",
            package,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()?;
    ensure!(
        output.status.success(),
        "cargo tree: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}
