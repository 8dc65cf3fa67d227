//! Label selectors as text, such as `app=web,tier in (a, b),!old`.
//!
//! Owns: parsing, formatting, matching. Does not own: which objects are looked at.

use crate::limits::SELECTOR_REQUIREMENTS_MAX;
use crate::meta::{LabelOperator, LabelRequirement, LabelSelector, StringMap};
use crate::names::{check_label_value, check_qualified_name};
use std::fmt;

/// A text that is not a label selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unable to parse selector {text:?}: {problem}")]
pub struct ParseSelectorError {
    text: String,
    problem: String,
}

/// Parses `kubectl -l`'s form: `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b,c)`, `a`, `!a`, joined by commas.
/// An empty text selects everything.
///
/// # Errors
/// What is wrong with the text.
pub fn parse(text: &str) -> Result<LabelSelector, ParseSelectorError> {
    let mut selector = LabelSelector::default();
    for part in split_requirements(text) {
        let part = part.trim();
        if part.is_empty() {
            continue;
        }
        let failed = |problem: String| ParseSelectorError { text: text.to_owned(), problem };
        let requirement = parse_requirement(part).map_err(failed)?;
        if selector.match_expressions.len() == SELECTOR_REQUIREMENTS_MAX {
            return Err(failed(format!("more than {SELECTOR_REQUIREMENTS_MAX} requirements")));
        }
        selector.match_expressions.push(requirement);
    }
    Ok(selector)
}

impl LabelSelector {
    /// True if all requirements hold for these labels. An empty selector matches everything.
    pub fn matches(&self, labels: &StringMap) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.matches(labels))
    }

    /// True if it selects everything.
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }
}

impl LabelRequirement {
    /// True if the requirement holds for these labels.
    pub fn matches(&self, labels: &StringMap) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            LabelOperator::In => value.is_some_and(|value| self.values.contains(value)),
            LabelOperator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let equalities = self.match_labels.iter().map(|(key, value)| format!("{key}={value}"));
        let requirements = self.match_expressions.iter().map(|requirement| {
            let (key, values) = (&requirement.key, requirement.values.join(","));
            match requirement.operator {
                LabelOperator::In if requirement.values.len() == 1 => format!("{key}={values}"),
                LabelOperator::NotIn if requirement.values.len() == 1 => format!("{key}!={values}"),
                LabelOperator::In => format!("{key} in ({values})"),
                LabelOperator::NotIn => format!("{key} notin ({values})"),
                LabelOperator::Exists => key.clone(),
                LabelOperator::DoesNotExist => format!("!{key}"),
            }
        });
        let parts: Vec<String> = equalities.chain(requirements).collect();
        formatter.write_str(&parts.join(","))
    }
}

/// Splits at commas that are not within parentheses.
fn split_requirements(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut begin) = (0_i32, 0);
    for (position, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth <= 0 => {
                parts.push(&text[begin..position]);
                begin = position + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

fn parse_requirement(part: &str) -> Result<LabelRequirement, String> {
    let requirement = |key: &str, operator, values: Vec<&str>| {
        let key = key.trim();
        check_qualified_name(key).map_err(|problem| format!("key {key:?}: {problem}"))?;
        for value in &values {
            check_label_value(value).map_err(|problem| format!("value {value:?}: {problem}"))?;
        }
        let values = values.into_iter().map(str::to_owned).collect();
        Ok(LabelRequirement { key: key.to_owned(), operator, values })
    };
    if let Some(key) = part.strip_prefix('!') {
        return requirement(key, LabelOperator::DoesNotExist, Vec::new());
    }
    if let Some((key, value)) = part.split_once("!=") {
        return requirement(key, LabelOperator::NotIn, vec![value.trim()]);
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return requirement(key, LabelOperator::In, vec![value.trim()]);
    }
    if let Some(list) = part.strip_suffix(')') {
        let (head, list) = list.split_once('(').ok_or("a ')' without its '('")?;
        let values: Vec<&str> = list.split(',').map(str::trim).collect();
        let (key, word) =
            head.trim().split_once(char::is_whitespace).ok_or("expected 'in' or 'notin' before '('")?;
        return match word.trim() {
            "in" => requirement(key, LabelOperator::In, values),
            "notin" => requirement(key, LabelOperator::NotIn, values),
            word => Err(format!("found {word:?}, expected 'in' or 'notin'")),
        };
    }
    requirement(part, LabelOperator::Exists, Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_match_as_in_kubernetes() {
        let labels: StringMap = [("app", "web"), ("tier", "a"), ("empty", "")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        for (text, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web,tier=a", true),
            ("app=other", false),
            ("app!=other", true),
            ("absent!=x", true),
            ("tier in (a, b)", true),
            ("tier notin (a,b)", false),
            ("absent notin (a)", true),
            ("app", true),
            ("!app", false),
            ("!absent", true),
            ("empty=", true),
            ("app in (web),!absent,tier", true),
        ] {
            let selector = parse(text).unwrap();
            assert_eq!(selector.matches(&labels), expected, "{text}");
            assert_eq!(parse(&selector.to_string()), Ok(selector), "{text}");
        }
    }

    #[test]
    fn texts_that_are_no_selectors() {
        for text in
            ["==", "=a", "a in", "a in (b", "a of (b)", "a)", "!", "a b", "a=b c", "-a=b", "a in (b))"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
