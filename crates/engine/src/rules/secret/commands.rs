//! Credentials on command lines: `--api-key=…`, `--requirepass …`, `curl -u user:…`, also inside the text of a shell.

use std::borrow::Cow;

use super::credentials::{self, anywhere};
use super::literal::TOO_LONG;
use super::names::{self, Strength};
use crate::environment::{Environment, RestsOn, Value};
use crate::object::Container;
use crate::verdict::Observed;
use crate::words::words;

/// One element of a command line that holds a credential.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Leak<'c> {
    /// `command` or `args`.
    pub field: &'static str,
    /// Index in that list.
    pub index: usize,
    /// What it holds. Told by the whole element, expanded: the literal may stand in a variable that it refers to.
    pub observed: Observed,
    /// What decides what it expands to, beside the object.
    pub rests_on: RestsOn<'c>,
}

/// Flags that take `user:password`.
const BASIC: &[&str] = &["-u", "--user", "--proxy-user"];

/// The elements of `command` and `args` that hold a credential, each once; judged as the process gets them.
pub(super) fn leaks<'c>(
    container: &'c Container<'_>,
    environment: &Environment<'c, '_, '_>,
) -> Vec<Leak<'c>> {
    let mut leaks = Vec::new();
    // The value of a flag may be the first word of the next element.
    let mut flag = None;
    for (field, list) in [("command", &container.command), ("args", &container.args)] {
        for (index, element) in list.iter().enumerate() {
            let element = element.as_str();
            let (value, rests_on) = environment.argument(Cow::Borrowed(element));
            if let Some(what) = leak(&value, &mut flag) {
                // What is too long to be expanded is told as it is written.
                let observed = Observed::withheld(what, value.known_text().unwrap_or(element));
                leaks.push(Leak {
                    field,
                    index,
                    observed,
                    rests_on,
                });
            }
        }
    }
    leaks
}

/// What credential an element holds. `flag` is what the words before it await, and then what its own do.
fn leak(value: &Value<'_>, flag: &mut Option<Awaited>) -> Option<&'static str> {
    let Some(text) = value.known_text() else {
        *flag = None;
        return Some(TOO_LONG);
    };
    let mut found = anywhere(text);
    for word in words(text) {
        if let Some(awaited) = flag.take()
            && let Some(what) = value_of(awaited, &word)
        {
            found = found.or(Some(what));
            continue;
        }
        *flag = awaits(&word);
    }
    found
}

/// What the word after a flag is to be.
#[derive(Clone, Copy)]
enum Awaited {
    Credential(Strength),
    UserAndPassword,
}

fn awaits(word: &str) -> Option<Awaited> {
    if !word.starts_with('-') || word.contains('=') {
        return None;
    }
    if BASIC.contains(&word) {
        return Some(Awaited::UserAndPassword);
    }
    let strength = names::strength(word).filter(|it| *it >= Strength::Secret);
    strength.map(Awaited::Credential)
}

fn value_of(awaited: Awaited, word: &str) -> Option<&'static str> {
    if word.starts_with('-') {
        return None;
    }
    match awaited {
        Awaited::Credential(strength) => credentials::in_shell(strength, word),
        Awaited::UserAndPassword => {
            let (_, password) = word.split_once(':')?;
            // `-u 1000:1000` is a user and a group.
            credentials::in_shell(Strength::Secret, password)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Budget;
    use crate::facts::Facts;
    use rstest::rstest;
    use serde_json::json;

    /// In a container with the variables `REDIS_PASSWORD`, out of a Secret, `POD`, known only where it runs, and `A`.
    fn indices(args: &[&str]) -> Vec<usize> {
        let env = json!([
            {"name": "REDIS_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "redis", "key": "password"}}},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "A", "value": "hunter2"},
        ]);
        let json = json!({"args": args, "env": env}).to_string();
        let container: Container<'_> = serde_json::from_str(&json).unwrap();
        let (facts, budget) = (Facts::default(), Budget::default());
        let environment = Environment::new(&container, None, &facts, &budget);
        leaks(&container, &environment)
            .iter()
            .map(|it| it.index)
            .collect()
    }

    /// Were each compared with all before, this would take minutes.
    #[test]
    fn many_leaks_are_told_apart_by_a_look_up() {
        let args: Vec<&str> = std::iter::repeat_n(["--password", "hunter2"], 150_000)
            .flatten()
            .collect();
        assert_eq!(indices(&args).len(), 150_000);
    }

    #[rstest]
    #[case(&["--api-key=abcdef012345"], &[0])]
    #[case(&["--requirepass", "hunter2"], &[1])]
    #[case(&["-c", "exec redis-server --requirepass 'hunter2'"], &[1])]
    #[case(&["-c", "curl -u admin:hunter2 http://localhost"], &[1])]
    #[case(&["-c", "PGPASSWORD=hunter2 psql"], &[1])]
    #[case(&["http://admin:hunter2@localhost"], &[0])]
    #[case(&["--password=hunter2$(UNDEFINED)"], &[0])]
    #[case(&["--password=$(A)"], &[0])]
    #[case(&["--requirepass", "$(A)", "--verbose"], &[1])]
    #[case(&["--password=hunter2-$(POD)"], &[0])]
    #[case(&["--requirepass", "$(REDIS_PASSWORD)"], &[])]
    #[case(&["--requirepass", "$(REDIS_PASSWORD)", "hunter2"], &[])]
    #[case(&["--password=pre-$(REDIS_PASSWORD)", "redis://:$(REDIS_PASSWORD)@redis"], &[])]
    #[case(&["--password=$(UNDEFINED)", "--password=$$(UNDEFINED)"], &[])]
    #[case(&["--password=$(POD)"], &[])]
    #[case(&["-c", "redis-cli -a \"$REDIS_PASSWORD\" --password ${PW}"], &[])]
    #[case(&["--password-file", "/run/pw", "--password", "--verbose"], &[])]
    #[case(&["-u", "1000:1000"], &[])]
    #[case(&["-c", "app --password $pw"], &[])]
    #[case(&["--token-ttl", "3600", "--max-tokens", "100"], &[])]
    fn flags(#[case] args: &[&str], #[case] expected: &[usize]) {
        assert_eq!(indices(args), expected, "{args:?}");
    }
}
