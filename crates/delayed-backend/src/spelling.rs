//! Suggests the name that was meant.

/// How similar a name has to be for a suggestion, from 0 to 1. The limit of clap, 0.7, accepts even a single letter for a
/// short name.
const SIMILAR: f64 = 0.75;

/// Returns the name that this one is probably a misspelling of.
pub(crate) fn similar<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let rated = names.into_iter().map(|known| (strsim::jaro(name, known), known));
    let best = rated.max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.filter(|(similarity, _)| *similarity > SIMILAR).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_similar_names_are_suggested() {
        let known = ["status", "headers", "json"];
        for (name, expected) in [("statsu", Some("status")), ("header", Some("headers")), ("x", None), ("", None)] {
            assert_eq!(similar(name, known), expected, "{name}");
        }
    }
}
