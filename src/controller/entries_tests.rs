//! The webhook configurations, as YAML snapshots.

use clap::Parser;

use super::*;
use crate::webhook::Token;

/// Parses the options as the command line does.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    args: OperatorArgs,
}

fn args(options: &[&str]) -> OperatorArgs {
    Options::parse_from([&["portcullis"], options].concat()).args
}

const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn trust() -> Trust {
    Trust {
        ca_bundle: b"PEM".to_vec(),
        token: Token::parse(TOKEN).unwrap(),
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|it| (*it).to_owned()).collect()
}

fn yaml(value: &impl serde::Serialize) -> String {
    let mut yaml = String::new();
    serde_saphyr::to_fmt_writer(&mut yaml, value).expect("an object is YAML");
    yaml
}

#[test]
fn upkeep_never_waits_for_us_and_people_do() {
    let args = args(&[]);
    let inputs = Inputs {
        args: &args,
        trust: &trust(),
        governed: &set(&["agents", "billing"]),
        delivering: &set(&["billing"]),
    };
    insta::assert_snapshot!("validating", yaml(&validating(&inputs)));
    insta::assert_snapshot!("mutating", yaml(&mutating(&inputs)));
}

#[test]
fn without_a_governed_namespace_only_our_own_kinds_are_judged() {
    let args = args(&["--webhook-url", "https://192.0.2.1:9443/"]);
    let inputs = Inputs {
        args: &args,
        trust: &trust(),
        governed: &BTreeSet::new(),
        delivering: &BTreeSet::new(),
    };
    let entries = validating(&inputs);
    let names: Vec<&str> = entries.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, [POLICIES]);
    assert_eq!(mutating(&inputs), []);
    let config = entries.first().map(|it| &it.client_config);
    assert_eq!(
        config.and_then(|it| it.url.as_deref()),
        Some(format!("https://192.0.2.1:9443/policies/{TOKEN}").as_str())
    );
    assert_eq!(config.and_then(|it| it.service.as_ref()), None);
}

#[test]
fn r01_only_what_people_write_waits_for_the_webhook() {
    for (options, expected) in [(&[][..], "Fail"), (&["--failure-policy", "Ignore"][..], "Ignore")] {
        let args = args(options);
        let governed = set(&["agents"]);
        let inputs = Inputs {
            args: &args,
            trust: &trust(),
            governed: &governed,
            delivering: &BTreeSet::new(),
        };
        for entry in validating(&inputs) {
            let wanted = if entry.name == WORKLOADS {
                expected
            } else {
                "Ignore"
            };
            assert_eq!(entry.failure_policy.as_deref(), Some(wanted), "{}", entry.name);
        }
    }
}
