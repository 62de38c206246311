//! Workloads of every kind, and a policy that they break, as YAML.

/// Everything that is not under test is out of the way.
pub const STRICT: &str = r##"
  rulesVersion: v1
  environment: Production
  enforcement: Deny
  contact: "#agents-platform"
  workloads: { scope: Namespace }
  rules:
    - { id: pod/read-only-root-filesystem, enforcement: Disabled }
    - { id: pod/resources, enforcement: Disabled }
    - { id: pod/probes, enforcement: Disabled }
  podSecurity: { level: Restricted, defaults: [SeccompProfile, AllowPrivilegeEscalation, DropCapabilities] }
"##;

/// A pod spec in one line; `extra` goes into its only container.
pub fn pod_spec(security: &str, extra: &str) -> String {
    format!(
        "{{ securityContext: {security}, restartPolicy: RESTART, containers: [{{ name: api, image: registry.test/api:v1{extra} }}] }}"
    )
}

/// A workload of any kind around a pod spec.
pub fn workload(kind: &str, namespace: &str, name: &str, pod_spec: &str) -> String {
    let metadata = format!("metadata: {{ name: {name}, labels: {{ app: {name} }}, namespace: {namespace} }}");
    let restart = if matches!(kind, "Job" | "CronJob") {
        "Never"
    } else {
        "Always"
    };
    let pod_spec = pod_spec.replace("RESTART", restart);
    let template = format!("{{ metadata: {{ labels: {{ app: {name} }} }}, spec: {pod_spec} }}");
    let selector = format!("selector: {{ matchLabels: {{ app: {name} }} }}");
    let (version, rest) = match kind {
        "Pod" => ("v1", format!("spec: {pod_spec}")),
        "PodTemplate" => ("v1", format!("template: {template}")),
        "ReplicationController" => (
            "v1",
            format!("spec: {{ selector: {{ app: {name} }}, template: {template} }}"),
        ),
        "Job" => ("batch/v1", format!("spec: {{ template: {template} }}")),
        "CronJob" => (
            "batch/v1",
            format!("spec: {{ schedule: '0 0 * * *', jobTemplate: {{ spec: {{ template: {template} }} }} }}"),
        ),
        "StatefulSet" => (
            "apps/v1",
            format!("spec: {{ serviceName: {name}, {selector}, template: {template} }}"),
        ),
        _ => ("apps/v1", format!("spec: {{ {selector}, template: {template} }}")),
    };
    format!("apiVersion: {version}\nkind: {kind}\n{metadata}\n{rest}\n")
}

pub fn deployment(namespace: &str, name: &str, pod_spec: &str) -> String {
    workload("Deployment", namespace, name, pod_spec)
}

pub const NON_ROOT: &str = "{ runAsNonRoot: true }";
