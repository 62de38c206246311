//! What selects or opens is never optional: a policy with one field less than it was meant to have is refused, or is
//! equal, or is stricter. Never does it select fewer workloads or let more through, since the API server drops a field
//! that it does not know, so that a typo is a deletion.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use portcullis_api::SecurityPolicy;
use portcullis_engine::CompiledPolicy;
use serde_json::Value;

/// Sections whose every field is deleted in turn. The sections themselves are the author's to state.
const SECTIONS: &[&str] = &["/spec/workloads", "/spec/components", "/spec/network"];

/// Below it stand names that the author chose, and no fields.
const MAP_OF_NAMES: &str = "matchLabels";

#[test]
fn a_policy_that_loses_a_field_is_refused_or_no_weaker() -> Result<()> {
    let full = read_policy("full.yaml")?;
    let before = compile(&full)?;
    let folder = tempfile::tempdir()?;
    let mut fields = Vec::new();
    for section in SECTIONS {
        collect_fields(
            full.pointer(section).context("the section is stated")?,
            section,
            &mut fields,
        );
    }
    let mut refused = 0;
    for field in &fields {
        let mut policy = full.clone();
        delete(&mut policy, field)?;
        if !is_accepted(&policy, folder.path())? {
            refused += 1;
            continue;
        }
        let after =
            compile(&policy).with_context(|| format!("{field}: check accepts what does not compile"))?;
        assert_no_weaker(&before, &after, field);
    }
    // Were nearly everything accepted, the comparison would be all that is tested.
    assert!(
        refused > fields.len() / 2,
        "{refused} of {} refused",
        fields.len()
    );
    Ok(())
}

/// Workloads that were selected stay selected, components keep their pods, and no connection is let through that was
/// not before.
fn assert_no_weaker(before: &CompiledPolicy, after: &CompiledPolicy, field: &str) {
    let selects_all = after.workloads.is_none();
    assert!(
        selects_all || after.workloads == before.workloads,
        "{field}: fewer workloads are selected"
    );
    let components = |it: &CompiledPolicy| format!("{:?}", it.components);
    assert_eq!(
        components(after),
        components(before),
        "{field}: a component is another one"
    );
    let is_dry = |it: &CompiledPolicy| it.network.as_ref().is_some_and(|it| it.dry_run);
    assert!(
        is_dry(before) || !is_dry(after),
        "{field}: flows are no longer enforced"
    );
    let flows = |it: &CompiledPolicy| {
        it.network
            .iter()
            .flat_map(|it| it.flows.clone())
            .collect::<Vec<_>>()
    };
    let known: Vec<String> = flows(before).iter().map(|it| format!("{it:?}")).collect();
    for flow in flows(after) {
        assert!(
            known.contains(&format!("{flow:?}")),
            "{field}: lets through {flow:?}"
        );
    }
}

/// Pointers to every field below `value`, the deepest first.
fn collect_fields(value: &Value, pointer: &str, fields: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let pointer = format!("{pointer}/{name}");
                if name != MAP_OF_NAMES {
                    collect_fields(value, &pointer, fields);
                }
                fields.push(pointer);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect_fields(item, &format!("{pointer}/{index}"), fields);
            }
        }
        _ => {}
    }
}

fn delete(policy: &mut Value, field: &str) -> Result<()> {
    let (parent, name) = field.rsplit_once('/').context("a field has a parent")?;
    let parent = policy.pointer_mut(parent).and_then(Value::as_object_mut);
    parent
        .context("the parent is a map")?
        .remove(name)
        .context("the field is there")?;
    Ok(())
}

/// Whether the command line, which reads a policy as the API server does, takes it.
fn is_accepted(policy: &Value, folder: &Path) -> Result<bool> {
    let file = folder.join("policy.json");
    std::fs::write(&file, policy.to_string())?;
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("check")
        .arg(&file)
        .output()?;
    let refusal = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => Ok(true),
        Some(2) if refusal.contains("SecurityPolicy full: ") => Ok(false),
        code => anyhow::bail!("check ended with {code:?}: {refusal}"),
    }
}

fn read_policy(name: &str) -> Result<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/policies")
        .join(name);
    Ok(serde_saphyr::from_str(&std::fs::read_to_string(path)?)?)
}

fn compile(policy: &Value) -> Result<CompiledPolicy> {
    let policy: SecurityPolicy = serde_json::from_value(policy.clone())?;
    let compiled = CompiledPolicy::try_from(&policy)?;
    ensure!(compiled.network.is_some(), "the network section is there");
    Ok(compiled)
}
