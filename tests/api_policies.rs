//! Every policy under `policies/invalid/` is refused, by the command line and by a real API server, and what people read
//! is kept as a snapshot. Those under `policies/unreadable/` are no YAML, which kubectl refuses by itself.
//!
//! Six of them pass the API server, whose schema and CEL validations cannot state what is wrong: the operator's webhook
//! for its own kinds and `Accepted=False` are for those.

mod cluster;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Result, ensure};
use cluster::{Cluster, root};

/// The mistakes that only the compiler of policies sees.
const BEYOND_THE_SCHEMA: &[&str] = &[
    "kube-system",
    "no-label-key",
    "port-range-backwards",
    "versions-of-no-image",
    "versions-of-one-image-twice",
    "versions-without-range",
];

#[test]
fn the_command_line_refuses_every_invalid_policy() -> Result<()> {
    let mut answers = String::new();
    for file in policies("invalid")?.into_iter().chain(policies("unreadable")?) {
        let output = check(&file)?;
        let name = name(&file);
        ensure!(output.status.code() == Some(2), "{name} must be refused");
        answers.push_str(&format!("## {name}\n{}", String::from_utf8(output.stderr)?));
    }
    insta::assert_snapshot!("portcullis_check", answers);
    Ok(())
}

#[test]
fn the_api_server_refuses_every_invalid_policy_that_a_schema_can_refuse() -> Result<()> {
    let cluster = Cluster::start(1, "policies")?;
    cluster.kubectl("apply --filename crds")?;
    cluster.wait("--for=condition=Established --filename crds")?;
    cluster.kubectl("create namespace policies")?;
    let mut answers = String::new();
    for file in policies("invalid")? {
        let create = format!("create --dry-run=server --filename {}", file.display());
        let printed = cluster.kubectl_printed(&create, "")?;
        let answer = [printed.out.trim_end(), &printed.err].concat();
        answers.push_str(&format!("## {}\n{answer}\n", name(&file)));
    }
    let admitted: Vec<&str> = answers
        .split("## ")
        .filter(|it| it.contains(" created "))
        .filter_map(|it| it.lines().next())
        .collect();
    assert_eq!(admitted, BEYOND_THE_SCHEMA);
    insta::assert_snapshot!("kubectl_create", answers);
    Ok(())
}

#[test]
fn the_samples_are_valid() -> Result<()> {
    for file in [
        "manifests/samples/magsag.yaml",
        "manifests/samples/first-policy.yaml",
    ] {
        let output = check(Path::new(file))?;
        assert_eq!(String::from_utf8(output.stderr)?, "", "{file}");
        assert_eq!(output.status.code(), Some(0), "{file}");
    }
    Ok(())
}

fn policies(folder: &str) -> Result<Vec<PathBuf>> {
    let folder = Path::new("tests/policies").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(root().join(&folder))?
        .map(|entry| Ok(folder.join(entry?.file_name())))
        .collect::<Result<_>>()?;
    files.sort();
    Ok(files)
}

fn name(file: &Path) -> String {
    file.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Relative to the checkout, so that answers name the same file everywhere.
fn check(file: &Path) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    Ok(command.arg("check").arg(file).current_dir(root()).output()?)
}
