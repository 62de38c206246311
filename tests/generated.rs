//! What is generated from the types and checked in. `make generate` rewrites it, the tests notice when that was forgotten.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

/// Where the CRDs lie: for people who apply them, and for the chart.
const FOLDERS: &[&str] = &["crds", "charts/portcullis/files/crds"];

#[test]
fn crds_match_the_types() -> Result<()> {
    for crd in portcullis_api::crds()? {
        let name = crd.metadata.name.as_deref().context("a CRD has a name")?;
        let text = serde_saphyr::to_string(&crd)?;
        for folder in FOLDERS {
            assert_generated(&format!("{folder}/{name}.yaml"), &text)?;
        }
    }
    Ok(())
}

#[test]
fn no_crd_lies_about_that_the_types_do_not_have() -> Result<()> {
    let crds = portcullis_api::crds()?;
    let mut expected: Vec<String> = crds
        .iter()
        .filter_map(|it| it.metadata.name.as_ref().map(|name| format!("{name}.yaml")))
        .collect();
    expected.sort();
    for folder in FOLDERS {
        let entries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))?;
        let mut found: Vec<String> = entries
            .map(|it| Ok(it?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_>>()?;
        found.sort();
        assert_eq!(found, expected, "{folder}");
    }
    Ok(())
}

fn assert_generated(file: &str, expected: &str) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE").is_some_and(|it| it == "1") {
        return std::fs::write(&path, expected).with_context(|| format!("{file} cannot be written"));
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    ensure!(found == expected, "{file} is stale: run `make generate`");
    Ok(())
}
