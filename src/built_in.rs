//! Controllers that are part of Kubernetes, by the accounts that `kube-controller-manager` gives them. Whatever else runs
//! in `kube-system` is a tool like any other.

/// The user of all of them where they run without ServiceAccounts of their own.
pub(crate) const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";

/// Deletes what has lost its owner, and for that changes what stays.
const GARBAGE_COLLECTOR: &str = "generic-garbage-collector";

/// Make pods, or what makes pods, after a template.
const POD_MAKERS: &[&str] = &[
    "cronjob-controller",
    "daemon-set-controller",
    "deployment-controller",
    "job-controller",
    "replicaset-controller",
    "replication-controller",
    "statefulset-controller",
];

/// Users that make or change what runs pods without anybody's asking, in a fixed order.
pub(crate) fn users() -> Vec<String> {
    let mut users: Vec<String> = POD_MAKERS.iter().map(|it| user(it)).collect();
    users.extend([CONTROLLER_MANAGER.to_owned(), user(GARBAGE_COLLECTOR)]);
    users.sort();
    users
}

/// Whether `user` makes objects after the template of their owner.
pub(crate) fn makes_pods(user_name: &str) -> bool {
    user_name == CONTROLLER_MANAGER || POD_MAKERS.iter().any(|it| user(it) == user_name)
}

fn user(controller: &str) -> String {
    format!("system:serviceaccount:kube-system:{controller}")
}
