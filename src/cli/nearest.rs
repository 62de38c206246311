//! Which known word was probably meant.

/// `; did you mean `secret/missing`?`, or nothing when no known word is near.
pub(super) fn hint<'w>(text: &str, known: impl IntoIterator<Item = &'w str>) -> String {
    let near = known
        .into_iter()
        .map(|word| (distance(text, word), word))
        .filter(|(distance, word)| *distance <= (word.chars().count() / 3).max(2))
        .min();
    near.map_or_else(String::new, |(_, word)| format!("; did you mean `{word}`?"))
}

/// Levenshtein distance: how many letters must be added, dropped or replaced.
fn distance(one: &str, other: &str) -> usize {
    let mut previous: Vec<usize> = (0..=other.chars().count()).collect();
    for (row, a) in one.chars().enumerate() {
        let mut diagonal = row;
        let mut left = row + 1;
        let mut current = vec![left];
        for (b, above) in other.chars().zip(previous.iter().skip(1)) {
            left = (left + 1).min(above + 1).min(diagonal + usize::from(a != b));
            diagonal = *above;
            current.push(left);
        }
        previous = current;
    }
    previous.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{distance, hint};

    #[test]
    fn distance_counts_added_dropped_and_replaced_letters() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("enforcemnt", "enforcement"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn only_a_near_word_is_proposed() {
        let known = ["secret/missing", "secret/literal"];
        assert_eq!(hint("secret/mising", known), "; did you mean `secret/missing`?");
        assert_eq!(hint("network/open", known), "");
    }
}
