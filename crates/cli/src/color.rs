//! Colours: whether there are any, and what each of them says.
//!
//! Owns: the choice (`--color`, `NO_COLOR`, terminals), the tones of words. Does not own: writing (`output`).
//!
//! Invariant: colour repeats what the words say, and never says more.

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::sync::OnceLock;

/// When there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum When {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb
    #[default]
    Auto,
    /// Also into files and pipes
    Always,
    /// Nowhere
    Never,
}

/// Where something is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// It is as it should be: green.
    Good,
    /// It failed: red.
    Bad,
    /// It is not yet, or not quite, as it should be: yellow.
    Doubtful,
    /// What to do next: cyan.
    Hint,
}

impl Tone {
    /// As ANSI has it.
    pub fn ansi(self) -> AnsiColor {
        match self {
            Tone::Good => AnsiColor::Green,
            Tone::Bad => AnsiColor::Red,
            Tone::Doubtful => AnsiColor::Yellow,
            Tone::Hint => AnsiColor::Cyan,
        }
    }
}

/// Colours that tell the Pods of a Job apart; none of them is a tone of success or failure.
const OF_PODS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::BrightCyan,
    AnsiColor::BrightMagenta,
    AnsiColor::BrightBlue,
];

/// Until it is set there are none, as in tests.
static CHOICE: OnceLock<When> = OnceLock::new();

/// Decides it for the whole process; only the first call counts.
pub fn choose(when: When) {
    let _ = CHOICE.set(when);
}

/// True if what is written there has colours.
pub fn is_on(stream: Stream) -> bool {
    let is_terminal = || match stream {
        Stream::Stdout => std::io::stdout().is_terminal(),
        Stream::Stderr => std::io::stderr().is_terminal(),
    };
    match CHOICE.get() {
        None | Some(When::Never) => false,
        Some(When::Always) => true,
        Some(When::Auto) => may_be_on(|name| std::env::var_os(name)) && is_terminal(),
    }
}

/// What the environment allows: https://no-color.org, and terminals that know nothing but text.
fn may_be_on(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let refused = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = variable("TERM").is_some_and(|value| value == "dumb");
    !refused && !is_dumb
}

/// A text in a tone, where there are colours.
pub fn paint(stream: Stream, tone: Tone, text: &str) -> String {
    painted(stream, tone.ansi(), text)
}

/// A Pod's name in the colour that it has everywhere.
pub fn paint_pod(stream: Stream, pod: &str, text: &str) -> String {
    let sum = pod.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    painted(stream, OF_PODS[sum % OF_PODS.len()], text)
}

fn painted(stream: Stream, color: AnsiColor, text: &str) -> String {
    if !is_on(stream) || text.is_empty() {
        return text.to_owned();
    }
    let style = Style::new().fg_color(Some(color.into()));
    format!("{style}{text}{style:#}")
}

/// What clap needs to know before it reads the command line: `--color` as far as it can be seen. A wrong value is refused by
/// clap afterwards.
pub fn for_clap(words: impl Iterator<Item = OsString>) -> clap::ColorChoice {
    let words: Vec<String> = words.map_while(|word| word.into_string().ok()).collect();
    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
    let words = &words[..end];
    let given = words.iter().enumerate().rev().find_map(|(position, word)| match word.as_str() {
        "--color" => words.get(position + 1).map(String::as_str),
        word => word.strip_prefix("--color="),
    });
    match given {
        Some("always") => clap::ColorChoice::Always,
        Some("never") => clap::ColorChoice::Never,
        _ => clap::ColorChoice::Auto,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_can_refuse_colours() {
        for (no_color, term, expected) in [
            (None, None, true),
            (None, Some("xterm"), true),
            (Some(""), Some("xterm"), true),
            (Some("1"), Some("xterm"), false),
            (None, Some("dumb"), false),
        ] {
            let variable = |name: &str| match name {
                "NO_COLOR" => no_color.map(OsString::from),
                _ => term.map(OsString::from),
            };
            assert_eq!(may_be_on(variable), expected, "{no_color:?} {term:?}");
        }
    }

    #[test]
    fn clap_is_told_what_was_asked_for() {
        for (line, expected) in [
            ("stint get jobs", clap::ColorChoice::Auto),
            ("stint --color never get jobs", clap::ColorChoice::Never),
            ("stint get --color=always", clap::ColorChoice::Always),
            ("stint --color=always get --color never", clap::ColorChoice::Never),
            ("stint get --color", clap::ColorChoice::Auto),
            ("stint exec p -- ls --color=always", clap::ColorChoice::Auto),
        ] {
            assert_eq!(for_clap(line.split(' ').map(OsString::from)), expected, "{line}");
        }
    }

    #[test]
    fn nothing_is_painted_before_it_was_chosen() {
        assert_eq!(paint(Stream::Stdout, Tone::Bad, "failed"), "failed");
        assert_eq!(paint_pod(Stream::Stderr, "a", "[a] "), "[a] ");
    }
}
