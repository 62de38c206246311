//! The part of the webhook's paths that only the API server knows: it shows no certificate of its own, and whoever else
//! reaches the port must not be able to ask about objects of other people.

use std::fmt;

use rustls::crypto::{GetRandomFailed, ring};

/// Bytes of randomness.
const BYTES: usize = 32;

/// The last segment of the webhook's paths. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate() -> Result<Self, GetRandomFailed> {
        let mut bytes = [0; BYTES];
        ring::default_provider().secure_random.fill(&mut bytes)?;
        Ok(Self(bytes.iter().map(|it| format!("{it:02x}")).collect()))
    }

    /// One that was written down; `None` when it cannot be one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let is_ours = text.len() == BYTES * 2 && text.bytes().all(|it| it.is_ascii_hexdigit());
        is_ours.then(|| Self(text.to_owned()))
    }

    /// To write it down, or into a path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a client stated it. Takes as long for a guess that is nearly right as for any other.
    pub fn is(&self, stated: &str) -> bool {
        let pairs = self.0.bytes().zip(stated.bytes());
        let difference = pairs.fold(0, |difference, (one, other)| difference | (one ^ other));
        stated.len() == self.0.len() && difference == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// By what the API server calls the webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// The certificates, in PEM, by which it trusts the webhook.
    pub ca_bundle: Vec<u8>,
    /// By which the webhook trusts it.
    pub token: Token,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const WRITTEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[rstest]
    #[case("", false)]
    #[case("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde", false)]
    #[case("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdee", false)]
    #[case(WRITTEN, true)]
    fn only_the_whole_token_is_it(#[case] stated: &str, #[case] is: bool) {
        assert_eq!(Token::parse(WRITTEN).unwrap().is(stated), is);
    }

    #[rstest]
    #[case("")]
    #[case("0123456789abcdef")]
    #[case("../../../../../../../../../../../../../../../../../../../../../.")]
    fn what_we_never_wrote_is_no_token(#[case] text: &str) {
        assert_eq!(Token::parse(text), None);
    }

    #[test]
    fn no_two_are_equal_and_none_is_shown() {
        let (one, other) = (Token::generate().unwrap(), Token::generate().unwrap());
        assert_ne!(one.as_str(), other.as_str());
        assert_eq!(Token::parse(one.as_str()).as_ref(), Some(&one));
        assert_eq!(format!("{one:?}"), "Token");
    }
}
