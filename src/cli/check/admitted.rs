//! Which documents are objects that an API server would ever see, and why the others are not.

use portcullis_engine::Kind;
use serde_json::Value;

use super::files::Document;

/// Files of tools that look like objects and are applied nowhere.
const TOOL_GROUPS: &[&str] = &[
    "kustomize.config.k8s.io",
    "kind.x-k8s.io",
    "skaffold",
    "k3d.io",
    "ctlptl.dev",
];

/// Why `document` is skipped; `None` when it is an object to be judged. An empty text says nothing about it.
pub(super) fn skipped(document: &Document) -> Option<&'static str> {
    match &document.value {
        Value::Null => return Some(""),
        Value::Array(items) if items.iter().all(is_json_patch) => {
            return Some("a JSON patch; try kustomize build … | portcullis check -");
        }
        Value::Object(_) => {}
        _ => return Some("no Kubernetes object"),
    }
    if document.kind().is_empty() || document.text("/apiVersion").is_empty() {
        return Some("no apiVersion and kind, so it is no Kubernetes object");
    }
    if TOOL_GROUPS.contains(&document.group()) {
        return Some("a file of a tool, which is never applied");
    }
    if [
        document.text("/metadata/name"),
        document.text("/metadata/namespace"),
    ]
    .into_iter()
    .any(is_placeholder)
    {
        return Some("a template that is not rendered; try helm template … | portcullis check -");
    }
    if runs_pods(document) && !has_image(document) {
        return Some("a patch: no container has an image; try kustomize build … | portcullis check -");
    }
    None
}

/// Whether the object runs pods.
pub(super) fn runs_pods(document: &Document) -> bool {
    kind(document).template_fields().is_some()
}

/// The kind, by group and kind.
pub(super) fn kind(document: &Document) -> Kind {
    Kind::of(document.group(), document.kind())
}

fn is_json_patch(item: &Value) -> bool {
    item.get("op").is_some() && item.get("path").is_some()
}

fn is_placeholder(name: &str) -> bool {
    name.contains("{{") || name.contains("${") || name.starts_with('<')
}

fn has_image(document: &Document) -> bool {
    let fields = kind(document).template_fields().unwrap_or_default();
    let template = fields
        .iter()
        .try_fold(&document.value, |value, field| value.get(field));
    let Some(spec) = template.and_then(|it| it.get("spec")) else {
        return false;
    };
    ["containers", "initContainers"]
        .iter()
        .filter_map(|list| spec.get(list).and_then(Value::as_array))
        .flatten()
        .any(|container| container.get("image").is_some())
}
