//! Which variables and flags hold CORS origins, and in which form.

/// What a setting's value says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A list of origins.
    Origins,
    /// One or more regular expressions for origins.
    Patterns,
    /// Regular expressions beyond those that are tried in one object.
    UntriedPatterns,
    /// A switch that allows every origin.
    AllowAll,
    /// The list of an Ingress, in which a wildcard stands for one level of subdomains.
    IngressOrigins,
}

/// Usual names, each also with a prefix before `_`, such as `MAGSAG_CORS_ORIGINS`. `ALLOWED_HOSTS` is not among them:
/// it says which host headers an application trusts.
const NAMES: &[(&str, Form)] = &[
    ("CORS_ORIGINS", Form::Origins),
    ("CORS_ORIGIN", Form::Origins),
    ("ALLOWED_ORIGINS", Form::Origins),
    ("CORS_ALLOWED_ORIGIN", Form::Origins),
    ("ALLOW_ORIGINS", Form::Origins),
    ("ALLOW_ORIGIN", Form::Origins),
    ("CORS_ORIGIN_WHITELIST", Form::Origins),
    ("CORS_ORIGINS_WHITELIST", Form::Origins),
    ("CORS_ORIGIN_REGEX", Form::Patterns),
    ("CORS_ORIGINS_REGEX", Form::Patterns),
    ("ALLOW_ORIGIN_REGEX", Form::Patterns),
    ("ALLOWED_ORIGIN_REGEX", Form::Patterns),
    ("ALLOWED_ORIGIN_REGEXES", Form::Patterns),
    ("CORS_ORIGIN_REGEX_WHITELIST", Form::Patterns),
    ("CORS_ALLOW_ALL_ORIGINS", Form::AllowAll),
    ("CORS_ORIGIN_ALLOW_ALL", Form::AllowAll),
];

/// Names that only flags have: `--cors '*'`, `-Dcors=*`.
const FLAGS: &[&str] = &["CORS", "CORS_DOMAIN", "CORS_DOMAINS"];

/// The form of variable `name`, if it holds origins; `declared` is the policy's `http.cors.env`.
pub(super) fn of_variable(name: &str, declared: Option<&str>) -> Option<Form> {
    if declared == Some(name) {
        return Some(Form::Origins);
    }
    mentions_origin(name).then(|| usual(name)).flatten()
}

/// The form of a flag, given without its dashes, or of an assignment in a shell's text.
pub(super) fn of_flag(name: &str, declared: Option<&str>) -> Option<Form> {
    // Java's properties: -Dcors.allowed-origins=…
    let property = name.strip_prefix('D').unwrap_or(name);
    let is_flag = |it: &&&str| same(property, it);
    of_variable(name, declared)
        .or_else(|| of_variable(property, None))
        .or_else(|| FLAGS.iter().find(is_flag).map(|_| Form::Origins))
}

/// Every usual name has this word in it: most variables are told apart here, before any comparison.
fn mentions_origin(name: &str) -> bool {
    name.as_bytes()
        .windows(6)
        .any(|it| matches!(it.first(), Some(b'O' | b'o')) && it.eq_ignore_ascii_case(b"ORIGIN"))
}

fn usual(name: &str) -> Option<Form> {
    let is_named = |usual: &str| {
        let start = name.len().checked_sub(usual.len());
        let parts = start.and_then(|at| name.split_at_checked(at));
        parts.is_some_and(|(prefix, rest)| {
            same(rest, usual) && (prefix.is_empty() || prefix.ends_with(['_', '-', '.']))
        })
    };
    NAMES
        .iter()
        .find(|(usual, _)| is_named(usual))
        .map(|(_, form)| *form)
}

/// Equal but for case and the separator: `cors.allowed-origins` is `CORS_ALLOWED_ORIGINS`.
fn same(name: &str, usual: &str) -> bool {
    let unified = |it: u8| match it {
        b'-' | b'.' => b'_',
        it => it.to_ascii_uppercase(),
    };
    name.len() == usual.len() && name.bytes().map(unified).eq(usual.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_names_are_known_with_a_prefix() {
        for name in [
            "CORS_ORIGINS",
            "MAGSAG_CORS_ORIGINS",
            "BACKEND_CORS_ORIGINS",
            "cors_allowed_origins",
            "ACCESS_CONTROL_ALLOW_ORIGIN",
        ] {
            assert_eq!(of_variable(name, None), Some(Form::Origins), "{name}");
        }
        assert_eq!(
            of_variable("DJANGO_CORS_ALLOW_ALL_ORIGINS", None),
            Some(Form::AllowAll)
        );
        assert_eq!(
            of_variable("CORS_ALLOWED_ORIGIN_REGEXES", None),
            Some(Form::Patterns)
        );
        assert_eq!(
            of_variable("WEB_CLIENTS", Some("WEB_CLIENTS")),
            Some(Form::Origins)
        );
    }

    #[test]
    fn other_names_are_not() {
        for name in [
            "ALLOWED_HOSTS",
            "DEBUG",
            "ORIGIN",
            "DISALLOWED_ORIGINS",
            "CORS",
            "CORS_ALLOW_METHODS",
        ] {
            assert_eq!(of_variable(name, None), None, "{name}");
        }
    }

    #[test]
    fn flags_have_more_names() {
        for name in [
            "cors-origins",
            "allow-origin",
            "cors",
            "Dcors",
            "Dcors.allowed-origins",
        ] {
            assert_eq!(of_flag(name, None), Some(Form::Origins), "{name}");
        }
        assert_eq!(of_flag("origin", None), None);
    }
}
