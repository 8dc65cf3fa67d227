//! `$(VAR)` in commands, arguments and environment values, by Kubernetes' rules.
//!
//! Owns: the expansion of one text. Does not own: which variables are known where (`spec`).

use std::collections::HashMap;

/// Replaces each `$(NAME)` by the value of `NAME`.
///
/// `$$` is one `$` and begins nothing, so `$$(NAME)` is the text `$(NAME)`. A name that is not known stays as written,
/// and so does any other `$`. What was put in is not expanded again.
pub fn expand_variables(text: &str, env: &HashMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match env.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let env = [("A", "1"), ("B", "$(A)"), ("EMPTY", ""), ("WITH SPACE", "s"), ("Ü", "umlaut")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(expand_variables(text, &env), expected, "expanding {text:?}");
    }

    #[test]
    fn replaces_known_names_once() {
        check("$(A)", "1");
        check("x$(A)y$(A)z", "x1y1z");
        check("$(B)", "$(A)");
        check("[$(EMPTY)]", "[]");
        check("$(WITH SPACE)$(Ü)", "sumlaut");
    }

    #[test]
    fn leaves_unknown_names_and_other_dollars() {
        check("$(UNKNOWN)", "$(UNKNOWN)");
        check("$()", "$()");
        check("$A ${A} $", "$A ${A} $");
        check("$(A", "$(A");
        check("$ü", "$ü");
        check("$($(A))", "$($(A))");
    }

    #[test]
    fn doubled_dollar_is_an_escape() {
        check("$$(A)", "$(A)");
        check("$$$(A)", "$1");
        check("$$$$(A)", "$$(A)");
        check("$$", "$");
        check("$$A", "$A");
    }
}
