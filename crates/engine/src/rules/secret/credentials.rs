//! Whether a text is, or holds, a credential: by its name, by its form, in a URL, in a connection string.

use std::borrow::Cow;

use super::names::{self, Strength};
use super::shapes;
use crate::environment::{GAP, HIDDEN};

const BY_NAME: &str = "a literal credential";

const IN_URL: &str = "a password in a URL";
const IN_PAIRS: &str = "a password in plain text";

/// What the value of variable or flag `name` is, if it is a credential. A name that the policy `declares` is one
/// whatever it sounds like. The value is expanded: a `$(NAME)` that is left in it nothing defines.
pub(super) fn named(name: &str, value: &str, declares: bool) -> Option<&'static str> {
    if value.is_empty() {
        return None;
    }
    if let Some(found) = anywhere(value) {
        return Some(found);
    }
    if declares {
        return literal(value).map(|_| BY_NAME);
    }
    names::strength(name).and_then(|it| of_strength(it, value))
}

/// What a value is under a name that says with `strength` that it is a credential.
pub(super) fn of_strength(strength: Strength, value: &str) -> Option<&'static str> {
    let value = &*literal(value)?;
    let is_credential = match strength {
        Strength::Password => !is_bool(value),
        Strength::Secret => is_secret(value),
        Strength::Key => is_secret(value) && is_random(value),
    };
    is_credential.then_some(BY_NAME)
}

/// As [`of_strength`], for a word that a shell may read first: there `$name` is a variable.
pub(super) fn in_shell(strength: Strength, value: &str) -> Option<&'static str> {
    of_strength(strength, value).filter(|_| !is_of_shell(value))
}

fn is_of_shell(value: &str) -> bool {
    let value = without_references(value);
    value.starts_with("$(") || value.starts_with('`') || value.strip_prefix('$').is_some_and(is_identifier)
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_')
        && text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_')
}

/// What a text of any name holds, if it holds a credential.
pub(in crate::rules) fn anywhere(text: &str) -> Option<&'static str> {
    shapes::find(text)
        .or_else(|| has_password_in_url(text).then_some(IN_URL))
        .or_else(|| has_password_pair(text).then_some(IN_PAIRS))
}

/// `scheme://user:password@host`, where the password is none of a reference.
fn has_password_in_url(text: &str) -> bool {
    // Most texts hold no colon, which is found out faster than that they hold no longer separator.
    text.match_indices(':').any(|(at, _)| {
        let Some(rest) = text.get(at..).and_then(|it| it.strip_prefix("://")) else {
            return false;
        };
        let end =
            rest.find(|it: char| it.is_whitespace() || matches!(it, '/' | '?' | '#' | '"' | '\'' | '\\'));
        let authority = end.and_then(|end| rest.get(..end)).unwrap_or(rest);
        let password = authority
            .rsplit_once('@')
            .and_then(|(user_info, _)| user_info.split_once(':'))
            .map(|(_, password)| password);
        password.is_some_and(|it| literal(it).is_some() && !is_of_shell(it))
    })
}

/// `Password=…;`, `?password=…`, `-Dspring.datasource.password=…`, `PGPASSWORD=… psql`.
fn has_password_pair(text: &str) -> bool {
    if !text.contains('=') {
        return false;
    }
    let parts = text.split(|it: char| it.is_whitespace() || matches!(it, ';' | '&' | '?' | ',' | '"' | '\''));
    parts.filter_map(|it| it.split_once('=')).any(|(name, value)| {
        // A name with brackets or a path is an expression of some script, no parameter.
        let is_name = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'_' | b'-' | b'.');
        let strength = || names::strength(name).filter(|it| *it >= Strength::Secret);
        name.bytes().all(is_name) && strength().and_then(|it| in_shell(it, value)).is_some()
    })
}

/// Whether a value under a name for secrets can be one.
fn is_secret(value: &str) -> bool {
    !is_bool(value)
        && !is_number(value)
        && !is_uuid(value)
        && !is_object(value)
        && !is_address(value)
        && !is_header(value)
}

/// Where a token is fetched, without anything that could be one.
fn is_address(value: &str) -> bool {
    value.contains("://") && !value.contains(['@', '?', '#']) && !value.contains(char::is_whitespace)
}

/// `X-CSRF-Token`: the header that carries one.
fn is_header(value: &str) -> bool {
    value
        .strip_prefix("X-")
        .is_some_and(|it| it.bytes().all(|it| it.is_ascii_alphabetic() || it == b'-'))
}

/// `namespace/name`: flags of controllers name Secrets so.
fn is_object(value: &str) -> bool {
    let is_name = |it: &str| {
        !it.is_empty()
            && it
                .bytes()
                .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || matches!(it, b'-' | b'.'))
    };
    value
        .split_once('/')
        .is_some_and(|(namespace, name)| is_name(namespace) && is_name(name))
}

/// What stands literally in a value; `None` where nothing does: it is empty, the credential itself stands elsewhere, or
/// nothing but references that lead nowhere are left of it.
fn literal(value: &str) -> Option<Cow<'_, str>> {
    let literal = without_references(value);
    let is_only_references = matches!(literal, Cow::Owned(_)) && !literal.contains(char::is_alphanumeric);
    (!literal.is_empty() && !is_only_references && !is_reference(&literal)).then_some(literal)
}

/// A value without the parts that hold no credential: each `$(NAME)` that nothing defines, as the process gets it as it
/// is written, and what is known only where the pod runs.
fn without_references(value: &str) -> Cow<'_, str> {
    if !value.contains(HIDDEN) && !value.contains("$(") {
        return Cow::Borrowed(value);
    }
    let mut literal = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find(['$', HIDDEN]) {
        let (before, found) = rest.split_at_checked(at).unwrap_or((rest, ""));
        literal.push_str(before);
        rest = found
            .strip_prefix(HIDDEN)
            .or_else(|| after_reference(found))
            .unwrap_or_else(|| {
                literal.push('$');
                found.strip_prefix('$').unwrap_or_default()
            });
    }
    literal.push_str(rest);
    match literal.len() == value.len() {
        true => Cow::Borrowed(value),
        false => Cow::Owned(literal),
    }
}

/// Whether the credential itself stands elsewhere: a variable, a template, a path, a store's address, a digest.
fn is_reference(value: &str) -> bool {
    const STORES: &[&str] = &[
        "vault:",
        "arn:",
        "op://",
        "ref+",
        "ssm:",
        "gsm:",
        "akv://",
        "env:",
        "env://",
        "file:",
        "projects/",
        "secretsmanager:",
        "sha256:",
        "sha384:",
        "sha512:",
    ];
    let value = value.trim();
    value.contains(GAP)
        || has_template(value)
        || value.contains("{{")
        || value.starts_with(['<', '{'])
        || value.starts_with("%(")
        || is_path(value)
        || value.get(1..3) == Some(":\\")
        || value.bytes().all(|it| matches!(it, b'*'))
        || STORES.iter().any(|it| value.starts_with(it))
}

/// What follows the `$(NAME)` that `text` begins with.
fn after_reference(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("$(")?;
    let after = inner.trim_start_matches(is_of_name);
    (after.len() < inner.len())
        .then(|| after.strip_prefix(')'))
        .flatten()
}

/// Whether a value holds `${NAME}`, with a default or not, which the kubelet leaves to the application.
fn has_template(value: &str) -> bool {
    let inner = value.split_once("${").and_then(|(_, it)| it.split_once('}'));
    inner.is_some_and(|(inner, _)| is_name(inner.split_once(':').map_or(inner, |(name, _)| name)))
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_of_name)
}

/// Names of variables hold dots and dashes, too, which Kubernetes allows.
fn is_of_name(it: char) -> bool {
    it.is_ascii_alphanumeric() || matches!(it, '_' | '-' | '.')
}

/// Whether a value looks like a path: base64 may begin with a slash, too.
fn is_path(value: &str) -> bool {
    let is_drawn = |it: &str| {
        it.len() >= 16
            && it.bytes().any(|it| it.is_ascii_digit())
            && it.bytes().any(|it| it.is_ascii_lowercase())
            && it.bytes().any(|it| it.is_ascii_uppercase())
    };
    ["/", "~/", "./", "../"].iter().any(|it| value.starts_with(it))
        && !value.ends_with('=')
        && !value.split('/').any(is_drawn)
}

fn is_bool(value: &str) -> bool {
    const WORDS: &[&str] = &[
        "true", "false", "yes", "no", "on", "off", "none", "null", "enabled", "disabled", "auto", "required",
        "optional",
    ];
    WORDS.iter().any(|it| value.eq_ignore_ascii_case(it))
}

/// A number, with a unit or not: `3600`, `0.5`, `15m`, `30d`.
fn is_number(value: &str) -> bool {
    let digits = value.trim_end_matches(|it: char| it.is_ascii_lowercase());
    let unit = value.len() - digits.len();
    unit <= 2
        && !digits.is_empty()
        && digits
            .bytes()
            .all(|it| it.is_ascii_digit() || matches!(it, b'.' | b'-' | b'_'))
}

fn is_uuid(value: &str) -> bool {
    value.len() == 36
        && value.bytes().enumerate().all(|(at, it)| match at {
            8 | 13 | 18 | 23 => it == b'-',
            _ => it.is_ascii_hexdigit(),
        })
}

/// Whether a value looks drawn and not thought of: long, one word, letters and digits mixed.
fn is_random(value: &str) -> bool {
    value.len() >= 16
        && !value.contains(|it: char| it.is_whitespace() || matches!(it, '/' | ':' | '.'))
        && value.bytes().any(|it| it.is_ascii_digit())
        && value.bytes().any(|it| it.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("DB_PASSWORD", "hunter2", BY_NAME)]
    #[case("DB_PASSWORD", "12345", BY_NAME)]
    #[case("JWT_SECRET", "changeme", BY_NAME)]
    #[case("API_KEY", "0123456789abcdef", BY_NAME)]
    #[case("DB_PASSWORD", "/9x7Kq2mZp0aWv3bTn5c==", BY_NAME)]
    #[case("DB_PASSWORD", "$ecret123", BY_NAME)]
    #[case("DB_PASSWORD", "pa$(ss", BY_NAME)]
    #[case("DB_PASSWORD", "~hunter2", BY_NAME)]
    #[case("DB_PASSWORD", "hunter2$(UNDEFINED)", BY_NAME)]
    #[case("DB_PASSWORD", "$(UNDEFINED)hunter2", BY_NAME)]
    #[case("DB_PASSWORD", "hunter2\u{1}", BY_NAME)]
    #[case("JWT_SECRET", "$(A)-hunter2-$(B)", BY_NAME)]
    #[case("REDIS_URL", "redis://:hunter2$(UNDEFINED)@redis:6379/0", IN_URL)]
    #[case("REDIS_URL", "redis://:$(UNDEFINED)hunter2@redis:6379/0", IN_URL)]
    #[case("JDBC", "jdbc:postgresql://db/app?password=hunter2$(UNDEFINED)", IN_PAIRS)]
    #[case("AUTH_TOKEN", "https://example.com/?code=abcdef", BY_NAME)]
    #[case("STRIPE_KEY", "rk0123456789abcdef", BY_NAME)]
    #[case("DATABASE_URL", "postgresql+asyncpg://app:hunter2@db:5432/app", IN_URL)]
    #[case("REDIS_URL", "redis://:hunter2@redis:6379/0", IN_URL)]
    #[case("REDIS_URL", "redis://:hunter2@$(HOST):6379/0", IN_URL)]
    #[case("JDBC", "jdbc:postgresql://db/app?user=a&password=hunter2", IN_PAIRS)]
    #[case("CONNECTION", "Server=db;User Id=a;Password=hunter2;", IN_PAIRS)]
    #[case("JAVA_OPTS", "-Xmx1g -Dspring.datasource.password=hunter2", IN_PAIRS)]
    fn credentials(#[case] name: &str, #[case] value: &str, #[case] expected: &str) {
        assert_eq!(named(name, value, false), Some(expected));
    }

    #[rstest]
    #[case("DB_PASSWORD", "")]
    #[case("DB_PASSWORD", "$(PG)")]
    #[case("DB_PASSWORD", "${PG}")]
    #[case("DB_PASSWORD", " $(A)-$(B) ")]
    #[case("DB_PASSWORD", "hunter2\0")]
    #[case("LOCK_TOKEN", "\u{1}-\u{1}")]
    #[case("DB_PASSWORD", "$(DIRECTORY)/secrets/pw")]
    #[case("DB_PASSWORD", "{{ .Values.password }}")]
    #[case("DB_PASSWORD", "/run/secrets/pw")]
    #[case("DB_PASSWORD", "${PG:-none}")]
    #[case("AZURE_TOKEN", "https://login.example.com/oauth2/token")]
    #[case("CSRF_TOKEN", "X-CSRF-Token")]
    #[case("REQUIRE_PASSWORD", "true")]
    #[case("AUTH_TOKEN", "3600")]
    #[case("AUTH_TOKEN", "15m")]
    #[case("VAULT_SECRET", "123e4567-e89b-12d3-a456-426614174000")]
    #[case("IMAGE_TOKEN", "sha256:0123456789abcdef")]
    #[case("DEFAULT_SECRET", "agents/magsag")]
    #[case("SORT_KEY", "created_at")]
    #[case("CACHE_KEY", "user-profile-v2-cache")]
    #[case("REDIS_URL", "redis://host:6379/0")]
    #[case("REDIS_URL", "redis://$(USER):$(PASSWORD)@redis:6379/0")]
    #[case("JDBC", "jdbc:postgresql://host/db")]
    #[case("SCRIPT", "password=$(cat /run/secrets/pw)")]
    #[case("URL", "https://example.com/?page_size=10")]
    fn none(#[case] name: &str, #[case] value: &str) {
        assert_eq!(named(name, value, false), None);
    }

    /// Were a closing parenthesis looked for at every reference, this would take minutes.
    #[test]
    fn many_references_that_nothing_closes_are_read_once() {
        assert_eq!(
            named("DB_PASSWORD", &"$(A".repeat(512 * 1024), false),
            Some(BY_NAME)
        );
        assert_eq!(named("DB_PASSWORD", &"$(A)".repeat(512 * 1024), false), None);
    }

    #[test]
    fn a_declared_name_makes_every_literal_a_credential() {
        assert_eq!(named("MODEL", "plain", true), Some(BY_NAME));
        assert_eq!(named("MODEL", "plain$(KEY)", true), Some(BY_NAME));
        assert_eq!(named("MODEL", "$(KEY)", true), None);
    }
}
