//! Field paths: by name for people, by index for machines.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use crate::text::printable;

/// The API server allows no longer name; what offends may be no name at all.
const MAX_NAME_CHARS: usize = 253;

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

impl Segment {
    /// Field, key or the item's name; empty for an item without one.
    fn name(&self) -> &str {
        match self {
            Self::Field(name) => name,
            Self::Item { name, .. } => name.as_deref().unwrap_or_default(),
            Self::Key(key) => key,
        }
    }
}

/// Where in an object something was found. The part up to the pod template differs between kinds and can be left
/// out, so that a Pod and the Deployment that owns it can be compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath {
    segments: Vec<Segment>,
    template: usize,
    /// How many steps say which demand it is; all, where none is stated.
    identifying: Option<usize>,
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
            identifying: None,
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

    /// This path, at which any item below it would do: the steps that follow say where to begin, and not which demand it
    /// is.
    #[must_use]
    pub(crate) fn any_below(mut self) -> Self {
        self.identifying = Some(self.segments.len());
        self
    }

    /// The steps, from the object's root.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// With names: `spec.template.spec.containers[api].env[CORS]`. For people.
    #[must_use]
    pub fn display(&self) -> String {
        render(&self.segments, Items::Named)
    }

    /// With indices: `spec.template.spec.containers[0].env[3]`. For machines.
    #[must_use]
    pub fn indexed(&self) -> String {
        render(&self.segments, Items::Indexed)
    }

    /// As [`FieldPath::display`], from the pod template on: equal for a Pod and the workload that made it.
    #[must_use]
    pub fn within_template(&self) -> String {
        render(
            self.segments.get(self.template..).unwrap_or_default(),
            Items::Named,
        )
    }

    /// The steps by which a demand is recognised in another version of the object or in its owner: from the pod template
    /// on, and without the index of an item that has no name, since an item more moves all that follow.
    pub(crate) fn identity(&self) -> Vec<&str> {
        let end = self.identifying.unwrap_or(self.segments.len());
        let segments = self.segments.get(self.template..end).unwrap_or_default();
        segments.iter().map(Segment::name).collect()
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display())
    }
}

/// How an item of a list is told.
#[derive(Clone, Copy, PartialEq)]
enum Items {
    Named,
    Indexed,
}

fn render(segments: &[Segment], items: Items) -> String {
    let mut text = String::new();
    for segment in segments {
        // Writing to a String cannot fail.
        let _ = match segment {
            Segment::Field(name) if text.is_empty() => write!(text, "{name}"),
            Segment::Field(name) => write!(text, ".{name}"),
            Segment::Item { name: Some(name), .. } if items == Items::Named => {
                write!(text, "[{}]", printable(name, MAX_NAME_CHARS))
            }
            Segment::Item { index, .. } => write!(text, "[{index}]"),
            Segment::Key(key) => write!(text, "[{}]", printable(key, MAX_NAME_CHARS)),
        };
    }
    text
}
