//! Regular expressions for origins, judged by what they match: origins of strangers must not.

use std::borrow::Cow;

use regex::bytes::{Regex, RegexBuilder};

/// Origins that nobody means to allow.
const FOREIGN: &[&str] = &[
    "https://evil.test",
    "http://evil.test",
    "https://example.com.evil.test",
];

/// Longest pattern that is tried, in bytes: it is the object's author who wrote it.
const MAX_PATTERN: usize = 512;

/// Bound on a compiled pattern, in bytes.
const MAX_COMPILED: usize = 64 * 1024;

/// More patterns than this in one value are not tried.
const MAX_PATTERNS: usize = 16;

/// Whether a value with one or more patterns lets a stranger's origin in. A pattern that cannot be tried, such as one
/// with look-around, is taken for one that does.
pub(super) fn lets_strangers_in(text: &str, allowed: Option<&[String]>) -> bool {
    let patterns = patterns(text);
    if patterns.len() > MAX_PATTERNS {
        return true;
    }
    patterns.iter().any(|it| match compile(it) {
        Some(regex) => matches_stranger(&regex, allowed.unwrap_or_default()),
        None => true,
    })
}

/// The one origin that an anchored pattern stands for, if it stands for one: `^https://app\.example\.com$`.
pub(super) fn only_origin(text: &str) -> Option<String> {
    let inner = text.trim().strip_prefix('^')?.strip_suffix('$')?;
    let mut origin = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(it) = chars.next() {
        match it {
            '\\' => origin.push(chars.next().filter(char::is_ascii_punctuation)?),
            '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '^' | '$' => return None,
            _ => origin.push(it),
        }
    }
    Some(origin)
}

/// The patterns of a JSON or Python list, or the one that a value is. A comma may belong to a pattern (`{1,3}`), so a
/// value that is no list is tried as a whole and, where that compiles too, in its parts.
pub(super) fn patterns(text: &str) -> Vec<Cow<'_, str>> {
    let text = text.trim();
    if let Ok(list) = serde_json::from_str::<Vec<String>>(text) {
        return list.into_iter().map(Cow::Owned).collect();
    }
    let inner = text
        .strip_prefix(['[', '('])
        .and_then(|it| it.strip_suffix([']', ')']));
    if let Some(inner) = inner.map(str::trim)
        && inner.trim_start_matches('r').starts_with(['\'', '"'])
    {
        let parts = inner.split(',').map(|it| it.trim().trim_start_matches('r'));
        return parts
            .map(|it| Cow::Borrowed(it.trim_matches(['\'', '"'])))
            .filter(|it| !it.is_empty())
            .collect();
    }
    let parts = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    let parts: Vec<_> = parts.map(Cow::Borrowed).collect();
    // Neither the parts nor the whole are tried then: compiling tens of thousands of them would take seconds.
    let is_too_much = parts.len() > MAX_PATTERNS && text.len() > MAX_PATTERN;
    if parts.len() > 1 && !is_too_much && parts.iter().all(|it| compile(it).is_some()) {
        return parts;
    }
    vec![Cow::Borrowed(text)]
}

fn compile(pattern: &str) -> Option<Regex> {
    if pattern.len() > MAX_PATTERN {
        return None;
    }
    // Without Unicode classes, whose tables depend on how the crate is built; origins are ASCII.
    let mut builder = RegexBuilder::new(pattern);
    builder.unicode(false).case_insensitive(true);
    builder.size_limit(MAX_COMPILED).build().ok()
}

fn matches_stranger(regex: &Regex, allowed: &[String]) -> bool {
    let matches = |it: &str| regex.is_match(it.as_bytes());
    FOREIGN.iter().any(|it| matches(it))
        || allowed
            .iter()
            .flat_map(|it| lookalikes(it))
            .any(|it| matches(&it))
}

/// Origins that a missing anchor or an unescaped dot mistakes for `origin`.
fn lookalikes(origin: &str) -> impl Iterator<Item = String> {
    let longer = format!("{origin}.evil.test");
    let parts = origin.split_once("://");
    let prefixed = parts.map(|(scheme, host)| format!("{scheme}://evil{host}"));
    let undotted = parts.map(|(scheme, host)| format!("{scheme}://{}", host.replacen('.', "x", 1)));
    [Some(longer), prefixed, undotted]
        .into_iter()
        .flatten()
        .filter(move |it| it != origin)
        .collect::<Vec<_>>()
        .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn allowed() -> Vec<String> {
        vec!["https://app.example.com".to_owned()]
    }

    #[rstest]
    #[case(".*")]
    #[case("https?://.*")]
    #[case(r"https://.+\.test$")]
    #[case(r"^https://app.example.com$")]
    #[case(r"^https://app\.example\.com")]
    #[case(r"example\.com$")]
    #[case(r#"["^https://app\\.example\\.com$", ".*"]"#)]
    #[case(r"[r'^https://app\.example\.com$', r'.*']")]
    #[case(r"^https://app\.example\.com$,.*")]
    #[case(r"^https://(?!evil).*$")]
    fn open_patterns_let_strangers_in(#[case] text: &str) {
        assert!(lets_strangers_in(text, Some(&allowed())), "{text}");
    }

    #[rstest]
    #[case(r"^https://app\.example\.com$")]
    #[case(r"^https://[a-z]{1,3}\.example\.com$")]
    #[case(r#"["^https://app\\.example\\.com$"]"#)]
    fn anchored_and_escaped_patterns_do_not(#[case] text: &str) {
        assert!(!lets_strangers_in(text, Some(&allowed())), "{text}");
    }

    #[test]
    fn a_pattern_for_one_origin_is_that_origin() {
        assert_eq!(
            only_origin(r"^https://app\.example\.com$").as_deref(),
            Some("https://app.example.com")
        );
        assert_eq!(only_origin(r"^https://app.example\.com$"), None);
        assert_eq!(only_origin(r"^https://\w$"), None);
    }
}
