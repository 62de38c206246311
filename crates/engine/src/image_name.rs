//! Names of images, as a node reads them.
//!
//! Source: the distribution project's grammar of references, and its defaults `docker.io` and `library/`. No namespace has
//! a capital letter, so that what has one is a host.

use std::borrow::Cow;

/// The parts of `registry/repository:tag@digest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageName<'n> {
    /// Registry and repository, such as `docker.io/library/redis`.
    pub repository: Cow<'n, str>,
    /// The tag, where it is stated.
    pub tag: Option<&'n str>,
    /// The digest, where one is stated that has the form of one.
    pub digest: Option<&'n str>,
    /// Whether what follows an `@` has not the form of one.
    pub has_bad_digest: bool,
}

impl<'n> ImageName<'n> {
    /// Reads any text; what has not the form of a name is a repository that nobody has.
    pub(crate) fn parse(text: &'n str) -> Self {
        let (name, stated) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let digest = stated.filter(|it| is_digest(it));
        // The port of a registry is no tag.
        let (repository, tag) = match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (name, None),
        };
        Self {
            repository: with_registry(repository),
            tag,
            digest,
            has_bad_digest: stated.is_some() && digest.is_none(),
        }
    }

    /// Whether it has the form of a name at all.
    pub(crate) fn is_valid(&self) -> bool {
        let is_part = |it: &str| {
            !it.is_empty()
                && it
                    .bytes()
                    .all(|it| matches!(it, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
        };
        let path = self.repository.split_once('/').map(|(_, path)| path);
        path.is_some_and(|it| it.split('/').all(is_part))
    }

    /// Whether it lies in `prefix`, a registry or a repository: `ghcr.io/acme-evil` does not lie in `ghcr.io/acme`.
    pub(crate) fn is_in(&self, prefix: &str) -> bool {
        let prefix = prefix.trim_end_matches('/');
        let prefix = prefix
            .strip_prefix("index.")
            .filter(|it| is_docker_hub(it))
            .unwrap_or(prefix);
        let rest = self.repository.strip_prefix(prefix);
        rest.is_some_and(|it| it.is_empty() || it.starts_with('/'))
    }
}

fn with_registry(repository: &str) -> Cow<'_, str> {
    let has_capital = |it: &str| it.bytes().any(|it| it.is_ascii_uppercase());
    let is_host = |it: &str| it.contains(['.', ':']) || it == "localhost" || has_capital(it);
    match repository.split_once('/') {
        Some(("docker.io" | "index.docker.io", path)) => on_docker_hub(path),
        Some((host, _)) if is_host(host) => Cow::Borrowed(repository),
        _ => on_docker_hub(repository),
    }
}

fn on_docker_hub(path: &str) -> Cow<'_, str> {
    match path.contains('/') {
        true => Cow::Owned(format!("docker.io/{path}")),
        false => Cow::Owned(format!("docker.io/library/{path}")),
    }
}

fn is_docker_hub(prefix: &str) -> bool {
    prefix == "docker.io" || prefix.starts_with("docker.io/")
}

/// `sha256:` and 64 digits, or 128 after `sha512:`.
fn is_digest(text: &str) -> bool {
    let is_hex =
        |it: &str, length| it.len() == length && it.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
    match text.split_once(':') {
        Some(("sha256", hex)) => is_hex(hex, 64),
        Some(("sha512", hex)) => is_hex(hex, 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const SHA: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[rstest]
    #[case("redis", "docker.io/library/redis", None)]
    #[case("redis:7-alpine", "docker.io/library/redis", Some("7-alpine"))]
    #[case("docker.io/redis:7", "docker.io/library/redis", Some("7"))]
    #[case("index.docker.io/library/redis:7", "docker.io/library/redis", Some("7"))]
    #[case("acme/api:1.0", "docker.io/acme/api", Some("1.0"))]
    #[case("localhost/api", "localhost/api", None)]
    #[case("registry:5000/api", "registry:5000/api", None)]
    #[case("registry:5000/api:1", "registry:5000/api", Some("1"))]
    #[case("ghcr.io/acme/api:1.0", "ghcr.io/acme/api", Some("1.0"))]
    #[case("Mirror/library/redis:7.2", "Mirror/library/redis", Some("7.2"))]
    fn names(#[case] text: &str, #[case] repository: &str, #[case] tag: Option<&str>) {
        let name = ImageName::parse(text);
        assert_eq!(
            (&*name.repository, name.tag, name.digest),
            (repository, tag, None)
        );
    }

    #[test]
    fn a_digest_stands_beside_a_tag() {
        let text = format!("ghcr.io/acme/api:1.0@{SHA}");
        let name = ImageName::parse(&text);
        assert_eq!((name.tag, name.digest), (Some("1.0"), Some(SHA)));
        let malformed = ImageName::parse("ghcr.io/acme/api@sha256:1234");
        assert_eq!((malformed.digest, malformed.has_bad_digest), (None, true));
    }

    #[rstest]
    #[case("ghcr.io/acme/api", "ghcr.io/acme", true)]
    #[case("ghcr.io/acme/api", "ghcr.io/acme/", true)]
    #[case("ghcr.io/acme/api", "ghcr.io", true)]
    #[case("ghcr.io/acme/api", "ghcr.io/acme/api", true)]
    #[case("ghcr.io/acme-evil/api", "ghcr.io/acme", false)]
    #[case("redis", "docker.io/library", true)]
    #[case("redis", "index.docker.io/library/redis", true)]
    #[case("redis", "docker.io/acme", false)]
    fn where_names_lie(#[case] text: &str, #[case] prefix: &str, #[case] expected: bool) {
        assert_eq!(ImageName::parse(text).is_in(prefix), expected);
    }
}
