//! The recorded runs in `docs` are of this command line.

use clap::Parser;

use super::Arguments;

/// The words of a line as a shell splits it: of its first command only, and without what a shell puts in.
fn words_of_shell(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote): (Vec<String>, Option<String>, Option<char>) = Default::default();
    for one in line.chars() {
        match (quote, one) {
            (None, '|' | ';' | '>') => break,
            (None, ' ') => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(one);
                word.get_or_insert_default();
            }
            (Some(begun), end) if begun == end => quote = None,
            _ => word.get_or_insert_default().push(one),
        }
    }
    words.into_iter().chain(word).collect()
}

#[test]
fn recorded_runs_are_of_this_command_line() {
    // Below the package, where Cargo runs tests: not compiled in, as clones may share a target folder.
    let folder = "docs";
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for line in
            text.lines().filter_map(|line| line.strip_prefix("$ ")).filter(|line| line.starts_with("stint "))
        {
            let (name, line) = (path.display(), line.trim_end());
            // What it wrote ends where the next one begins.
            let written = &text[text.find(line).unwrap() + line.len()..];
            let is_bad_on_purpose = written.split("\n$ ").next().unwrap().contains("(exit code 2)");
            let parsed = Arguments::try_parse_from(words_of_shell(line));
            assert!(parsed.is_ok() || is_bad_on_purpose, "{name}: {line}: {:?}", parsed.err());
            count += 1;
        }
    }
    assert!(count > 20, "the records were found: {count}");
}
