//! Origins as people write them: JSON and Python lists, YAML lists, lists with commas, semicolons or spaces, quoted.

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::Ipv6Addr;

use crate::environment::Value;
use crate::verdict::Observed;

/// Longest value that is shown, in characters.
const MAX_SHOWN: usize = 80;

/// More origins than this are counted and no longer listed.
const MAX_LISTED: usize = 3;

/// What is seen where a value is too long to be judged.
pub(super) const TOO_LONG: &str = "more than is expanded";

/// How to mend that.
pub(super) const FIX_TOO_LONG: &str = "write the origins themselves, without references to long texts, and take fewer and smaller objects by envFrom";

/// The entries of a list in whatever encoding.
pub(super) fn entries(text: &str) -> Vec<Cow<'_, str>> {
    let text = unquoted(text);
    if text.starts_with('[')
        && let Ok(list) = serde_json::from_str::<Vec<String>>(text)
    {
        // Only JSON's own reading sees through `\u002a`.
        return list.iter().flat_map(|it| split(it).map(owned)).collect();
    }
    split(text).collect()
}

/// Whether each of `some` is an entry of `text`.
pub(super) fn stand_in(some: &[String], text: &str) -> bool {
    let entries = entries(text);
    let entries: HashSet<&str> = entries.iter().map(|it| &**it).collect();
    some.iter().all(|it| entries.contains(it.as_str()))
}

fn owned(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

fn split(text: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let mut slashes = 0;
    let mut in_address = false;
    // The brackets of an IPv6 address belong to the origin, those of a list do not.
    let separates = move |it: char| {
        let opens = it == '[' && slashes >= 2;
        let closes = it == ']' && in_address;
        let separates = it.is_whitespace() || matches!(it, ',' | ';' | '[' | ']' | '"' | '\'' | '`');
        slashes = if it == '/' { slashes + 1 } else { 0 };
        in_address = opens || in_address && !separates;
        separates && !opens && !closes
    };
    // A lone dash begins an item of a YAML list.
    text.split(separates)
        .filter(|it| !it.is_empty() && *it != "-")
        .map(Cow::Borrowed)
}

/// Without the quotes and brackets that templates put around a value once or twice.
fn unquoted(text: &str) -> &str {
    let mut text = text.trim();
    for quote in ['\'', '"', '`', '\'', '"'] {
        let inner = text.strip_prefix(quote).and_then(|it| it.strip_suffix(quote));
        text = inner.map_or(text, str::trim);
    }
    text
}

/// Whether an entry of an application's list allows origins that it does not name. `null` is the origin of every
/// sandboxed frame.
pub(super) fn is_wildcard(entry: &str) -> bool {
    entry.contains('*') || entry == "null"
}

/// Whether what follows a switch such as `--cors` is its value.
pub(super) fn may_be_origins(value: &Value<'_>) -> bool {
    match value {
        Value::Text(text) => entries(text)
            .iter()
            .any(|it| matches!(&**it, "*" | "null") || it.contains("://")),
        _ => true,
    }
}

/// Whether an entry of an Ingress allows every origin; `https://*.example.com` is one level of subdomains there.
pub(super) fn is_everything(entry: &str) -> bool {
    matches!(entry, "*" | "http://*" | "https://*" | "null")
}

/// Whether the value of a switch means yes.
pub(super) fn is_true(text: &str) -> bool {
    let text = unquoted(text);
    ["1", "t", "true", "y", "yes", "on"]
        .iter()
        .any(|it| text.eq_ignore_ascii_case(it))
}

/// A full origin in one spelling: lower case, without the scheme's own port and without a closing slash. `None` for
/// anything that is no full origin, such as a bare host, a path or a template that was not rendered.
pub(super) fn normal(origin: &str) -> Option<String> {
    let origin = origin.to_ascii_lowercase();
    let (scheme, rest) = origin.split_once("://")?;
    let (host, port) = host_and_port(rest.strip_suffix('/').unwrap_or(rest))?;
    let is_scheme = scheme.starts_with(|it: char| it.is_ascii_lowercase())
        && scheme
            .bytes()
            .all(|it| it.is_ascii_alphanumeric() || matches!(it, b'+' | b'-' | b'.'));
    let is_port = port.is_none_or(|it| it.parse::<u16>().is_ok());
    if !(is_scheme && is_port) {
        return None;
    }
    Some(match (scheme, port) {
        ("http", Some("80")) | ("https", Some("443")) | (_, None) => format!("{scheme}://{host}"),
        (_, Some(port)) => format!("{scheme}://{host}:{port}"),
    })
}

/// The host of an authority without a user, in one spelling, and its port; `None` where it has no such host.
fn host_and_port(authority: &str) -> Option<(Cow<'_, str>, Option<&str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        let port = match rest {
            "" => None,
            rest => Some(rest.strip_prefix(':')?),
        };
        return Some((Cow::Owned(format!("[{address}]")), port));
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let is_host = host.starts_with(|it: char| it.is_ascii_alphanumeric())
        && host
            .bytes()
            .all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'.' | b'_'));
    is_host.then_some((Cow::Borrowed(host), port))
}

/// What is asked for: the policy's list, or explicit origins where it states none.
pub(super) fn required(allowed: Option<&[String]>) -> String {
    let Some(allowed) = allowed else {
        return "explicit origins".to_owned();
    };
    let listed: Vec<&str> = allowed.iter().take(MAX_LISTED).map(String::as_str).collect();
    match allowed.len().saturating_sub(MAX_LISTED) {
        0 if allowed.is_empty() => "no origin at all".to_owned(),
        0 => format!("origins out of {}", listed.join(", ")),
        more => format!("origins out of {} and {more} more", listed.join(", ")),
    }
}

/// A value as it is written, on one line and not too long; withheld where it could hold a user and a password.
pub(super) fn shown(label: Option<&str>, value: &str) -> Observed {
    if value.contains('@') {
        return Observed::withheld("origins with a user name", value);
    }
    let one_line: String = value
        .trim()
        .chars()
        .map(|it| if it.is_control() { ' ' } else { it })
        .collect();
    let mut text = label.unwrap_or_default().to_owned();
    if one_line.chars().count() > MAX_SHOWN {
        text.extend(one_line.chars().take(MAX_SHOWN - 1));
        text.push('…');
    } else {
        text.push_str(&one_line);
    }
    Observed::Shown(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(r#"["*"]"#)]
    #[case("['*']")]
    #[case(r#"'["*"]'"#)]
    #[case(r#"["https://a.example.com", "\u002a"]"#)]
    #[case("*")]
    #[case("'*'")]
    #[case("https://a.example.com,*")]
    #[case("https://a.example.com *")]
    #[case("https://a.example.com;https://*")]
    #[case("- https://a.example.com\n- '*'")]
    #[case("*.example.com")]
    #[case("https://*.example.com")]
    #[case("https?://.*")]
    #[case(r#"["null"]"#)]
    fn wildcards_are_seen_in_every_encoding(#[case] text: &str) {
        assert!(entries(text).iter().any(|it| is_wildcard(it)), "{text}");
    }

    #[rstest]
    #[case("https://a.example.com, https://b.example.com/")]
    #[case(r#"["https://a.example.com","https://b.example.com"]"#)]
    #[case("https://${DOMAIN}")]
    #[case("")]
    #[case("[]")]
    fn explicit_lists_have_none(#[case] text: &str) {
        assert!(!entries(text).iter().any(|it| is_wildcard(it)), "{text}");
    }

    #[rstest]
    #[case("https://[::1]:8080")]
    #[case("https://a.example.com,https://[::1]")]
    #[case(r#"["https://[::1]", "http://[2001:db8::1]:3000"]"#)]
    #[case("['https://[::1]','http://[2001:db8::1]:3000']")]
    #[case("[https://[::1], http://[2001:db8::1]:3000]")]
    #[case("- https://[::1]\n- http://[2001:db8::1]:3000")]
    fn brackets_of_an_address_are_none_of_a_list(#[case] text: &str) {
        for entry in entries(text) {
            assert!(normal(&entry).is_some(), "{entry} in {text}");
        }
    }

    #[rstest]
    #[case("[https://[*]]")]
    #[case("https://[,*")]
    #[case("https://[::1]]*")]
    fn an_open_bracket_hides_no_wildcard(#[case] text: &str) {
        assert!(entries(text).iter().any(|it| is_wildcard(it)), "{text}");
    }

    #[rstest]
    #[case("HTTPS://App.Example.com:443/", Some("https://app.example.com"))]
    #[case("http://localhost:3000", Some("http://localhost:3000"))]
    #[case("https://[::1]:8080", Some("https://[::1]:8080"))]
    #[case("https://[2001:DB8:0:0::1]:443/", Some("https://[2001:db8::1]"))]
    #[case("https://[::1", None)]
    #[case("https://::1", None)]
    #[case("https://[::1]8080", None)]
    #[case("https://[::1]:", None)]
    #[case("https://[::1]:80800", None)]
    #[case("https://[app.example.com]", None)]
    #[case("https://[fe80::1%eth0]", None)]
    #[case("https://user@[::1]", None)]
    #[case("app.example.com", None)]
    #[case("https://app.example.com/path", None)]
    #[case("https://user:word@app.example.com", None)]
    #[case("https://${DOMAIN}", None)]
    #[case("https://*.example.com", None)]
    #[case("https://", None)]
    fn origins_have_one_spelling(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(normal(text).as_deref(), expected);
    }
}
