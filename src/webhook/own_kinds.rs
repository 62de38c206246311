//! `/policies`: refuses policies that the schema lets through and that could not be in force, and records who changed
//! one.

use portcullis_api::SecurityPolicy;
use portcullis_engine::CompiledPolicy;
use portcullis_engine::policy::EXEMPT_NAMESPACES;
use portcullis_engine::request::{Operation, Request};
use tracing::info;

use super::response::Answer;
use crate::context::Context;

/// Judges a policy itself.
pub fn review(context: &Context, request: &Request<'_, SecurityPolicy>) -> Answer {
    let answer = judge(&context.args.namespace, request);
    if !request.is_dry_run() {
        info!(
            operation = ?request.operation,
            policy = %format_args!("{}/{}", request.namespace(), request.name()),
            user = request.username(),
            decision = answer.decision.as_str(),
            "Reviewed SecurityPolicy"
        );
    }
    answer
}

fn judge(own_namespace: &str, request: &Request<'_, SecurityPolicy>) -> Answer {
    let Some(policy) = &request.object else {
        return Answer::allowed();
    };
    // A finaliser or a label must also come off a policy that no longer compiles.
    let is_unchanged = |old: &SecurityPolicy| old.spec == policy.spec;
    if request.operation == Operation::Update && request.old_object.as_ref().is_some_and(is_unchanged) {
        return Answer::allowed();
    }
    let (namespace, name) = (request.namespace(), request.name());
    if EXEMPT_NAMESPACES.contains(&namespace) || namespace == own_namespace {
        return Answer::forbidden(format!(
            "SecurityPolicy {namespace}/{name} must not be in namespace {namespace}: no policy is ever in force in {} and {own_namespace}, so that neither the cluster nor Portcullis can lock itself out; put it into the namespace of the workloads",
            EXEMPT_NAMESPACES.join(", "),
        ));
    }
    match CompiledPolicy::try_from(policy) {
        Ok(_) => Answer::allowed(),
        Err(invalid) => Answer::invalid("SecurityPolicy", name, invalid.to_string(), &invalid.findings),
    }
}
