//! The data of a database or broker belongs to its user alone.
//!
//! Fields: `volumes` that are claims or paths of the node and the claim templates of a StatefulSet, as far as containers
//! mount them; `securityContext.fsGroup` of the pod, `.runAsUser` of pod and container. Workloads of components with role
//! `Postgres`, `Redis`, `Broker` or `Database` are judged. Allowed: claims, with both ids stated.
//! Source: S0-34, S0-35, S0-57, S1-21, S1-22, S1-99, S2-72.

use std::collections::HashSet;

use portcullis_api::{Role, RuleId};

use crate::object::{Container, PodSpec};
use crate::rules::{Context, Findings, Rule, Section, Severities};
use crate::subject::ContainerKind;
use crate::verdict::Observed;

pub(in crate::rules) const RULE: Rule = Rule {
    id: RuleId::StoragePermissions,
    title: "ownership of data",
    meaning: "the data of a database or broker belongs to its user alone",
    section: Section::PodSecurity,
    severities: Severities::OFF_WARN_DENY,
    page: include_str!("../../../../../docs/rules/storage/permissions.md"),
    check,
};

const FIX_PATH: &str = "keep the data on a persistentVolumeClaim";
const FIX_GROUP: &str = "set fsGroup to the group of the image's user, such as 999 for postgres and redis";
const FIX_USER: &str = "set runAsUser to the image's user, such as 999 for postgres and redis";

fn check(context: &Context<'_, '_>, findings: &mut Findings<'_>) {
    let keeps_data = |it: Role| matches!(it, Role::Postgres | Role::Redis | Role::Broker | Role::Database);
    let Some((_, spec)) = context.subject.pod().filter(|_| !context.subject.is_windows()) else {
        return;
    };
    if !context.components.iter().any(|it| keeps_data(it.role)) {
        return;
    }
    check_paths(context, spec, findings);
    let scratch = without_data(spec);
    let mounts_data = |it: &Container<'_>| {
        it.volume_mounts
            .iter()
            .any(|it| !scratch.contains(it.name.as_str()))
    };
    let mut users = context
        .subject
        .containers()
        .filter(|it| it.kind != ContainerKind::Ephemeral && mounts_data(it.container))
        .peekable();
    let pod = &spec.security_context;
    if users.peek().is_some() && pod.fs_group.is_none() {
        let path = context
            .subject
            .pod_spec_path()
            .fields(&["securityContext", "fsGroup"]);
        findings.violation(
            path,
            Observed::Unset("files keep the owner that they have"),
            "a group",
            FIX_GROUP,
        );
    }
    for it in users {
        if it
            .container
            .security_context
            .run_as_user
            .or(pod.run_as_user)
            .is_none()
        {
            let path = context
                .subject
                .container_path(&it)
                .fields(&["securityContext", "runAsUser"]);
            findings.violation(path, Observed::Unset("image user unknown"), "a user", FIX_USER);
        }
    }
}

fn check_paths(context: &Context<'_, '_>, spec: &PodSpec<'_>, findings: &mut Findings<'_>) {
    for (index, volume) in spec.volumes.iter().enumerate() {
        if let Some(it) = &volume.host_path {
            let path = context.subject.pod_spec_path().field("volumes");
            let path = path.item(index, Some(&volume.name)).fields(&["hostPath", "path"]);
            let observed = Observed::Shown(it.path.to_string());
            findings.violation(path, observed, "no path of the node", FIX_PATH);
            findings.about(it.path.as_str());
        }
    }
}

/// The volumes without data that outlives the pod. What is no volume of the pod comes from a claim template.
fn without_data<'s>(spec: &'s PodSpec<'_>) -> HashSet<&'s str> {
    let is_scratch = |kinds: &[crate::Text<'_>]| {
        let keeps =
            |it: &crate::Text<'_>| matches!(it.as_str(), "persistentVolumeClaim" | "ephemeral" | "hostPath");
        !kinds.iter().any(keeps)
    };
    let volumes = spec.volumes.iter().filter(|it| is_scratch(&it.kinds));
    volumes.map(|it| it.name.as_str()).collect()
}
