//! `/mutate`: sets on Pods what policies ask for. Refuses nothing.

use portcullis_api::Enforcement;
use portcullis_engine::mutation::{self, Scope};
use portcullis_engine::request::{Operation, Request};
use portcullis_engine::{Facts, Subject, select};

use super::response::Answer;
use crate::context::Context;

/// The change to the Pod of `request`; everything else is let through as it is.
pub fn mutate(context: &Context, request: Request<'_>) -> Answer {
    // A cluster that only watches changes nothing.
    if context.ceiling.get() <= Enforcement::Audit {
        return Answer::allowed();
    }
    let policies = context.policies.in_force(request.namespace());
    let Some(scope) = scope(&request).filter(|_| !policies.is_empty()) else {
        return Answer::allowed();
    };
    let namespace = request.namespace().to_owned();
    let old = request.old_object.map(|it| Subject::new(it, &namespace));
    let Some(mut pod) = request.object.map(|it| Subject::new(it, &namespace)) else {
        return Answer::allowed();
    };
    if !pod.is_pod() {
        return Answer::allowed();
    }
    let facts = Facts::default();
    let governing = select(policies.iter().map(|it| &**it), &pod, old.as_ref(), &facts);
    let mutation = mutation::apply(&governing, &mut pod, scope);
    match Answer::patched(&mutation) {
        Ok(answer) => answer,
        Err(_) => Answer::failed(&pod.to_string(), "its patch could not be written"),
    }
}

/// What of the pod may still be changed; `None` when nothing.
fn scope(request: &Request<'_>) -> Option<Scope> {
    match (request.operation, request.sub_resource()) {
        (Operation::Create, "") => Some(Scope::All),
        (Operation::Update, "ephemeralcontainers") => {
            let known = request.old_object.as_ref()?.spec.ephemeral_containers.len();
            Some(Scope::EphemeralFrom(known))
        }
        _ => None,
    }
}
