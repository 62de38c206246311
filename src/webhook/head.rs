//! The head of a review that is too large to be read: whom to answer, and about what. The API server writes the two
//! objects last.

use std::borrow::Cow;
use std::fmt;

use portcullis_engine::request::Operation;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, de};

/// No name is longer; at `/mutate` it is not yet known whether it is one.
const MAX_PART_CHARS: usize = 253;

/// What stands before the objects. A field that the bytes do not reach is `None`.
#[derive(Debug, Default, PartialEq)]
pub struct Head {
    /// Names the question.
    pub uid: Option<String>,
    /// Kind of the object.
    pub kind: Option<String>,
    /// Name of the object; none where it is yet to be generated.
    pub name: Option<String>,
    /// Namespace of the object.
    pub namespace: Option<String>,
    /// What is to be done.
    pub operation: Option<Operation>,
}

impl Head {
    /// Reads as much as `bytes`, the beginning of a body, tell.
    pub fn read(bytes: &[u8]) -> Self {
        let mut head = Self::default();
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        // The bytes end in the middle of the text: what was read until then is what there is to know.
        drop(Review(&mut head).deserialize(&mut reader));
        head
    }

    /// Names the object in messages, such as `Ingress agents/api`.
    pub fn what(&self) -> String {
        let part = |it: &Option<String>| -> String {
            let text = it.as_deref().unwrap_or_default();
            text.chars()
                .filter(|it| !it.is_control())
                .take(MAX_PART_CHARS)
                .collect()
        };
        let kind = self.kind.as_deref().unwrap_or("object");
        format!("{kind} {}/{}", part(&self.namespace), part(&self.name))
    }
}

/// The AdmissionReview itself.
struct Review<'h>(&'h mut Head);

/// Its `request`.
struct Request<'h>(&'h mut Head);

#[derive(Deserialize)]
struct GroupVersionKind {
    kind: String,
}

impl<'de> DeserializeSeed<'de> for Review<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Review<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an AdmissionReview")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key::<Cow<'de, str>>()? {
            match &*field {
                "request" => return map.next_value_seed(Request(self.0)),
                _ => map.next_value::<IgnoredAny>()?,
            };
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Request<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Request<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request of an AdmissionReview")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let head = self.0;
        while let Some(field) = map.next_key::<Cow<'de, str>>()? {
            match &*field {
                "uid" => head.uid = map.next_value()?,
                "kind" => head.kind = Some(map.next_value::<GroupVersionKind>()?.kind),
                "name" => head.name = map.next_value()?,
                "namespace" => head.namespace = map.next_value()?,
                "operation" => head.operation = map.next_value()?,
                // Within them there is nothing of the head.
                "object" | "oldObject" => return Err(de::Error::custom("the head ends here")),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the API server writes it.
    const REVIEW: &str = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"42","kind":{"group":"networking.k8s.io","version":"v1","kind":"Ingress"},"resource":{"group":"networking.k8s.io","version":"v1","resource":"ingresses"},"name":"api","namespace":"agents","operation":"CREATE","userInfo":{"username":"alice"},"object":{"kind":"Ingress","metadata":{"uid":"7","name":"other","#;

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn the_head_is_read_from_a_body_that_breaks_off() {
        let head = Head::read(REVIEW.as_bytes());
        assert_eq!(
            head,
            Head {
                uid: text("42"),
                kind: text("Ingress"),
                name: text("api"),
                namespace: text("agents"),
                operation: Some(Operation::Create),
            }
        );
        assert_eq!(head.what(), "Ingress agents/api");
    }

    #[test]
    fn what_the_bytes_do_not_reach_is_not_guessed() {
        let end = REVIEW.find("\"namespace\"").unwrap();
        let head = Head::read(&REVIEW.as_bytes()[..end]);
        assert_eq!(
            (head.uid, head.namespace, head.operation),
            (text("42"), None, None)
        );
        assert_eq!(Head::read(b"[1, 2"), Head::default());
        assert_eq!(Head::read(b""), Head::default());
    }
}
