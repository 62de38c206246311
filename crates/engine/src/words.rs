//! Words of command lines, also of those that stand in one string for a shell.

use std::borrow::Cow;

use crate::object::Container;

/// One word of a container's command line.
#[derive(Clone, Debug)]
pub(crate) struct Word<'w> {
    /// `command` or `args`.
    pub field: &'static str,
    /// Index in that list.
    pub index: usize,
    /// The word, without quotes.
    pub text: Cow<'w, str>,
}

/// The words of `command` and `args`, in the order in which the process gets them.
pub(crate) fn command_line<'w>(container: &'w Container<'_>) -> impl Iterator<Item = Word<'w>> {
    let lists = [("command", &container.command), ("args", &container.args)];
    lists.into_iter().flat_map(|(field, list)| {
        list.iter()
            .enumerate()
            .flat_map(move |(index, element)| words(element).map(move |text| Word { field, index, text }))
    })
}

/// The words of one element: itself, or where it holds whitespace what a shell would make of it.
pub(crate) fn words(element: &str) -> Words<'_> {
    Words {
        rest: element,
        is_script: element.contains(char::is_whitespace),
    }
}

/// Splits as a shell does, without expanding anything.
#[derive(Debug)]
pub(crate) struct Words<'w> {
    rest: &'w str,
    is_script: bool,
}

impl<'w> Iterator for Words<'w> {
    type Item = Cow<'w, str>;

    fn next(&mut self) -> Option<Cow<'w, str>> {
        if !self.is_script {
            let whole = std::mem::take(&mut self.rest);
            return (!whole.is_empty()).then_some(Cow::Borrowed(whole));
        }
        self.rest = self.rest.trim_start_matches(ends_word);
        // A line that goes on, or a comment.
        while let Some(rest) = self
            .rest
            .strip_prefix("\\\n")
            .or_else(|| after_comment(self.rest))
        {
            self.rest = rest.trim_start_matches(ends_word);
        }
        if self.rest.is_empty() {
            return None;
        }
        let end = word_end(self.rest);
        let (word, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        Some(without_quotes(word))
    }
}

/// What follows the comment that `rest` begins with.
fn after_comment(rest: &str) -> Option<&str> {
    let comment = rest.strip_prefix('#')?;
    Some(comment.split_once('\n').map_or("", |(_, after)| after))
}

fn ends_word(it: char) -> bool {
    it.is_whitespace() || matches!(it, ';' | '|' | '&')
}

/// Where the first word of `text` ends, in bytes: quotes keep what stands between them together.
fn word_end(text: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    for (at, it) in text.char_indices() {
        match quote {
            _ if escaped => escaped = false,
            _ if it == '\\' && quote != Some('\'') => escaped = true,
            Some(open) if open == it => quote = None,
            Some(_) => {}
            None if matches!(it, '"' | '\'') => quote = Some(it),
            None if ends_word(it) => return at,
            None => {}
        }
    }
    text.len()
}

fn without_quotes(word: &str) -> Cow<'_, str> {
    if !word.contains(['"', '\'', '\\']) {
        return Cow::Borrowed(word);
    }
    let mut text = String::with_capacity(word.len());
    let mut quote = None;
    let mut chars = word.chars();
    while let Some(it) = chars.next() {
        match quote {
            _ if it == '\\' && quote != Some('\'') => text.extend(chars.next()),
            Some(open) if open == it => quote = None,
            None if matches!(it, '"' | '\'') => quote = Some(it),
            _ => text.push(it),
        }
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(element: &str) -> Vec<String> {
        words(element).map(Cow::into_owned).collect()
    }

    #[test]
    fn an_element_without_whitespace_is_one_word() {
        assert_eq!(split("--cors-origins='*'"), ["--cors-origins='*'"]);
    }

    #[test]
    fn a_script_is_split_as_a_shell_would() {
        let script = "export A=\"x y\"; exec app --allow-origin '*' \\\n --b=a\\ b|tee log";
        assert_eq!(
            split(script),
            [
                "export",
                "A=x y",
                "exec",
                "app",
                "--allow-origin",
                "*",
                "--b=a b",
                "tee",
                "log"
            ]
        );
    }

    #[test]
    fn comments_are_no_words() {
        assert_eq!(split("# never --cors=*\napp --a#b ;# x\n# y"), ["app", "--a#b"]);
    }

    #[test]
    fn an_open_quote_ends_with_the_text() {
        assert_eq!(split("a 'b c"), ["a", "b c"]);
    }
}
