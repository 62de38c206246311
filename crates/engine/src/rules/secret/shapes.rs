//! Credentials that are known by their own form, whatever they are called.

/// A text shorter than this holds none of these.
const SHORTEST: usize = 16;

/// What a text holds, if it holds a credential of a known form: `an AWS access key`.
pub(super) fn find(text: &str) -> Option<&'static str> {
    if text.len() < SHORTEST {
        return None;
    }
    let bytes = text.as_bytes();
    let mut before = b' ';
    let mut web_token = WebToken::default();
    for (at, byte) in bytes.iter().enumerate() {
        // Each begins a word of its own; most bytes are passed over here.
        if !before.is_ascii_alphanumeric()
            && matches!(byte, b's' | b'A' | b'x' | b'h' | b'd' | b'g' | b'e' | b'-')
        {
            if let Some(found) = bytes.get(at..).and_then(begins) {
                return Some(found);
            }
            if *byte == b'e' && web_token.begins_at(bytes, at) {
                return Some("a JSON Web Token");
            }
        }
        before = *byte;
    }
    None
}

/// No form asks for a longer run. Nothing looks further, so that a text of nothing but candidates stays linear.
const ENOUGH: usize = 64;

fn begins(bytes: &[u8]) -> Option<&'static str> {
    let after = |prefix: &str| bytes.strip_prefix(prefix.as_bytes());
    let has = |prefix: &str, length: usize| after(prefix).is_some_and(|it| run(it, is_token) >= length);
    if let Some(rest) = after("sk-") {
        let length = run(rest, is_token);
        // `sk-learn-with-a-long-name` has no digit.
        let has_digit = rest.iter().take(length).any(u8::is_ascii_digit);
        return match length >= 20 && has_digit {
            true if rest.starts_with(b"ant-") => Some("an Anthropic API key"),
            true => Some("an OpenAI API key"),
            false => None,
        };
    }
    if let Some(rest) = after("AKIA").or_else(|| after("ASIA")) {
        let is_id = |it: u8| it.is_ascii_uppercase() || it.is_ascii_digit();
        return (run(rest, is_id) == 16 && run(rest, is_token) == 16).then_some("an AWS access key");
    }
    if ["xoxb-", "xoxp-", "xoxa-", "xoxr-", "xoxs-", "xapp-"]
        .iter()
        .any(|it| has(it, 10))
    {
        return Some("a Slack token");
    }
    if has("hooks.slack.com/services/", 8) {
        return Some("a Slack webhook URL");
    }
    if has("discord.com/api/webhooks/", 8) || has("discordapp.com/api/webhooks/", 8) {
        return Some("a Discord webhook URL");
    }
    if ["ghp_", "gho_", "ghu_", "ghs_", "ghr_"]
        .iter()
        .any(|it| has(it, 30))
        || has("github_pat_", 22)
    {
        return Some("a GitHub token");
    }
    if has("glpat-", 20) {
        return Some("a GitLab token");
    }
    if has("AIza", 35) {
        return Some("a Google API key");
    }
    if after("-----BEGIN ").is_some_and(is_private_key) {
        return Some("a private key");
    }
    None
}

fn is_token(it: u8) -> bool {
    it.is_ascii_alphanumeric() || matches!(it, b'_' | b'-')
}

fn run(bytes: &[u8], is_part: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take(ENOUGH).take_while(|it| is_part(**it)).count()
}

/// Looks for header, payload and signature in base64url. A run of letters that holds many candidates, as `-eyJ-eyJ`,
/// ends for all of them at the same place: what follows it is looked at once.
#[derive(Default)]
struct WebToken {
    /// Where the run of the last candidate ends.
    end: usize,
    /// Whether payload and signature follow there.
    goes_on: bool,
}

impl WebToken {
    fn begins_at(&mut self, bytes: &[u8], at: usize) -> bool {
        let Some(header) = bytes.get(at..).and_then(|it| it.strip_prefix(b"eyJ")) else {
            return false;
        };
        let start = bytes.len() - header.len();
        if start > self.end {
            self.end = start + part(header);
            let payload = bytes.get(self.end..).and_then(|it| it.strip_prefix(b"."));
            self.goes_on = payload.is_some_and(|it| {
                let length = part(it);
                let signature = it.get(length..).and_then(|it| it.strip_prefix(b"."));
                length >= 8 && signature.is_some_and(|it| run(it, is_token) >= 16)
            });
        }
        self.goes_on && self.end - start >= 8
    }
}

/// Length of the part that `bytes` begins with.
fn part(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|it| is_token(**it)).count()
}

fn is_private_key(rest: &[u8]) -> bool {
    const END: &[u8] = b"PRIVATE KEY-----";
    rest.windows(END.len()).take(16).any(|it| it == END)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// Put together here, so that no scanner of repositories takes the examples for leaks.
    #[rstest]
    #[case(["sk-", "proj-abcdefghij0123456789"], "an OpenAI API key")]
    #[case(["sk-", "ant-api03-abcdefghij0123456789"], "an Anthropic API key")]
    #[case(["id AK", "IAABCDEFGHIJ012345"], "an AWS access key")]
    #[case(["xo", "xb-123456789012-abcdefghijkl"], "a Slack token")]
    #[case(["https://hooks.slack.com/ser", "vices/T00000000/B00000000/abcdefghijklmnopqrstuvwx"], "a Slack webhook URL")]
    #[case(["gh", "p_abcdefghijklmnopqrstuvwxyz0123456789"], "a GitHub token")]
    #[case(["AI", "zaabcdefghijklmnopqrstuvwxyz012345678"], "a Google API key")]
    #[case(["Bearer ey", "JhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijklmnopqrstuvwxyz"], "a JSON Web Token")]
    #[case(["-----BEGIN RSA PRIV", "ATE KEY-----\nMIIE"], "a private key")]
    fn provider_shapes(#[case] parts: [&str; 2], #[case] expected: &str) {
        assert_eq!(find(&parts.concat()), Some(expected));
    }

    /// Were each candidate followed to the end of its run, this would take minutes.
    #[test]
    fn many_candidates_in_one_run_are_followed_once() {
        assert_eq!(find(&"-eyJ".repeat(256 * 1024)), None);
        assert_eq!(find(&"-eyJabcdefgh.".repeat(80 * 1024)), None);
    }

    #[rstest]
    #[case("sk-learn-with-a-rather-long-name")]
    #[case("task-0123456789abcdefghijklmnop")]
    #[case("-----BEGIN PUBLIC KEY-----\nMIIE")]
    #[case("-----BEGIN CERTIFICATE-----\nMIIE")]
    #[case("AKIAABCDEFGHIJ0123456789")]
    #[case("eyJhbGciOiJIUzI1NiJ9")]
    #[case("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")]
    fn other_texts(#[case] text: &str) {
        assert_eq!(find(text), None);
    }
}
