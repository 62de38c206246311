//! What the API server is answered.

use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};
use portcullis_engine::policy::Finding;
use portcullis_engine::request::API_VERSION;
use portcullis_engine::{Decision, Governing, Subject, Verdict, render};
use serde::Serialize;

/// Decision on one request, with all that goes into the answer.
#[derive(Debug)]
pub struct Answer {
    /// What was decided.
    pub decision: Decision,
    /// What was found; empty where nothing was judged.
    pub verdict: Verdict,
    /// Whether something of ours failed, refused or not.
    pub is_our_error: bool,
    warnings: Vec<String>,
    refusal: Option<Status>,
    /// JSON patch.
    patch: Option<Vec<u8>>,
}

impl Answer {
    /// Admitted, with nothing to say.
    pub fn allowed() -> Self {
        Self {
            decision: Decision::Allow,
            verdict: Verdict::default(),
            is_our_error: false,
            warnings: Vec::new(),
            refusal: None,
            patch: None,
        }
    }

    /// Admitted after this change.
    ///
    /// # Errors
    /// When the patch cannot be written as JSON, which its type makes impossible.
    pub fn patched(mutation: &portcullis_engine::mutation::Mutation) -> Result<Self, serde_json::Error> {
        let patch = match mutation.patch.as_slice() {
            [] => None,
            operations => Some(serde_json::to_vec(operations)?),
        };
        Ok(Self {
            warnings: render::limit_warnings(mutation.warnings.clone()),
            patch,
            ..Self::allowed()
        })
    }

    /// What follows from a verdict.
    pub fn judged(subject: &Subject<'_>, governing: &[Governing<'_>], verdict: Verdict) -> Self {
        let decision = verdict.decision();
        let refusal = match decision {
            Decision::Deny => Some(denial(render::denial(subject, governing, &verdict), &verdict)),
            Decision::Error => Some(our_error(render::our_error(subject, &verdict))),
            Decision::Allow | Decision::Warn => None,
        };
        // An error of ours already says what could not be judged.
        let warnings = match decision {
            Decision::Error => Vec::new(),
            Decision::Allow | Decision::Warn | Decision::Deny => render::warnings(governing, &verdict),
        };
        Self {
            decision,
            is_our_error: decision == Decision::Error,
            warnings,
            verdict,
            refusal,
            patch: None,
        }
    }

    /// Refused because of a fault of ours: `cause` says what failed, `what` names the object.
    pub fn failed(what: &str, cause: &str) -> Self {
        let message = format!(
            "Portcullis could not judge {what}: {cause}. This is an error of Portcullis and not of the object: try again, and if it stays, look at the operator's log"
        );
        Self {
            decision: Decision::Error,
            is_our_error: true,
            refusal: Some(our_error(message)),
            ..Self::allowed()
        }
    }

    /// Refused unread: a review has more than `limit` bytes. The status is the one of such a request to any server.
    pub fn too_large(what: &str, limit: usize) -> Self {
        let message = format!(
            "{what} is too large to be judged: it must have at most {limit} bytes as JSON, together with what it was before; make it smaller"
        );
        Self {
            decision: Decision::Deny,
            refusal: Some(status(413, "RequestEntityTooLarge", message)),
            ..Self::allowed()
        }
    }

    /// The same with the reason as a warning, for where nothing that could have been found would have been refused.
    pub fn tolerated(self) -> Self {
        let message = self.refusal.and_then(|it| it.message).unwrap_or_default();
        Self {
            decision: Decision::Warn,
            warnings: render::limit_warnings(vec![message]),
            refusal: None,
            ..self
        }
    }

    /// A policy that is refused where it stands.
    pub fn forbidden(message: String) -> Self {
        Self {
            decision: Decision::Deny,
            refusal: Some(status(403, "Forbidden", message)),
            ..Self::allowed()
        }
    }

    /// A policy that does not compile; kubectl prints one line for each finding.
    pub fn invalid(kind: &str, name: &str, message: String, findings: &[Finding]) -> Self {
        let causes = findings.iter().map(|it| StatusCause {
            field: Some(it.path.clone()),
            message: Some(it.message.clone()),
            reason: Some("FieldValueInvalid".to_owned()),
        });
        let details = StatusDetails {
            kind: Some(kind.to_owned()),
            name: Some(name.to_owned()),
            causes: Some(causes.collect()),
            ..StatusDetails::default()
        };
        let refusal = Status {
            details: Some(details),
            ..status(422, "Invalid", message)
        };
        Self {
            decision: Decision::Deny,
            refusal: Some(refusal),
            ..Self::allowed()
        }
    }

    /// The text of a refusal, or of what is said instead.
    pub fn message(&self) -> Option<&str> {
        let refusal = self.refusal.as_ref().and_then(|it| it.message.as_deref());
        refusal.or_else(|| self.warnings.first().map(String::as_str))
    }

    /// The body of the answer to the question `uid`.
    ///
    /// # Errors
    /// When it cannot be written as JSON, which its types make impossible.
    pub fn into_json(self, uid: &str) -> Result<Vec<u8>, serde_json::Error> {
        let review = Review {
            api_version: API_VERSION,
            kind: "AdmissionReview",
            response: Response {
                uid,
                allowed: self.refusal.is_none(),
                status: self.refusal,
                patch_type: self.patch.is_some().then_some("JSONPatch"),
                patch: self.patch.map(ByteString),
                warnings: self.warnings,
                audit_annotations: (!self.verdict.violations.is_empty()).then(|| AuditAnnotations {
                    decision: self.decision.as_str(),
                    rules: rules(&self.verdict),
                }),
            },
        };
        serde_json::to_vec(&review)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<'r> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'r>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'r> {
    uid: &'r str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    /// Base64 on the wire.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<ByteString>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit_annotations: Option<AuditAnnotations>,
}

/// What the API server's audit log keeps of it.
#[derive(Serialize)]
struct AuditAnnotations {
    decision: &'static str,
    rules: String,
}

fn rules(verdict: &Verdict) -> String {
    let mut rules: Vec<&str> = verdict.violations.iter().map(|it| it.rule.as_str()).collect();
    rules.dedup();
    rules.join(",")
}

fn denial(message: String, verdict: &Verdict) -> Status {
    let causes = render::listed(verdict).map(|it| StatusCause {
        reason: Some(it.rule.as_str().to_owned()),
        message: Some(format!("observed: {}, required: {}", it.observed, it.required)),
        field: Some(it.path.indexed()),
    });
    Status {
        details: Some(StatusDetails {
            causes: Some(causes.collect()),
            ..StatusDetails::default()
        }),
        ..status(403, "Forbidden", message)
    }
}

fn our_error(message: String) -> Status {
    status(500, "InternalError", message)
}

fn status(code: i32, reason: &str, message: String) -> Status {
    Status {
        code: Some(code),
        reason: Some(reason.to_owned()),
        status: Some("Failure".to_owned()),
        message: Some(message),
        ..Status::default()
    }
}
