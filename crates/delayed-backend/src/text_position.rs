//! Where a mistake is in a text, for its message.

/// Returns the line and the column of a position in bytes; the first of each is number 1. Columns count characters.
pub(crate) fn line_and_column(text: &str, position: usize) -> (usize, usize) {
    let before = text.get(..position).unwrap_or(text);
    let last_line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, last_line.chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_begin_at_one() {
        let text = "é,\nok";
        for (position, expected) in [(0, (1, 1)), (2, (1, 2)), (3, (1, 3)), (4, (2, 1)), (6, (2, 3)), (9, (2, 3))] {
            assert_eq!(line_and_column(text, position), expected, "{position}");
        }
        assert_eq!(line_and_column("", 0), (1, 1));
    }
}
