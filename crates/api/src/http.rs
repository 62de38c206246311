//! `spec.http`: what the application serves.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What the application serves over HTTP.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Http {
    /// Which origins may call it from a browser.
    /// Example: `{env: CORS_ORIGINS, allowedOrigins: ["https://app.example.com"]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
}

/// Cross-origin requests.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Cors {
    /// Variable from which the application reads its allowed origins; an `HttpService` must set it. Variables with
    /// usual names (`CORS_ORIGINS`, `ALLOWED_ORIGINS`, …) are judged as well. Example: `MAGSAG_CORS_ORIGINS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z][-._a-zA-Z0-9]*$"))]
    pub env: Option<String>,

    /// The only origins that may be allowed, each as scheme and host, with a port where it is not the scheme's own.
    /// Absent means that any full origin is accepted. Example: `["https://app.example.com"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 64),
        inner(
            length(min = 1, max = 262),
            regex(
                pattern = r"^https?://([a-zA-Z0-9]([-.a-zA-Z0-9]*[a-zA-Z0-9])?|\[[0-9a-fA-F:.]{2,45}\])(:[0-9]{1,5})?$"
            )
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allowed_origins: Option<Vec<String>>,
}
