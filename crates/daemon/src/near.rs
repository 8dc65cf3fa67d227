//! Names near a wrong one.
//!
//! Owns: what is near. Does not own: which names there are.

/// Of two names so much of the longer one may differ, as a divisor of its length.
const DIFFERENT_PART: usize = 3;

/// The name that was probably meant, if one is near.
pub fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    let distance = |name: &str| {
        let name = name.to_lowercase();
        let length = wrong.chars().count().max(name.chars().count());
        let distance = strsim::osa_distance(&wrong, &name);
        // What was only begun is near too: generated names end in characters that nobody remembers.
        let is_begun = wrong.len() >= DIFFERENT_PART && name.starts_with(&wrong);
        (is_begun || distance <= (length / DIFFERENT_PART).max(1)).then_some(distance)
    };
    let near = names.into_iter().filter_map(|name| Some((distance(name)?, name)));
    near.min_by(|one, other| one.cmp(other)).map(|(_, name)| name)
}

/// The end of a message: the name that was probably meant, or nothing.
pub fn did_you_mean<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(wrong, names).map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_found_and_what_is_not_is_not() {
        let names = ["train", "train-eval", "import", "a", "Ärger"];
        for (wrong, expected) in [
            ("trian", Some("train")),
            ("TRAIN", Some("train")),
            ("train-evl", Some("train-eval")),
            ("tra", Some("train")),
            ("improt", Some("import")),
            ("ärge", Some("Ärger")),
            ("b", Some("a")),
            ("export-all", None),
            ("something-else", None),
            ("", Some("a")),
        ] {
            assert_eq!(nearest(wrong, names), expected, "{wrong}");
        }
        assert_eq!(nearest("x", []), None);
        assert_eq!(did_you_mean("trian", names), "; did you mean train?");
        assert_eq!(did_you_mean("something-else", names), "");
    }
}
