//! What an object had before warns and no longer denies, and nothing else does: each case is judged as an update of a
//! Deployment, and as a Pod that the old Deployment owns.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "these tests write their objects themselves")]
mod random;

use std::sync::Arc;

use portcullis_api::Enforcement;
use portcullis_engine::{
    ConfigMapFact, Decision, Fact, FactKey, Facts, KeyFact, SecretFact, Subject, Verdict, evaluate,
    references, select,
};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

const BASELINE: &str = "podSecurity: {level: Baseline}";
const RESTRICTED: &str = "podSecurity: {level: Restricted}";
const IMAGES: &str = "images: {requireDigest: true}";
const TAGS: &str = "images: {}";
const SECRETS: &str = "secrets: {}";
const ENTRIES: &str = "
    components: [{name: api, role: HttpService, selector: {matchLabels: {app: api}}}]
    secrets: {entries: [
      {name: a, env: A, components: [api], secretRef: {name: here, key: key}},
      {name: b, env: B, components: [api], secretRef: {name: here, key: key}}]}";
const CORS: &str = "http: {cors: {allowedOrigins: ['https://a.example.com']}}";
/// `http/cors-explicit` judges what is too long where `http/cors-wildcard` is milder.
const CORS_EXPLICIT: &str = "
    http: {cors: {allowedOrigins: ['https://a.example.com']}}
    rules: [{id: http/cors-wildcard, enforcement: Disabled}]";
const CORS_ENV: &str = "
    components: [{name: api, role: HttpService, selector: {matchLabels: {app: api}}}]
    http: {cors: {env: CORS_ORIGINS}}";

/// The only container, with these fields.
fn api(fields: &str) -> String {
    format!("containers: [{{name: api, {fields}}}]")
}

/// The only volume, of this kind.
fn volume(kind: &str) -> String {
    format!("containers: [{{name: api}}]\nvolumes: [{{name: data, {kind}}}]")
}

fn read(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).expect("the case is YAML")
}

fn judge(policy: &str, kind: &str, spec: &str) -> Verdict {
    let policy = random::policy("test", &read(policy));
    let metadata = json!({"name": "api", "namespace": "agents", "labels": {"app": "api"}});
    let spec = read(spec);
    let object = match kind {
        "Pod" => json!({"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec}),
        _ => json!({
            "apiVersion": "apps/v1", "kind": kind, "metadata": metadata,
            "spec": {"template": {"metadata": metadata, "spec": spec}},
        }),
    };
    let json = object.to_string();
    let subject = Subject::from_json(&json, "agents").expect("object is readable");
    let facts = facts(&subject);
    let governing = select([&policy], &subject, None, &facts);
    evaluate(&governing, &subject, &facts, Enforcement::Deny)
}

/// `count` sources of `envFrom` with ConfigMap `large`, each under a prefix of its own.
fn large(count: usize) -> String {
    let source = |it| format!("{{prefix: P{it}_, configMapRef: {{name: large}}}}");
    (0..count).map(source).collect::<Vec<_>>().join(", ")
}

/// Secret `here` has the keys `key` and `other`, ConfigMap `here` a password, ConfigMap `large` a long text; whatever
/// else is referred to is absent.
fn facts(subject: &Subject<'_>) -> Facts {
    let mut facts = Facts::default();
    for key in references(subject) {
        match key {
            FactKey::Secret(name) => drop(facts.secrets.insert(name, Fact::Absent)),
            FactKey::ConfigMap(name) => drop(facts.config_maps.insert(name, Fact::Absent)),
        }
    }
    let keys = ["key", "other"].map(|it| (it.to_owned(), KeyFact { empty: false }));
    let here = SecretFact { keys: keys.into() };
    facts.secrets.insert("here".into(), Fact::Known(Arc::new(here)));
    for (name, key, text) in [
        ("here", "DB_PASSWORD", "hunter2".to_owned()),
        ("large", "NOTE", "x".repeat(300 * 1024)),
    ] {
        let data = [(key.to_owned(), text)].into();
        let map = Fact::Known(Arc::new(ConfigMapFact { data }));
        facts.config_maps.insert(name.into(), map);
    }
    facts
}

/// The verdict on `new`, of `kind`, as the Deployment `old` was there before.
fn ratcheted(policy: &str, old: &str, kind: &str, new: &str) -> Verdict {
    let old = judge(policy, "Deployment", old);
    assert_eq!(
        old.decision(),
        Decision::Deny,
        "the old object is no good: {old:#?}"
    );
    let mut verdict = judge(policy, kind, new);
    assert_eq!(
        verdict.decision(),
        Decision::Deny,
        "the new object is no good: {verdict:#?}"
    );
    match kind {
        "Pod" => verdict.ratchet_by_owner(&old),
        _ => verdict.ratchet(&old),
    }
    verdict
}

const ADD: &str = "securityContext: {capabilities: {add: [NET_RAW]}}";
const ADD_MORE: &str = "securityContext: {capabilities: {add: [NET_RAW, SYS_ADMIN]}}";

#[rstest]
#[case::a_capability_more(BASELINE, api(ADD), api(ADD_MORE))]
#[case::another_capability(
    BASELINE,
    api(ADD),
    api("securityContext: {capabilities: {add: [SYS_ADMIN]}}")
)]
#[case::dropping_less(
    RESTRICTED,
    api("securityContext: {capabilities: {drop: [NET_RAW, CHOWN]}}"),
    api("securityContext: {capabilities: {drop: [CHOWN]}}")
)]
#[case::no_profile_becomes_unconfined(
    RESTRICTED,
    api("image: a"),
    api("securityContext: {seccompProfile: {type: Unconfined}}")
)]
#[case::a_host_namespace_more(
    BASELINE,
    format!("hostNetwork: true\n{}", api("image: a")),
    format!("hostNetwork: true\nhostPID: true\n{}", api("image: a"))
)]
#[case::a_container_more(BASELINE,
    "containers: [{name: api, securityContext: {privileged: true}}]".to_owned(),
    "containers: [{name: api, securityContext: {privileged: true}}, {name: b, securityContext: {privileged: true}}]".to_owned()
)]
#[case::a_container_says_itself_what_the_pod_said_and_it_did_not(
    RESTRICTED,
    format!("securityContext: {{runAsNonRoot: false}}\n{}", api("securityContext: {runAsNonRoot: true}")),
    api("securityContext: {runAsNonRoot: false}")
)]
#[case::everybody_instead_of_subdomains(
    CORS,
    api("env: [{name: CORS_ORIGINS, value: 'https://*.corp.example'}]"),
    api("env: [{name: CORS_ORIGINS, value: '*'}]")
)]
#[case::an_origin_more(
    CORS,
    api("env: [{name: CORS_ORIGINS, value: 'https://b.example.com'}]"),
    api("env: [{name: CORS_ORIGINS, value: 'https://b.example.com,https://c.example.com'}]")
)]
#[case::an_origin_more_in_a_value_that_is_withheld(
    CORS,
    api("env: [{name: CORS_ORIGINS, value: 'https://u:hunter2@b.example.com'}]"),
    api(
        "env: [{name: CORS_ORIGINS, value: 'https://u:hunter2@b.example.com,https://u:hunter2@c.example.com'}]"
    )
)]
#[case::another_text_around_a_literal(
    SECRETS,
    api("env: [{name: REDIS_URL, value: 'redis://:hunter2@a'}]"),
    api("env: [{name: REDIS_URL, value: 'redis://:hunter2@a redis://:hunter3@b'}]")
)]
#[case::a_literal_that_is_referred_to_changes(
    SECRETS,
    api("env: [{name: A, value: hunter2}, {name: DB_PASSWORD, value: $(A)}]"),
    api("env: [{name: A, value: hunter3}, {name: DB_PASSWORD, value: $(A)}]")
)]
#[case::an_entry_more_is_unwired(
    ENTRIES,
    api("env: [{name: A, valueFrom: {secretKeyRef: {name: here, key: key}}}]"),
    api("env: [{name: PORT, value: '1'}]")
)]
#[case::another_missing_secret_under_the_same_variable(
    SECRETS,
    api("env: [{name: A, valueFrom: {secretKeyRef: {name: no1, key: key}}}]"),
    api("env: [{name: A, valueFrom: {secretKeyRef: {name: no2, key: key}}}]")
)]
#[case::another_missing_key_of_the_same_secret(
    SECRETS,
    api("env: [{name: A, valueFrom: {secretKeyRef: {name: here, key: no1}}}]"),
    api("env: [{name: A, valueFrom: {secretKeyRef: {name: here, key: no2}}}]")
)]
#[case::another_missing_secret_in_the_same_source(
    SECRETS,
    api("envFrom: [{secretRef: {name: no1}}]"),
    api("envFrom: [{secretRef: {name: no2}}]")
)]
#[case::a_changed_literal(
    SECRETS,
    api("args: [--password=x7Kq2mZp]"),
    api("args: [--password=y8Lr3nAq]")
)]
#[case::a_literal_that_a_command_line_refers_to_changes(
    SECRETS,
    api("env: [{name: A, value: hunter2}], args: ['--password=$(A)']"),
    api("env: [{name: A, value: hunter3}], args: ['--password=$(A)']")
)]
#[case::a_literal_that_the_word_after_a_flag_refers_to_changes(
    SECRETS,
    api("env: [{name: A, value: hunter2}], args: [--password, $(A)]"),
    api("env: [{name: A, value: hunter3}], args: [--password, $(A)]")
)]
#[case::what_is_too_long_to_be_judged_after_another_literal(
    SECRETS,
    api("args: ['--password=hunter2']"),
    api(&format!("env: [{{name: A, value: {}}}], args: ['$(A)$(A)']", "x".repeat(100 * 1024)))
)]
#[case::what_is_too_long_to_be_judged_after_a_wildcard(
    CORS,
    api("env: [{name: CORS_ORIGINS, value: '*'}]"),
    api(&format!(
        "env: [{{name: A, value: {}}}, {{name: CORS_ORIGINS, value: $(A)$(A)}}]",
        "x".repeat(100 * 1024)
    ))
)]
#[case::what_is_too_long_to_be_judged_after_an_origin(
    CORS_EXPLICIT,
    api("env: [{name: CORS_ORIGINS, value: 'https://b.example.com'}]"),
    api(&format!(
        "env: [{{name: A, value: {}}}, {{name: CORS_ORIGINS, value: $(A)$(A)}}]",
        "x".repeat(100 * 1024)
    ))
)]
#[case::sources_that_are_not_read_after_one_with_a_literal(
    SECRETS,
    api("envFrom: [{configMapRef: {name: here}}]"),
    api(&format!("envFrom: [{{configMapRef: {{name: here}}}}, {}]", large(40)))
)]
#[case::no_origin_instead_of_a_wrong_one(
    CORS_ENV,
    api("env: [{name: CORS_ORIGINS, value: 'app.example.com'}]"),
    api("env: [{name: CORS_ORIGINS, value: ''}]")
)]
#[case::another_path_of_the_node(
    BASELINE,
    volume("hostPath: {path: /var/log}"),
    volume("hostPath: {path: /}")
)]
#[case::another_path_of_the_node_at_restricted(
    RESTRICTED,
    volume("hostPath: {path: /var/log}"),
    volume("hostPath: {path: /}")
)]
#[case::another_kind_of_volume(RESTRICTED, volume("nfs: {server: a}"), volume("iscsi: {iqn: a}"))]
#[case::another_port_of_the_node(
    BASELINE,
    api("ports: [{containerPort: 80, hostPort: 80}]"),
    api("ports: [{containerPort: 80, hostPort: 22}]")
)]
#[case::another_sysctl(
    BASELINE,
    format!("securityContext: {{sysctls: [{{name: kernel.msgmax}}]}}\n{}", api("image: a")),
    format!("securityContext: {{sysctls: [{{name: kernel.sem}}]}}\n{}", api("image: a"))
)]
#[case::a_probe_of_another_host(
    BASELINE,
    api("livenessProbe: {httpGet: {host: a.example.com}}"),
    api("livenessProbe: {httpGet: {host: 169.254.169.254}}")
)]
#[case::another_label(
    BASELINE,
    api("securityContext: {seLinuxOptions: {type: a_t}}"),
    api("securityContext: {seLinuxOptions: {type: spc_t}}")
)]
#[case::another_image_without_a_digest(
    IMAGES,
    api("image: 'ghcr.io/acme/api:1.4'"),
    api("image: 'evil/x:1.4'")
)]
#[case::another_image_with_a_tag_that_moves(TAGS, api("image: acme/api"), api("image: evil/x"))]
fn what_is_worse_than_before_is_denied(
    #[case] policy: &str,
    #[case] old: String,
    #[case] new: String,
    #[values("Deployment", "Pod")] kind: &str,
) {
    let verdict = ratcheted(policy, &old, kind, &new);
    assert_eq!(verdict.decision(), Decision::Deny, "{verdict:#?}");
}

/// Nobody but the author of a template lets one of its containers inherit.
#[rstest]
#[case::the_user(
    format!("securityContext: {{runAsNonRoot: false}}\n{}", api("securityContext: {runAsNonRoot: true}")),
    format!("securityContext: {{runAsNonRoot: false}}\n{}", api("image: a"))
)]
#[case::a_container_more(
    format!("securityContext: {{runAsNonRoot: true, runAsUser: 0}}\n{}", api("image: a")),
    "securityContext: {runAsNonRoot: true, runAsUser: 0}\ncontainers: [{name: api}, {name: more}]".to_owned()
)]
fn a_container_that_begins_to_inherit_is_worse(#[case] old: String, #[case] new: String) {
    let policy = "podSecurity: {level: Restricted, version: v1.34, defaults: []}";
    let verdict = ratcheted(policy, &old, "Deployment", &new);
    assert_eq!(verdict.decision(), Decision::Deny, "{verdict:#?}");
    let injected = ratcheted(policy, &old, "Pod", &new);
    let of_pod = |it: &&portcullis_engine::Violation| it.path.display().starts_with("spec.securityContext");
    assert!(
        injected.violations.iter().filter(of_pod).all(|it| it.ratcheted),
        "{injected:#?}"
    );
}

/// What the API server makes of a template's pods: it sets fields by others.
#[rstest]
#[case::ports_beside_the_network_of_the_host(
    BASELINE,
    format!("hostNetwork: true\n{}", api("ports: [{containerPort: 9100}]")),
    format!("hostNetwork: true\n{}", api("ports: [{containerPort: 9100, hostPort: 9100}]"))
)]
fn a_pod_is_no_worse_than_its_template(#[case] policy: &str, #[case] template: String, #[case] pod: String) {
    let verdict = ratcheted(policy, &template, "Pod", &pod);
    assert_eq!(verdict.decision(), Decision::Warn, "{verdict:#?}");
}

#[test]
fn a_profile_that_the_api_server_made_of_an_annotation_was_there_before() {
    let annotation = json!({"container.apparmor.security.beta.kubernetes.io/api": "unconfined"});
    let of = |kind: &str, container: Value| {
        let pod = json!({"metadata": {"annotations": annotation}, "spec": {"containers": [container]}});
        let (version, spec) = match kind {
            "Pod" => ("v1", pod["spec"].clone()),
            _ => ("apps/v1", json!({"template": pod})),
        };
        let metadata = json!({"name": "api", "annotations": pod["metadata"]["annotations"]});
        let object = json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec});
        let policy = random::policy("test", &read(BASELINE));
        let json = object.to_string();
        let subject = Subject::from_json(&json, "agents").expect("object is readable");
        let facts = Facts::default();
        let governing = select([&policy], &subject, None, &facts);
        evaluate(&governing, &subject, &facts, Enforcement::Deny)
    };
    let profile = json!({"appArmorProfile": {"type": "Unconfined"}});
    let mut pod = of("Pod", json!({"name": "api", "securityContext": profile}));
    assert_eq!(pod.decision(), Decision::Deny);
    pod.ratchet_by_owner(&of("Deployment", json!({"name": "api"})));
    assert_eq!(pod.decision(), Decision::Warn, "{pod:#?}");
}

#[rstest]
#[case::a_capability_less(BASELINE, api(ADD_MORE), api(ADD))]
#[case::dropping_more(
    RESTRICTED,
    api("image: a"),
    api("securityContext: {capabilities: {drop: [NET_RAW]}}")
)]
#[case::unset_stays_unset(RESTRICTED, api("image: a"), api("image: b"))]
#[case::unset_in_a_renamed_image_with_a_new_order_of_containers(
    RESTRICTED,
    "containers: [{name: api}, {name: b}]".to_owned(),
    "containers: [{name: b}, {name: api}]".to_owned()
)]
#[case::the_pod_no_longer_says_what_a_container_inherited(
    RESTRICTED,
    format!("securityContext: {{runAsNonRoot: false}}\n{}", api("image: a")),
    api("image: a")
)]
#[case::a_container_says_itself_what_it_inherited(
    RESTRICTED,
    format!("securityContext: {{runAsNonRoot: true, runAsUser: 0}}\n{}", api("image: a")),
    format!("securityContext: {{runAsNonRoot: true}}\n{}", api("securityContext: {runAsUser: 0}"))
)]
#[case::a_container_has_the_label_that_it_inherited(
    BASELINE,
    format!("securityContext: {{seLinuxOptions: {{type: spc_t}}}}\n{}", api("image: a")),
    api("securityContext: {seLinuxOptions: {type: spc_t}}")
)]
#[case::a_container_has_the_profile_that_it_inherited(
    BASELINE,
    format!("securityContext: {{appArmorProfile: {{type: Unconfined}}}}\n{}", api("image: a")),
    api("securityContext: {appArmorProfile: {type: Unconfined}}")
)]
#[case::a_container_is_the_host_process_that_it_inherited(
    BASELINE,
    format!("securityContext: {{windowsOptions: {{hostProcess: true}}}}\n{}", api("image: a")),
    api("securityContext: {windowsOptions: {hostProcess: true}}")
)]
#[case::the_same_image_without_a_digest(IMAGES, api("image: acme/api"), api("image: acme/api, tty: true"))]
#[case::the_pod_is_no_longer_unconfined(
    RESTRICTED,
    format!("securityContext: {{seccompProfile: {{type: Unconfined}}}}\n{}", api("image: a")),
    api("image: a")
)]
#[case::an_origin_less(
    CORS,
    api("env: [{name: CORS_ORIGINS, value: 'https://b.example.com,https://c.example.com'}]"),
    api("env: [{name: CORS_ORIGINS, value: 'https://b.example.com'}]")
)]
#[case::an_origin_less_in_a_value_that_is_withheld(
    CORS,
    api(
        "env: [{name: CORS_ORIGINS, value: 'https://u:hunter2@b.example.com,https://u:hunter2@c.example.com'}]"
    ),
    api("env: [{name: CORS_ORIGINS, value: 'https://u:hunter2@c.example.com'}]")
)]
#[case::an_allowed_origin_more_in_a_value_that_is_withheld(
    CORS,
    api("env: [{name: CORS_ORIGINS, value: 'https://u:hunter2@b.example.com'}]"),
    api("env: [{name: CORS_ORIGINS, value: 'https://a.example.com,https://u:hunter2@b.example.com'}]")
)]
#[case::an_allowed_origin_more_beside_a_wildcard_that_is_withheld(
    CORS,
    api("env: [{name: CORS_ORIGINS, value: 'https://*@b.example.com'}]"),
    api("env: [{name: CORS_ORIGINS, value: 'https://a.example.com https://*@b.example.com'}]")
)]
#[case::an_entry_less_is_unwired(
    ENTRIES,
    api("env: [{name: PORT, value: '1'}]"),
    api("env: [{name: A, valueFrom: {secretKeyRef: {name: here, key: key}}}]")
)]
#[case::an_unwired_entry_beside_a_sidecar(
    ENTRIES,
    api("env: [{name: PORT, value: '1'}]"),
    "containers: [{name: api, env: [{name: PORT, value: '1'}]}, {name: istio-proxy}]".to_owned()
)]
#[case::an_unset_variable_beside_a_sidecar(
    CORS_ENV,
    api("image: a"),
    "containers: [{name: istio-proxy}, {name: api, image: a}]".to_owned()
)]
#[case::a_variable_before_the_one_that_refers_to_nothing(
    SECRETS,
    api("env: [{name: A, valueFrom: {secretKeyRef: {name: no1, key: key}}}]"),
    api("env: [{name: PORT, value: '1'}, {name: A, valueFrom: {secretKeyRef: {name: no1, key: key}}}]")
)]
#[case::a_source_before_the_missing_one(
    SECRETS,
    api("envFrom: [{secretRef: {name: no1}}]"),
    api("envFrom: [{secretRef: {name: here}}, {secretRef: {name: no1}}]")
)]
#[case::an_argument_before_the_literal(
    SECRETS,
    api("args: [--password=x7Kq2mZp]"),
    api("args: [--verbose, --password=x7Kq2mZp]")
)]
#[case::the_same_too_long_value(
    CORS,
    api(&format!(
        "env: [{{name: A, value: {}}}, {{name: CORS_ORIGINS, value: $(A)$(A)}}]",
        "x".repeat(100 * 1024)
    )),
    api(&format!(
        "image: b, env: [{{name: A, value: {}}}, {{name: CORS_ORIGINS, value: $(A)$(A)}}]",
        "x".repeat(100 * 1024)
    ))
)]
#[case::the_same_sources_that_are_not_read(
    SECRETS,
    api(&format!("envFrom: [{{configMapRef: {{name: here}}}}, {}]", large(40))),
    api(&format!("image: b, envFrom: [{{configMapRef: {{name: here}}}}, {}]", large(40)))
)]
#[case::a_renamed_variable_in_a_command_line(
    SECRETS,
    api("env: [{name: A, value: hunter2}], args: ['--password=$(A)']"),
    api("env: [{name: B, value: hunter2}], args: ['--password=$(B)']")
)]
fn what_is_no_worse_than_before_warns(
    #[case] policy: &str,
    #[case] old: String,
    #[case] new: String,
    #[values("Deployment", "Pod")] kind: &str,
) {
    let verdict = ratcheted(policy, &old, kind, &new);
    assert_eq!(verdict.decision(), Decision::Warn, "{verdict:#?}");
}

proptest! {
    #![proptest_config(random::config())]

    #[test]
    fn what_did_not_change_is_not_denied(object in random::workload(), level in random::level()) {
        let policy = random::full_policy(level, &[]);
        let json = object.to_string();
        let subject = Subject::from_json(&json, "agents").expect("object is readable");
        let facts = facts(&subject);
        let governing = select([&policy], &subject, None, &facts);
        let before = evaluate(&governing, &subject, &facts, Enforcement::Deny);
        let mut verdict = before.clone();
        verdict.ratchet(&before);
        prop_assert!(verdict.decision() <= Decision::Warn, "{verdict:#?}");
    }
}
