//! What the API server sends: an AdmissionReview, read in one pass into the view that rules need, borrowed from the
//! body's bytes.

use serde::Deserialize;
use serde_json::error::Category;

use crate::Text;
use crate::object::Object;

/// The version of AdmissionReview that is spoken.
pub const API_VERSION: &str = "admission.k8s.io/v1";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "'de: 'a, O: Deserialize<'de>"))]
struct Review<'a, O> {
    #[serde(default)]
    api_version: Option<Text<'a>>,
    #[serde(default)]
    kind: Option<Text<'a>>,
    #[serde(default = "Option::default")]
    request: Option<Request<'a, O>>,
}

/// One question of the API server, about an object that is read as `O`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "'de: 'a, O: Deserialize<'de>"))]
pub struct Request<'a, O = Object<'a>> {
    #[serde(default)]
    uid: Option<Text<'a>>,
    #[serde(default)]
    sub_resource: Option<Text<'a>>,
    #[serde(default)]
    name: Option<Text<'a>>,
    #[serde(default)]
    namespace: Option<Text<'a>>,
    /// What is to be done.
    pub operation: Operation,
    #[serde(default)]
    user_info: UserInfo<'a>,
    /// The object as it is to be; none for DELETE.
    #[serde(default = "Option::default")]
    pub object: Option<O>,
    /// The object as it is; none for CREATE.
    #[serde(default = "Option::default")]
    pub old_object: Option<O>,
    #[serde(default)]
    dry_run: Option<bool>,
}

/// What is to be done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// It is new.
    Create,
    /// It is there.
    Update,
    /// It is to go.
    Delete,
    /// `kubectl exec` and the like.
    Connect,
}

#[derive(Debug, Default, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct UserInfo<'a> {
    #[serde(default)]
    username: Option<Text<'a>>,
}

impl<O> Request<'_, O> {
    /// Names the question; the answer carries it too.
    pub fn uid(&self) -> &str {
        text(&self.uid)
    }

    /// Such as `scale`; empty for the object itself.
    pub fn sub_resource(&self) -> &str {
        text(&self.sub_resource)
    }

    /// Name of the object; empty where it is yet to be generated.
    pub fn name(&self) -> &str {
        text(&self.name)
    }

    /// Namespace of the object; empty for one of the cluster.
    pub fn namespace(&self) -> &str {
        text(&self.namespace)
    }

    /// Who asks.
    pub fn username(&self) -> &str {
        text(&self.user_info.username)
    }

    /// Whether nothing may be changed by asking.
    pub fn is_dry_run(&self) -> bool {
        self.dry_run == Some(true)
    }
}

fn text<'t>(text: &'t Option<Text<'_>>) -> &'t str {
    text.as_deref().unwrap_or_default()
}

/// A body that is no question which could be answered.
#[derive(Debug, thiserror::Error)]
pub enum BadRequest {
    /// It is no UTF-8.
    #[error("the body must be UTF-8: byte {0} is not")]
    Utf8(usize),
    /// It is no JSON.
    #[error("the body must be one JSON object: {0}")]
    Syntax(serde_json::Error),
    /// A field of it is of another type, missing or there twice. What was seen could be a secret and is not said.
    #[error(
        "the body must be an AdmissionReview: at line {line}, column {column} a field has another type than it must have, is missing or is there twice"
    )]
    Data {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// It is of another kind or version.
    #[error(
        "`apiVersion` and `kind` must be {API_VERSION} and AdmissionReview, got `{api_version}` and `{kind}`"
    )]
    Version {
        /// The `apiVersion` that was seen.
        api_version: String,
        /// The `kind` that was seen.
        kind: String,
    },
    /// It asks nothing.
    #[error("`request` must be set")]
    NoRequest,
    /// The answer could not be told from others.
    #[error("`request.uid` must be set")]
    NoUid,
    /// Nothing to judge.
    #[error("`request.object` must be set for {0:?}")]
    NoObject(Operation),
}

impl From<serde_json::Error> for BadRequest {
    fn from(error: serde_json::Error) -> Self {
        match error.classify() {
            Category::Data => Self::Data {
                line: error.line(),
                column: error.column(),
            },
            Category::Io | Category::Syntax | Category::Eof => Self::Syntax(error),
        }
    }
}

/// Reads a body. Not generic, so that it is compiled with this crate: for speed, as `profile.release` says.
///
/// # Errors
/// When it is no AdmissionReview v1 with a request and its uid, or lacks the object that its operation speaks of.
pub fn parse(body: &[u8]) -> Result<Request<'_>, BadRequest> {
    parse_as(body)
}

/// As [`parse`], with the objects read as `O`.
///
/// # Errors
/// As [`parse`].
pub fn parse_as<'a, O: Deserialize<'a>>(body: &'a [u8]) -> Result<Request<'a, O>, BadRequest> {
    let body = std::str::from_utf8(body).map_err(|error| BadRequest::Utf8(error.valid_up_to()))?;
    let review: Review<'a, O> = serde_json::from_str(body)?;
    let (api_version, kind) = (text(&review.api_version), text(&review.kind));
    if (api_version, kind) != (API_VERSION, "AdmissionReview") {
        return Err(BadRequest::Version {
            api_version: shorten(api_version),
            kind: shorten(kind),
        });
    }
    let request = review.request.ok_or(BadRequest::NoRequest)?;
    if request.uid().is_empty() {
        return Err(BadRequest::NoUid);
    }
    let has_object = matches!(request.operation, Operation::Create | Operation::Update);
    if has_object && request.object.is_none() {
        return Err(BadRequest::NoObject(request.operation));
    }
    Ok(request)
}

fn shorten(text: &str) -> String {
    text.chars().take(63).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn review(request: &str) -> String {
        format!(r#"{{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {request}}}"#)
    }

    #[rstest]
    #[case::utf8(b"{\"kind\": \"\xff\"}", "the body must be UTF-8: byte 10 is not")]
    #[case::empty(
        b"",
        "the body must be one JSON object: EOF while parsing a value at line 1 column 0"
    )]
    #[case::trailing(
        b"{} {}",
        "the body must be one JSON object: trailing characters at line 1 column 4"
    )]
    #[case::nul(
        b"{\"kind\": \"a\0\"}",
        "the body must be one JSON object: control character (\\u0000-\\u001F) found while parsing a string at line 1 column 12"
    )]
    #[case::duplicate(
        b"{\"kind\": \"a\", \"kind\": \"b\"}",
        "the body must be an AdmissionReview: at line 1, column 20 a field has another type than it must have, is missing or is there twice"
    )]
    #[case::old(
        b"{\"apiVersion\": \"admission.k8s.io/v1beta1\", \"kind\": \"AdmissionReview\"}",
        "`apiVersion` and `kind` must be admission.k8s.io/v1 and AdmissionReview, got `admission.k8s.io/v1beta1` and `AdmissionReview`"
    )]
    #[case::nothing(
        b"{\"apiVersion\": \"admission.k8s.io/v1\", \"kind\": \"AdmissionReview\"}",
        "`request` must be set"
    )]
    fn r23_a_bad_body_is_refused_with_a_reason(#[case] body: &[u8], #[case] reason: &str) {
        assert_eq!(parse(body).unwrap_err().to_string(), reason);
    }

    #[rstest]
    #[case(r#"{"operation": "CREATE"}"#, "`request.uid` must be set")]
    #[case(
        r#"{"uid": "1", "operation": "CREATE"}"#,
        "`request.object` must be set for Create"
    )]
    #[case(
        r#"{"uid": "1", "operation": "UPDATE", "object": null}"#,
        "`request.object` must be set for Update"
    )]
    fn r28_an_odd_review_is_refused_with_a_reason(#[case] request: &str, #[case] reason: &str) {
        let body = review(request);
        assert_eq!(parse(body.as_bytes()).unwrap_err().to_string(), reason);
    }

    #[test]
    fn a_value_of_the_wrong_type_is_never_repeated() {
        let object = r#"{"spec": {"containers": [{"name": "api", "env": "hunter2"}]}}"#;
        let body = review(&format!(
            r#"{{"uid": "1", "operation": "CREATE", "object": {object}}}"#
        ));
        let error = parse(body.as_bytes()).unwrap_err();
        assert!(matches!(error, BadRequest::Data { .. }));
        assert!(!error.to_string().contains("hunter2"));
    }

    #[rstest]
    #[case(129)]
    #[case(9_999)]
    #[case(1_000_000)]
    fn r22_depth_never_overflows_the_stack(#[case] depth: usize) {
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let unread = review(&format!(
            r#"{{"uid": "1", "operation": "CREATE", "object": {{"status": {nested}}}}}"#
        ));
        assert!(parse(unread.as_bytes()).is_ok());
        let read = review(&format!(
            r#"{{"uid": "1", "operation": "CREATE", "object": {{"spec": {nested}}}}}"#
        ));
        assert!(parse(read.as_bytes()).is_err());
    }
}
