//! Where results are put: `bench` in the target directory. `e2e/bench` makes its table of them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

/// The folder of all results.
pub fn folder() -> anyhow::Result<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .context("the target directory has a name")?;
    let folder = target.join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    Ok(folder)
}

/// Writes one file of results.
pub fn write(name: &str, value: &Value) -> anyhow::Result<()> {
    let path = folder()?.join(name);
    fs::write(&path, value.to_string()).with_context(|| format!("failed to write {}", path.display()))
}
