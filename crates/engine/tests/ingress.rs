//! Which policies judge an Ingress, as the pods behind it are known, still to come or unknown, and what of its old
//! version counts as having been there before.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "these tests write their objects themselves")]
mod random;

use portcullis_api::Enforcement;
use portcullis_engine::{
    Decision, Fact, Facts, Governing, PodsBehind, Selection, Subject, Verdict, evaluate, select,
    select_before,
};
use rstest::rstest;
use serde_json::json;

/// What is known of the pods behind an Ingress.
#[derive(Clone, Copy, Debug)]
enum Pods {
    /// Pods with this label `app`, and no others.
    Of(&'static str),
    /// There are none yet.
    Awaited,
    /// There are some with this label, and of another Service none yet.
    AwaitedBeside(&'static str),
    /// They could not be looked up.
    Unknown,
}
use Pods::{Awaited, AwaitedBeside, Of, Unknown};

impl Pods {
    fn facts(self) -> Facts {
        let labels = |app: &str| vec![[("app".to_owned(), app.to_owned())].into()];
        let (labels, awaited) = match self {
            Self::Of(app) => (labels(app), None),
            Self::Awaited => (Vec::new(), Some("Service agents/api does not exist".into())),
            Self::AwaitedBeside(app) => (labels(app), Some("Service agents/api does not exist".into())),
            Self::Unknown => {
                return Facts {
                    pods_behind: Some(Fact::Unknown("the API server did not answer".into())),
                    ..Facts::default()
                };
            }
        };
        Facts {
            pods_behind: Some(Fact::Known(PodsBehind { labels, awaited })),
            ..Facts::default()
        }
    }
}

/// An Ingress that allows this origin.
fn ingress(origin: &str) -> String {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "api", "namespace": "agents", "annotations": {
            "nginx.ingress.kubernetes.io/enable-cors": "true",
            "nginx.ingress.kubernetes.io/cors-allow-origin": origin,
        }},
    })
    .to_string()
}

/// Creates an Ingress, or updates it from `old`, under one policy for `app: api`; with what is known of the pods behind
/// each.
fn judge(new: (&str, Pods), old: Option<(&str, Pods)>) -> (Vec<Selection>, Verdict) {
    let policy = json!({
        "workloads": {"scope": "Selected", "selector": {"matchLabels": {"app": "api"}}},
        "http": {"cors": {"allowedOrigins": ["https://a.example.com"]}},
    });
    let policy = random::policy("test", &policy);
    let (json, facts) = (ingress(new.0), new.1.facts());
    let subject = Subject::from_json(&json, "agents").expect("object is readable");
    let governing = select([&policy], &subject, None, &facts);
    let mut verdict = evaluate(&governing, &subject, &facts, Enforcement::Deny);
    if let Some((origin, pods)) = old {
        let (json, facts) = (ingress(origin), pods.facts());
        let old = Subject::from_json(&json, "agents").expect("object is readable");
        let before: Vec<Governing<'_>> = select_before([&policy], &old, &facts, &governing);
        verdict.ratchet(&evaluate(&before, &old, &facts, Enforcement::Deny));
    }
    (governing.into_iter().map(|it| it.selection).collect(), verdict)
}

#[rstest]
#[case::selected(Of("api"), "*", Decision::Deny)]
#[case::of_somebody_else(Of("other"), "*", Decision::Allow)]
#[case::still_to_come(Awaited, "*", Decision::Deny)]
#[case::one_of_two_still_to_come(AwaitedBeside("other"), "*", Decision::Deny)]
#[case::unknown_and_no_good(Unknown, "*", Decision::Error)]
#[case::still_to_come_and_good(Awaited, "https://a.example.com", Decision::Allow)]
#[case::unknown_and_good(Unknown, "https://a.example.com", Decision::Allow)]
fn unknown_pods_are_never_taken_for_somebody_elses(
    #[case] pods: Pods,
    #[case] origin: &str,
    #[case] decision: Decision,
) {
    let (selections, verdict) = judge((origin, pods), None);
    assert_eq!(verdict.decision(), decision, "{selections:?}: {verdict:#?}");
}

#[rstest]
#[case::nothing_changed(Of("api"), Of("api"), Decision::Warn)]
#[case::still_nothing_there(Awaited, Awaited, Decision::Warn)]
#[case::its_pods_went(Awaited, Of("api"), Decision::Warn)]
#[case::it_leads_to_us_now(Of("api"), Of("other"), Decision::Deny)]
#[case::it_perhaps_leads_to_us_now(Awaited, Of("other"), Decision::Deny)]
#[case::what_was_never_judged(Of("api"), Awaited, Decision::Deny)]
#[case::what_perhaps_was_never_judged(Of("api"), Unknown, Decision::Deny)]
#[case::unknown_now(Unknown, Of("api"), Decision::Error)]
#[case::unknown_before_and_now(Unknown, Unknown, Decision::Warn)]
fn only_what_the_policy_judged_before_was_there_before(
    #[case] new: Pods,
    #[case] old: Pods,
    #[case] decision: Decision,
) {
    let (selections, verdict) = judge(("*", new), Some(("*", old)));
    assert_eq!(verdict.decision(), decision, "{selections:?}: {verdict:#?}");
}

#[rstest]
#[case::the_same("https://b.example.com", "https://b.example.com", Decision::Warn)]
#[case::less(
    "https://b.example.com",
    "https://b.example.com,https://c.example.com",
    Decision::Warn
)]
#[case::more(
    "https://b.example.com,https://c.example.com",
    "https://b.example.com",
    Decision::Error
)]
#[case::another("*", "https://b.example.com", Decision::Error)]
#[case::none_before("*", "https://a.example.com", Decision::Error)]
fn with_unknown_pods_what_is_worse_than_before_is_not_let_through(
    #[case] new: &str,
    #[case] old: &str,
    #[case] decision: Decision,
) {
    let (_, verdict) = judge((new, Unknown), Some((old, Unknown)));
    assert_eq!(verdict.decision(), decision, "{verdict:#?}");
}

#[test]
fn an_ingress_that_nobody_looked_up_is_unknown() {
    let policy = json!({
        "workloads": {"scope": "Selected", "selector": {"matchLabels": {"app": "api"}}}, "http": {},
    });
    let policy = random::policy("test", &policy);
    let json = ingress("*");
    let subject = Subject::from_json(&json, "agents").expect("object is readable");
    let governing = select([&policy], &subject, None, &Facts::default());
    let verdict = evaluate(&governing, &subject, &Facts::default(), Enforcement::Deny);
    assert_eq!(verdict.decision(), Decision::Error);
}
