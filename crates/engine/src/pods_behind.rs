//! The pods behind an Ingress: of its Services' selectors, the pods and the templates of pods that they match.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Labels of a pod, or of a template of pods.
pub type Labels = BTreeMap<String, String>;

/// A Service that an Ingress sends requests to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// There is no Service of this name.
    Absent,
    /// It has a selector.
    Selects(Labels),
    /// It has none: an `ExternalName`, or endpoints that are written by hand. It leads to no pods of its own.
    Elsewhere,
}

/// What is known of the pods behind an Ingress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodsBehind {
    /// Labels of pods and templates, each set once.
    pub labels: Vec<Labels>,
    /// Why nobody can tell yet which pods are behind one of the Services, in a part of a sentence.
    pub awaited: Option<Arc<str>>,
}

impl PodsBehind {
    /// The pods behind `services` of `namespace`, by name. `labels` are those of the namespace's pods and templates:
    /// a template counts, since whoever applies an Ingress before its pods run gets the same pods behind it.
    pub fn of<'b>(
        namespace: &str,
        services: impl IntoIterator<Item = (&'b str, &'b Backend)>,
        labels: impl IntoIterator<Item = &'b Labels> + Clone,
    ) -> Self {
        let mut behind = Self::default();
        for (name, service) in services {
            let why = match service {
                Backend::Elsewhere => continue,
                Backend::Absent => "does not exist",
                Backend::Selects(selector) => {
                    let all = labels.clone().into_iter();
                    let mut matching = all.filter(|it| is_selected(selector, it)).peekable();
                    if matching.peek().is_some() {
                        behind.labels.extend(matching.cloned());
                        continue;
                    }
                    "selects no workload yet"
                }
            };
            behind
                .awaited
                .get_or_insert_with(|| format!("Service {namespace}/{name} {why}").into());
        }
        behind.labels.sort();
        behind.labels.dedup();
        behind
    }
}

fn is_selected(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        text.split(',')
            .filter_map(|it| it.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn what_a_selector_matches_is_behind_the_service() {
        let (web, api) = (labels("app=web,tier=front"), labels("app=api"));
        let service = Backend::Selects(labels("app=web"));
        let behind = PodsBehind::of("agents", [("a", &service), ("b", &service)], [&web, &api]);
        assert_eq!(behind.labels, [web]);
        assert_eq!(behind.awaited, None);
    }

    #[test]
    fn the_first_service_without_pods_is_named() {
        let nothing = Backend::Selects(labels("app=other"));
        let found = Backend::Selects(labels("app=api"));
        let api = labels("app=api");
        let services = [("api", &found), ("gone", &Backend::Absent), ("later", &nothing)];
        let behind = PodsBehind::of("agents", services, [&api]);
        assert_eq!(behind.labels.as_slice(), std::slice::from_ref(&api));
        assert_eq!(
            behind.awaited.as_deref(),
            Some("Service agents/gone does not exist")
        );
        let behind = PodsBehind::of("agents", [("later", &nothing)], [&api]);
        assert_eq!(
            behind.awaited.as_deref(),
            Some("Service agents/later selects no workload yet")
        );
    }

    #[test]
    fn a_service_without_a_selector_awaits_nothing() {
        let behind = PodsBehind::of("agents", [("outside", &Backend::Elsewhere)], []);
        assert_eq!(behind, PodsBehind::default());
    }
}
