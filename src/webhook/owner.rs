//! The owner of what a controller makes: a Pod of an old Deployment has what its template has, and nobody is helped when
//! a drained node cannot get its pods back.
//!
//! An owner reference alone proves nothing, since anybody may write one: the writer must be a controller that makes
//! objects after their owner's template, and the owner must be there with that UID.

use kube::core::Request;
use kube::core::params::GetParams;
use portcullis_engine::{Kind, Subject};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use crate::built_in::makes_pods;
use crate::context::Context;
use crate::error::describe;
use crate::facts::is_object_name;

/// A controller's owner as an object names it.
#[derive(Debug)]
pub struct Reference {
    collection: &'static str,
    kind: String,
    name: String,
    uid: String,
}

/// The owner by which `subject` is judged too, when `writer` is to be trusted with it.
pub fn of(subject: &Subject<'_>, writer: &str) -> Option<Reference> {
    if !makes_pods(writer) {
        return None;
    }
    let owners = &subject.object().metadata.owner_references;
    let owner = owners.iter().find(|it| it.controller)?;
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    Some(Reference {
        collection: collection(Kind::of(group, &owner.kind))?,
        kind: owner.kind.to_string(),
        name: Some(owner.name.to_string()).filter(|it| is_object_name(it))?,
        uid: owner.uid.to_string(),
    })
}

/// Path of a kind below the API of its group, for kinds that have a pod template.
fn collection(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::ReplicationController => Some("/api/v1/namespaces/{}/replicationcontrollers"),
        Kind::Deployment => Some("/apis/apps/v1/namespaces/{}/deployments"),
        Kind::ReplicaSet => Some("/apis/apps/v1/namespaces/{}/replicasets"),
        Kind::StatefulSet => Some("/apis/apps/v1/namespaces/{}/statefulsets"),
        Kind::DaemonSet => Some("/apis/apps/v1/namespaces/{}/daemonsets"),
        Kind::Job => Some("/apis/batch/v1/namespaces/{}/jobs"),
        Kind::CronJob => Some("/apis/batch/v1/namespaces/{}/cronjobs"),
        _ => None,
    }
}

/// The owner as JSON; `None` when there is none of this name and UID.
///
/// # Errors
/// Why it is not known, in a part of a sentence.
pub async fn get(
    context: &Context,
    namespace: &str,
    owner: &Reference,
    deadline: Instant,
) -> Result<Option<String>, String> {
    let what = format!("{} {namespace}/{}", owner.kind, owner.name);
    let request = Request::new(owner.collection.replace("{}", namespace))
        .get(&owner.name, &GetParams::default())
        .map_err(|error| format!("{what} could not be asked for: {}", describe(&error)))?;
    match timeout_at(deadline, context.client.request_text(request)).await {
        Err(_) => Err(format!("the API server did not answer in time for {what}")),
        Ok(Ok(json)) if uid(&json) == owner.uid => Ok(Some(json)),
        Ok(Ok(_)) => Ok(None),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(None),
        Ok(Err(error)) => Err(format!("{what} could not be read: {}", describe(&error))),
    }
}

/// The UID of an object, empty when it has none.
fn uid(json: &str) -> String {
    #[derive(Deserialize)]
    struct Identified {
        metadata: Identity,
    }
    #[derive(Deserialize)]
    struct Identity {
        uid: String,
    }
    serde_json::from_str(json).map_or_else(|_| String::new(), |it: Identified| it.metadata.uid)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const POD: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "api-1", "ownerReferences":
        [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "1"},
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "api", "uid": "2", "controller": true}]}}"#;

    #[rstest]
    #[case("system:serviceaccount:kube-system:replicaset-controller", Some("2"))]
    #[case("system:kube-controller-manager", Some("2"))]
    #[case("system:serviceaccount:agents:replicaset-controller", None)]
    #[case("system:serviceaccount:kube-system:default", None)]
    #[case("alice", None)]
    fn only_a_controllers_word_counts(#[case] writer: &str, #[case] uid: Option<&str>) {
        let pod = Subject::from_json(POD, "agents").unwrap();
        assert_eq!(of(&pod, writer).as_ref().map(|it| it.uid.as_str()), uid);
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_no_owner() {
        let json = POD.replace(r#""name": "api", "uid""#, r#""name": "../../x/secrets/y", "uid""#);
        let pod = Subject::from_json(&json, "agents").unwrap();
        assert!(of(&pod, crate::built_in::CONTROLLER_MANAGER).is_none());
    }
}
