//! Which names of variables, flags and parameters say that a credential follows.

/// How surely a name says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::rules) enum Strength {
    /// Some key: `STRIPE_KEY`, but also `SORT_KEY`; only a value that looks random is one.
    Key,
    /// A secret or token: `JWT_SECRET`, `AUTH_TOKEN`, `API_KEY`.
    Secret,
    /// A password: even a number is one.
    Password,
}

/// Ends of the last word of a name: also `PGPASSWORD` and `requirepass`.
const PASSWORDS: &[&str] = &[
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "PWD",
    "REQUIREPASS",
    "MASTERAUTH",
];

/// Ends of the last word of a name: also `GITHUBTOKEN`.
const SECRETS: &[&str] = &[
    "SECRET",
    "TOKEN",
    "APIKEY",
    "SECRETKEY",
    "CREDENTIAL",
    "CREDENTIALS",
    "SALT",
];

/// Words before `KEY` that make it a credential by name.
const SECRET_KEYS: &[&str] = &[
    "API",
    "SECRET",
    "ACCESS",
    "PRIVATE",
    "ENCRYPTION",
    "SIGNING",
    "MASTER",
    "AUTH",
    "JWT",
    "SESSION",
    "ACCOUNT",
];

/// Words before `KEY` that make it none.
const OTHER_KEYS: &[&str] = &[
    "PUBLIC",
    "PUBLISHABLE",
    "SITE",
    "PRIMARY",
    "FOREIGN",
    "SORT",
    "PARTITION",
    "CACHE",
    "ROUTING",
    "GROUP",
    "INDEX",
];

/// Words before `SECRET` in the name of a Secret object, which is no secret.
const OBJECTS: &[&str] = &[
    "TLS",
    "SSL",
    "PULL",
    "CA",
    "CERT",
    "CERTIFICATE",
    "EXISTING",
    "NO",
];

/// Words before `TOKEN` in the vocabulary of language models.
const MODEL_TOKENS: &[&str] = &[
    "PAD", "EOS", "BOS", "STOP", "UNK", "MASK", "SEP", "CLS", "IMAGE", "MAX", "MIN", "PER",
];

/// Closing words that leave the meaning of the word before.
const QUALIFIERS: &[&str] = &[
    "BASE",
    "VALUE",
    "PROD",
    "PRODUCTION",
    "DEV",
    "STAGING",
    "TEST",
    "CURRENT",
    "PREVIOUS",
    "OLD",
    "NEW",
    "PRIMARY",
    "SECONDARY",
];

/// What `name` says, judged by its last word: `API_KEY` is a credential, `API_KEY_HEADER` is none.
pub(in crate::rules) fn strength(name: &str) -> Option<Strength> {
    let mut words = words_from_end(name);
    let mut last = words.next()?;
    while is_one_of(last, QUALIFIERS) || last.bytes().all(|it| it.is_ascii_digit()) {
        last = words.next()?;
    }
    let before = words.next();
    let is_after = |list: &[&str]| before.is_some_and(|it| is_one_of(it, list));
    if PASSWORDS.iter().any(|it| ends_with(last, it)) {
        // PWD and OLDPWD are the shell's working directories.
        let is_directory = last.eq_ignore_ascii_case("OLDPWD") || before.is_none() && last.len() == 3;
        return (!is_directory).then_some(Strength::Password);
    }
    if last.eq_ignore_ascii_case("PASS") {
        return before.is_some().then_some(Strength::Password);
    }
    if SECRETS.iter().any(|it| ends_with(last, it)) {
        let is_other = is_after(OBJECTS) && ends_with(last, "SECRET") || is_after(MODEL_TOKENS);
        return (!is_other).then_some(Strength::Secret);
    }
    if last.eq_ignore_ascii_case("KEYS") {
        return is_after(SECRET_KEYS).then_some(Strength::Secret);
    }
    if last.eq_ignore_ascii_case("AUTH") {
        return is_after(&["REDISCLI"]).then_some(Strength::Password);
    }
    if !last.eq_ignore_ascii_case("KEY") || is_after(OTHER_KEYS) {
        return None;
    }
    Some(if is_after(SECRET_KEYS) {
        Strength::Secret
    } else {
        Strength::Key
    })
}

/// The words of a name from its end: parted at what is no letter or digit, and before a capital after a small letter.
fn words_from_end(name: &str) -> impl Iterator<Item = &str> {
    let mut rest = name;
    std::iter::from_fn(move || {
        rest = rest.trim_end_matches(|it: char| !it.is_ascii_alphanumeric());
        let bytes = rest.as_bytes();
        let parts = |pair: &[u8]| match pair {
            [before, after] => {
                !before.is_ascii_alphanumeric() || before.is_ascii_lowercase() && after.is_ascii_uppercase()
            }
            _ => false,
        };
        let start = bytes.windows(2).rposition(parts).map_or(0, |at| at + 1);
        let (before, word) = rest.split_at_checked(start)?;
        rest = before;
        (!word.is_empty()).then_some(word)
    })
}

fn is_one_of(word: &str, list: &[&str]) -> bool {
    list.iter().any(|it| word.eq_ignore_ascii_case(it))
}

fn ends_with(word: &str, end: &str) -> bool {
    let start = word.len().checked_sub(end.len());
    let tail = start.and_then(|at| word.as_bytes().get(at..));
    tail.is_some_and(|it| it.eq_ignore_ascii_case(end.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("POSTGRES_PASSWORD", Strength::Password)]
    #[case("PGPASSWORD", Strength::Password)]
    #[case("MYSQL_PWD", Strength::Password)]
    #[case("RABBITMQ_DEFAULT_PASS", Strength::Password)]
    #[case("--requirepass", Strength::Password)]
    #[case("REDISCLI_AUTH", Strength::Password)]
    #[case("spring.datasource.password", Strength::Password)]
    #[case("SECRET_KEY_BASE", Strength::Secret)]
    #[case("API_KEY_2", Strength::Secret)]
    #[case("apiKey", Strength::Secret)]
    #[case("JWT_SECRET", Strength::Secret)]
    #[case("API_KEYS", Strength::Secret)]
    #[case("HASHIDS_SALT", Strength::Secret)]
    #[case("STRIPE_KEY", Strength::Key)]
    fn names_of_credentials(#[case] name: &str, #[case] expected: Strength) {
        assert_eq!(strength(name), Some(expected), "{name}");
    }

    #[rstest]
    fn names_that_only_sound_secret(
        #[values(
            "MAX_TOKENS",
            "TOKENS_LENGTH",
            "API_APIKEY_ENABLED",
            "API_APIKEY_USERS",
            "DB_SECRET_NAME",
            "TLS_KEY_PATH",
            "TOKEN_TTL",
            "DB_USERNAME",
            "PUBLIC_KEY",
            "API_KEY_HEADER",
            "TOKENIZER",
            "KEYCLOAK_REALM",
            "PWD",
            "OLDPWD",
            "POSTGRES_PASSWORD_FILE",
            "ACCESS_TOKEN_EXPIRE_MINUTES",
            "INGRESS_TLS_SECRET",
            "EOS_TOKEN",
            "PASS",
            "MONKEY",
            "SECRET_ID_PATH",
            "KEY_VAULT_URL",
            "",
            "___"
        )]
        name: &str,
    ) {
        assert_eq!(strength(name), None, "{name}");
    }
}
