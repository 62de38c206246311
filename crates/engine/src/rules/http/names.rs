//! Which variables and flags hold CORS origins, and in which form.

/// What a setting's value says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// Words beside `CORS` and `ORIGIN` in names of what is no list of allowed origins.
const OTHER_WORDS: &[&str] = &[
    "DISALLOW",
    "DENIED",
    "DENY",
    "BLOCK",
    "ENABLE",
    "MAX_AGE",
    "CREDENTIALS",
    "FILE",
    "PATH",
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

/// Whether a flag is rather a switch than one that takes origins.
pub(super) fn is_switch(flag: &str) -> bool {
    flag.trim_start_matches('-').eq_ignore_ascii_case("cors")
}

/// Every usual name has this word in it: most variables are told apart here, before any comparison.
fn mentions_origin(name: &str) -> bool {
    name.as_bytes()
        .windows(6)
        .any(|it| matches!(it.first(), Some(b'O' | b'o')) && it.eq_ignore_ascii_case(b"ORIGIN"))
}

fn usual(name: &str) -> Option<Form> {
    let name = unified(name);
    // An index of a list: `Cors__AllowedOrigins__0`.
    let name = name.trim_end_matches(|it: char| it.is_ascii_digit() || it == '_');
    let is_named = |usual: &str| {
        let prefix = name.strip_suffix(usual);
        prefix.is_some_and(|it| it.is_empty() || it.ends_with('_'))
    };
    let known = NAMES.iter().find(|(usual, _)| is_named(usual));
    known.map(|(_, form)| *form).or_else(|| of_cors(name))
}

/// The form of any name in which `CORS` comes before `ORIGIN`.
fn of_cors(name: &str) -> Option<Form> {
    let (_, after) = name.split_once("CORS")?;
    let has = |word: &str| after.contains(word);
    if !has("ORIGIN") || OTHER_WORDS.iter().any(|it| has(it)) {
        return None;
    }
    Some(if has("REGEX") || has("PATTERN") {
        Form::Patterns
    } else if has("ALLOW_ALL") || has("ALL_ORIGIN") || has("ANY_ORIGIN") {
        Form::AllowAll
    } else {
        Form::Origins
    })
}

/// One spelling of a name, in capitals with a single `_` between its words: `Cors__AllowedOrigins`,
/// `cors.allowed-origins` and `corsAllowedOrigins` are `CORS_ALLOWED_ORIGINS`.
fn unified(name: &str) -> String {
    let mut unified = String::with_capacity(name.len() + 4);
    let mut before = '_';
    for it in name.chars() {
        let is_separator = !it.is_ascii_alphanumeric();
        let begins = it.is_ascii_uppercase() && before.is_ascii_lowercase();
        if (is_separator || begins) && !unified.ends_with('_') {
            unified.push('_');
        }
        if !is_separator {
            unified.push(it.to_ascii_uppercase());
        }
        before = it;
    }
    unified
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
            "Cors__AllowedOrigins__0",
            "CORS_ORIGIN_LIST",
            "corsOriginList",
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
            "disallowedOrigins",
            "CORS_BLOCKED_ORIGINS",
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
            "allowedOrigins",
        ] {
            assert_eq!(of_flag(name, None), Some(Form::Origins), "{name}");
        }
        assert_eq!(of_flag("origin", None), None);
    }
}
