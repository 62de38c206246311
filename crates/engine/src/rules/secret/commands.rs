//! Credentials on command lines: `--api-key=…`, `--requirepass …`, `curl -u user:…`, also inside the text of a shell.

use std::collections::BTreeSet;

use super::credentials::{self, anywhere};
use super::names::{self, Strength};
use crate::object::Container;
use crate::words::command_line;

/// One element of a command line that holds a credential.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Leak<'c> {
    /// `command` or `args`.
    pub field: &'static str,
    /// Index in that list.
    pub index: usize,
    /// What it holds.
    pub what: &'static str,
    /// The whole element.
    pub element: &'c str,
}

/// Flags that take `user:password`.
const BASIC: &[&str] = &["-u", "--user", "--proxy-user"];

/// The elements of `command` and `args` that hold a credential, each once.
pub(super) fn leaks<'c>(container: &'c Container<'_>) -> Vec<Leak<'c>> {
    let mut leaks: Vec<Leak<'c>> = Vec::new();
    for (field, list) in [("command", &container.command), ("args", &container.args)] {
        for (index, element) in list.iter().enumerate() {
            let element = element.as_str();
            leaks.extend(anywhere(element).map(|what| Leak {
                field,
                index,
                what,
                element,
            }));
        }
    }
    let mut known: BTreeSet<(&str, usize)> = leaks.iter().map(|it| (it.field, it.index)).collect();
    let mut flag = None;
    for word in command_line(container) {
        if let Some(flag) = flag.take()
            && let Some(what) = value_of(flag, &word.text)
        {
            let list = if word.field == "args" {
                &container.args
            } else {
                &container.command
            };
            if let Some(element) = list.get(word.index)
                && known.insert((word.field, word.index))
            {
                let (field, index) = (word.field, word.index);
                leaks.push(Leak {
                    field,
                    index,
                    what,
                    element,
                });
            }
            continue;
        }
        flag = awaits(&word.text);
    }
    leaks
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
    use rstest::rstest;
    use serde_json::json;

    fn indices(args: &[&str]) -> Vec<usize> {
        let json = json!({"args": args}).to_string();
        let container: Container<'_> = serde_json::from_str(&json).unwrap();
        leaks(&container).iter().map(|it| it.index).collect()
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
    #[case(&["--requirepass", "$(REDIS_PASSWORD)"], &[])]
    #[case(&["-c", "redis-cli -a \"$REDIS_PASSWORD\" --password ${PW}"], &[])]
    #[case(&["--password-file", "/run/pw", "--password", "--verbose"], &[])]
    #[case(&["-u", "1000:1000"], &[])]
    #[case(&["-c", "app --password $pw"], &[])]
    #[case(&["--token-ttl", "3600", "--max-tokens", "100"], &[])]
    fn flags(#[case] args: &[&str], #[case] expected: &[usize]) {
        assert_eq!(indices(args), expected, "{args:?}");
    }
}
