//! `$(NAME)` in a text, replaced as the kubelet does.
//!
//! `$$` is an escape, and a name that nothing defines stays as it is written.
//! Source: `k8s.io/kubernetes/third_party/forked/golang/expansion`.

use std::borrow::Cow;

use super::value::{Budget, GAP, HIDDEN, RestsOn, Value};

/// Linux refuses to start a process with a longer variable (`MAX_ARG_STRLEN`), in bytes.
const MAX_VALUE: usize = 128 * 1024;

/// Replaces each `$(NAME)` by what `resolve` says that it holds; what is no text leaves a gap, and what nothing defines
/// stays. `resolve` adds to [`RestsOn`] what decides that. Takes what it copies from `budget`, so that many references to
/// one long value stay cheap.
pub(super) fn expand<'e, 'k>(
    text: Cow<'e, str>,
    budget: &Budget,
    resolve: impl Fn(&str, &mut RestsOn<'e>) -> Option<Cow<'k, Value<'e>>>,
) -> (Value<'e>, RestsOn<'e>)
where
    'e: 'k,
{
    let mut copy = Copy {
        text: String::new(),
        gap: None,
        rests_on: RestsOn::default(),
        budget,
    };
    if !text.contains('$') {
        return (Value::Text(text), copy.rests_on);
    }
    let done = (text.len() <= MAX_VALUE)
        .then(|| copy.expand(&text, resolve))
        .flatten();
    let value = match (done, copy.gap) {
        (None, _) => Value::TooLong,
        (Some(()), None) => Value::Text(Cow::Owned(copy.text)),
        (Some(()), Some(gap)) if copy.text.chars().all(|it| matches!(it, GAP | HIDDEN)) => gap,
        (Some(()), Some(gap)) => Value::Partial {
            text: copy.text,
            gap: Box::new(gap),
        },
    };
    (value, copy.rests_on)
}

/// A value while it is expanded.
struct Copy<'b, 'e> {
    text: String,
    gap: Option<Value<'e>>,
    rests_on: RestsOn<'e>,
    budget: &'b Budget,
}

impl<'e> Copy<'_, 'e> {
    /// Appends `text`, expanded; `None` where that makes the whole too long.
    fn expand<'k>(
        &mut self,
        text: &str,
        resolve: impl Fn(&str, &mut RestsOn<'e>) -> Option<Cow<'k, Value<'e>>>,
    ) -> Option<()>
    where
        'e: 'k,
    {
        let mut rest = text;
        // Where no parenthesis closes any more, looking for one at every `$(` would be quadratic.
        let last_close = text.rfind(')').map_or(usize::MAX, |at| text.len() - at);
        while let Some((before, after)) = rest.split_once('$') {
            self.push(before)?;
            rest = after;
            if let Some(after) = rest.strip_prefix('$') {
                self.push("$")?;
                rest = after;
                continue;
            }
            let inner = rest.strip_prefix('(').filter(|it| it.len() >= last_close);
            let Some((name, after)) = inner.and_then(|it| it.split_once(')')) else {
                self.push("$")?;
                continue;
            };
            rest = after;
            match resolve(name, &mut self.rests_on) {
                Some(value) => self.push_value(&value)?,
                None => {
                    self.push("$(")?;
                    self.push(name)?;
                    self.push(")")?;
                }
            }
        }
        self.push(rest)
    }

    fn push_value(&mut self, value: &Value<'e>) -> Option<()> {
        self.push(value.known_text()?)?;
        let gap = match value {
            Value::Text(_) => return Some(()),
            Value::Partial { gap, .. } => gap,
            gap => gap,
        };
        if self.gap.as_ref().is_none_or(|it| rank(gap) > rank(it)) {
            self.gap = Some(gap.clone());
        }
        Some(())
    }

    /// Appends `part`; `None` where that makes the text too long.
    fn push(&mut self, part: &str) -> Option<()> {
        if self.text.len() + part.len() > MAX_VALUE {
            return None;
        }
        self.budget.read(part.len())?;
        self.text.push_str(part);
        Some(())
    }
}

/// What is unknown may turn out to be anything, so that no other part stands before it.
fn rank(gap: &Value<'_>) -> u8 {
    match gap {
        Value::Unknown { .. } => 2,
        Value::Secret(_) => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Environment;
    use super::super::tests::{facts, seen};
    use super::super::value::MAX_WORK;
    use super::*;
    use crate::facts::Fact;
    use crate::object::Container;
    use serde_json::json;

    #[test]
    fn only_what_is_defined_earlier_expands() {
        let container = json!({
            "env": [
                {"name": "A", "value": "$(B)-$(HOST)-$$(HOST)-${HOST}-$HOST-$(HOST"},
                {"name": "B", "value": "b"},
                {"name": "C", "value": "$(A)$(B)"},
            ],
            "envFrom": [{"configMapRef": {"name": "settings"}}],
        });
        let a = "$(B)-a.example.com-$(HOST)-${HOST}-$HOST-$(HOST";
        assert_eq!(
            seen(container),
            [
                &format!("A={a}"),
                "B=b",
                &format!("C={a}b"),
                "HOST=a.example.com",
                "PORT=1"
            ]
        );
    }

    #[test]
    fn what_holds_a_part_of_a_secret_is_no_text() {
        let container = json!({
            "env": [{"name": "URL", "value": "redis://:$(PASSWORD)@redis"}],
            "envFrom": [{"secretRef": {"name": "credentials"}}],
        });
        assert_eq!(
            seen(container),
            [
                r#"PASSWORD: Secret("credentials")"#,
                r#"URL: Partial { text: "redis://:\0@redis", gap: Secret("credentials") }"#
            ]
        );
    }

    #[test]
    fn doubling_references_stay_small() {
        let mut env = vec![json!({"name": "A0", "value": "xxxxxxxxxxxxxxxx"})];
        for it in 1..64 {
            let previous = it - 1;
            env.push(json!({"name": format!("A{it}"), "value": format!("$(A{previous})$(A{previous})")}));
        }
        let seen = seen(json!({"env": env}));
        assert!(seen.iter().map(String::len).sum::<usize>() < MAX_WORK);
    }

    #[test]
    fn what_is_known_beside_a_gap_is_kept() {
        let container = json!({
            "env": [
                {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "A", "value": "$(POD),*"},
                {"name": "B", "value": "$(NO_SERVICE_HOST) and $(A)"},
                {"name": "C", "value": "$(POD)"},
            ],
        });
        assert_eq!(
            seen(container),
            [
                r#"A: Partial { text: "\u{1},*", gap: Hidden }"#,
                r#"B: Partial { text: "\u{1} and \u{1},*", gap: Hidden }"#,
                "C: Hidden",
                "POD: Hidden",
            ]
        );
    }

    /// Were the rest searched at every `$(`, this would take minutes.
    #[test]
    fn references_that_nothing_closes_cost_no_more_than_other_text() {
        let open = "$(".repeat(512 * 1024);
        let closed_first = format!("$(A){}", "$(".repeat(60 * 1024));
        let env = json!([{"name": "A", "value": ""}, {"name": "B", "value": open}, {"name": "C", "value": closed_first}]);
        let seen = seen(json!({"env": env}));
        assert_eq!(seen.get(1).map(String::as_str), Some("B: TooLong"));
        assert_eq!(seen.get(2).map(String::len), Some("C=".len() + 120 * 1024));
    }

    /// Each would copy 128 KiB: 80,000 of them 10 GB.
    #[test]
    fn many_references_to_one_long_value_are_bounded() {
        let mut env = vec![json!({"name": "A", "value": "x".repeat(100 * 1024)})];
        env.extend((0..80_000).map(|it| json!({"name": format!("B{it}"), "value": "$(A)$(A)"})));
        let long = seen(json!({"env": env}));
        assert!(long.iter().filter(|it| it.ends_with(": TooLong")).count() == 80_000);
        let mut arguments = Vec::new();
        let json = json!({"env": [{"name": "A", "value": "x".repeat(100 * 1024)}]}).to_string();
        let container: Container<'_> = serde_json::from_str(&json).unwrap();
        let (facts, budget) = (facts(), Budget::default());
        let environment = Environment::new(&container, None, &facts, &budget);
        for _ in 0..1000 {
            arguments.push(environment.argument(Cow::Borrowed("$(A)")));
        }
        let copied = arguments
            .iter()
            .filter(|it| matches!(it, (Value::Text(_), _)))
            .count();
        assert!(copied <= MAX_WORK / (100 * 1024), "{copied}");
    }

    #[test]
    fn what_is_overridden_takes_nothing_from_what_counts() {
        let mut env = vec![json!({"name": "A", "value": "x".repeat(100 * 1024)})];
        env.extend((0..40).map(|_| json!({"name": "B", "value": "$(A)"})));
        env.push(json!({"name": "ANY", "value": "*"}));
        env.push(json!({"name": "C", "value": "$(ANY)"}));
        assert!(seen(json!({"env": env})).contains(&"C=*".to_owned()));
    }

    #[test]
    fn a_part_that_is_unknown_is_not_hidden_behind_others() {
        let container = json!({
            "env": [
                {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "A", "value": "$(POD),$(B_PASSWORD)"},
                {"name": "B", "value": "$(A),$(C_ORIGINS)"},
            ],
            "envFrom": [
                {"prefix": "B_", "secretRef": {"name": "credentials"}},
                {"prefix": "C_", "configMapRef": {"name": "not-looked-up"}},
            ],
        });
        let seen = seen(container);
        assert_eq!(
            seen.first().map(String::as_str),
            Some(r#"A: Partial { text: "\u{1},\0", gap: Secret("credentials") }"#)
        );
        assert!(
            seen.iter()
                .any(|it| it.starts_with(r#"B: Partial { text: "\u{1},\0,\0", gap: Unknown"#)),
            "{seen:?}"
        );
    }

    /// Each would rest on all before it: 3,200,000,000 in all.
    #[test]
    fn what_rests_on_many_objects_is_bounded() {
        let reference =
            |it: usize| json!({"configMapKeyRef": {"name": format!("m{it}"), "key": "A", "optional": true}});
        let mut facts = facts();
        let mut env = vec![json!({"name": "B0", "value": "b"})];
        for it in 1..40_000 {
            facts.config_maps.insert(format!("m{it}"), Fact::Absent);
            env.push(json!({"name": format!("A{it}"), "valueFrom": reference(it)}));
            env.push(json!({"name": format!("B{it}"), "value": format!("$(B{})$(A{it})", it - 1)}));
        }
        let json = json!({"env": env}).to_string();
        let container: Container<'_> = serde_json::from_str(&json).unwrap();
        let budget = Budget::default();
        let environment = Environment::new(&container, None, &facts, &budget);
        let variables = environment.variables(|it| it.starts_with('B'));
        let rests_on: usize = variables.iter().map(|it| it.rests_on.iter().count()).sum();
        assert!(rests_on > 1000 && rests_on <= MAX_WORK / 16, "{rests_on}");
    }
}
