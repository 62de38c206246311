//! Commands that make a Secret or a key, to be pasted.

use std::collections::BTreeMap;

use super::entries;
use super::names::{self, Strength};
use super::uses::{Keys, Use};
use crate::rules::Context;

/// Whose credentials cannot be made up: words in names of variables and keys.
const PROVIDERS: &[&str] = &[
    "OPENAI",
    "ANTHROPIC",
    "SLACK",
    "AWS",
    "AZURE",
    "GOOGLE",
    "GCP",
    "GEMINI",
    "GITHUB",
    "GITLAB",
    "STRIPE",
    "TWILIO",
    "SENDGRID",
    "HUGGINGFACE",
    "COHERE",
    "MISTRAL",
    "GROQ",
    "OPENROUTER",
    "REPLICATE",
    "PINECONE",
    "LANGFUSE",
    "LANGSMITH",
    "LANGCHAIN",
    "SENTRY",
    "DATADOG",
    "TAVILY",
    "SERPER",
    "DISCORD",
    "TELEGRAM",
    "JIRA",
    "NOTION",
    "SMTP",
    "INFISICAL",
    "VAULT",
    "CLIENT",
    "MODEL",
];

/// More keys than this are left to the reader.
const MAX_KEYS: usize = 8;

/// `agents/magsag`
pub(super) fn name(context: &Context<'_, '_>, secret: &str) -> String {
    match context.subject.namespace() {
        "" => secret.to_owned(),
        namespace => format!("{namespace}/{secret}"),
    }
}

/// The command that creates `secret` with every key that `uses` ask of it.
pub(super) fn create(context: &Context<'_, '_>, secret: &str, uses: &[&Use<'_, '_>]) -> String {
    let mut keys: BTreeMap<&str, bool> = BTreeMap::new();
    for it in uses {
        for key in it.keys.named() {
            *keys.entry(key).or_default() |= can_be_drawn(context, it, key);
        }
    }
    let is_safe = is_plain(secret) && keys.keys().all(|it| is_plain(it)) && keys.len() <= MAX_KEYS;
    if !is_safe {
        return format!("create Secret {}", name(context, secret));
    }
    let mut command = format!("kubectl create secret generic {secret}");
    if is_plain(context.subject.namespace()) {
        command.push_str(&format!(" -n {}", context.subject.namespace()));
    }
    for (key, is_drawn) in &keys {
        command.push_str(&if *is_drawn {
            format!(" --from-literal={key}=\"$(openssl rand -hex 32)\"")
        } else {
            format!(" --from-file={key}=./{key}")
        });
    }
    if keys.is_empty() {
        command.push_str(&if uses.iter().any(|it| matches!(it.keys, Keys::AllVariables)) {
            format!(" --from-env-file=./{secret}.env")
        } else {
            // Each file of the folder becomes a key.
            format!(" --from-file=./{secret}")
        });
    }
    command
}

/// The command that sets one key of a Secret that is there.
pub(super) fn set_key(context: &Context<'_, '_>, it: &Use<'_, '_>, key: &str) -> String {
    if !is_plain(it.secret) || !is_plain(key) {
        return format!("add the key to Secret {}", name(context, it.secret));
    }
    let namespace = match context.subject.namespace() {
        namespace if is_plain(namespace) => format!(" -n {namespace}"),
        _ => String::new(),
    };
    // Base64 needs no escape in JSON, whatever the file holds.
    let (field, value) = if can_be_drawn(context, it, key) {
        ("stringData", "$(openssl rand -hex 32)".to_owned())
    } else {
        ("data", format!("$(base64 -w0 ./{key})"))
    };
    format!(
        "kubectl patch secret {}{namespace} -p \"{{\\\"{field}\\\":{{\\\"{key}\\\":\\\"{value}\\\"}}}}\"",
        it.secret
    )
}

/// Whether a random value serves: for what the application itself hands out, not for a provider's credential or for
/// the password of a server that has one.
fn can_be_drawn(context: &Context<'_, '_>, it: &Use<'_, '_>, key: &str) -> bool {
    let variable = match it.keys {
        Keys::Variable { name, .. } => name,
        Keys::Files(_) | Keys::AllFiles | Keys::AllVariables => key,
    };
    let upper = variable.to_ascii_uppercase();
    // A webhook's secret is the receiver's choice, whoever calls.
    let is_webhook = upper.ends_with("WEBHOOK_SECRET");
    let mut words = upper.split(|it: char| !it.is_ascii_alphanumeric());
    if !is_webhook && words.any(|it| PROVIDERS.contains(&it)) {
        return false;
    }
    let mut entries = entries::of_secret(context, it.secret);
    names::strength(variable) == Some(Strength::Secret) || entries.any(|entry| entry.key == key)
}

/// Whether a name can stand in a command as it is. The object is judged before the API server validated it.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('-')
        && name
            .bytes()
            .all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.'))
}
