//! What the kubelet calls: probes and lifecycle hooks.

use serde::Deserialize;

use super::lenient;
use crate::Text;

/// A probe, or one hook of `lifecycle`, as far as it says where the kubelet connects to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
pub struct Handler<'a> {
    /// A request.
    #[serde(deserialize_with = "lenient")]
    pub http_get: HostField<'a>,
    /// A connection.
    #[serde(deserialize_with = "lenient")]
    pub tcp_socket: HostField<'a>,
}

/// What may name a host.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct HostField<'a> {
    /// Empty means the pod itself.
    #[serde(deserialize_with = "lenient")]
    pub host: Text<'a>,
}

/// `lifecycle` of a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
pub struct Lifecycle<'a> {
    /// After its start.
    #[serde(deserialize_with = "lenient")]
    pub post_start: Option<Handler<'a>>,
    /// Before its end.
    #[serde(deserialize_with = "lenient")]
    pub pre_stop: Option<Handler<'a>>,
}
