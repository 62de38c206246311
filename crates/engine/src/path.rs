//! Field paths: by name for people, by index for machines.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// A field, `.securityContext`
    Field(Cow<'static, str>),
    /// An item of a list: `[0]`, or `[api]` where it has a name
    Item {
        /// Place in the list, from 0.
        index: usize,
        /// Value of its `name`, where it has one.
        name: Option<String>,
    },
    /// A key of a map, `[nginx.ingress.kubernetes.io/enable-cors]`
    Key(String),
}

/// Where in an object something was found. The part up to the pod template differs between kinds and can be left
/// out, so that a Pod and the Deployment that owns it can be compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath {
    segments: Vec<Segment>,
    template: usize,
}

impl FieldPath {
    /// The object itself.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// The pod template or Pod that lies at `fields`, such as `["spec", "template"]`; empty for a Pod.
    #[must_use]
    pub fn template(fields: &'static [&'static str]) -> Self {
        Self {
            segments: fields
                .iter()
                .map(|it| Segment::Field(Cow::Borrowed(it)))
                .collect(),
            template: fields.len(),
        }
    }

    /// This path and one field more.
    #[must_use]
    pub fn field(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.segments.push(Segment::Field(name.into()));
        self
    }

    /// This path and several fields more.
    #[must_use]
    pub fn fields(self, names: &[&'static str]) -> Self {
        names.iter().fold(self, |path, name| path.field(*name))
    }

    /// This path and one item of a list; an empty name counts as none.
    #[must_use]
    pub fn item(mut self, index: usize, name: Option<&str>) -> Self {
        let name = name.filter(|it| !it.is_empty()).map(str::to_owned);
        self.segments.push(Segment::Item { index, name });
        self
    }

    /// This path and one key of a map.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.segments.push(Segment::Key(key.into()));
        self
    }

    /// The steps, from the object's root.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// With names: `spec.template.spec.containers[api].env[CORS]`. For people, and to recognise a violation when
    /// the order of a list changes.
    #[must_use]
    pub fn display(&self) -> String {
        render(&self.segments, true)
    }

    /// With indices: `spec.template.spec.containers[0].env[3]`. For machines.
    #[must_use]
    pub fn indexed(&self) -> String {
        render(&self.segments, false)
    }

    /// As [`FieldPath::display`], from the pod template on: equal for a Pod and the workload that made it.
    #[must_use]
    pub fn within_template(&self) -> String {
        render(self.segments.get(self.template..).unwrap_or_default(), true)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display())
    }
}

fn render(segments: &[Segment], by_name: bool) -> String {
    let mut text = String::new();
    for segment in segments {
        // Writing to a String cannot fail.
        let _ = match segment {
            Segment::Field(name) if text.is_empty() => write!(text, "{name}"),
            Segment::Field(name) => write!(text, ".{name}"),
            Segment::Item { name: Some(name), .. } if by_name => write!(text, "[{name}]"),
            Segment::Item { index, .. } => write!(text, "[{index}]"),
            Segment::Key(key) => write!(text, "[{key}]"),
        };
    }
    text
}
