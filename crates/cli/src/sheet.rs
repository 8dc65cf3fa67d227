//! One object as people read it: names and values below each other, parts of it further in.
//!
//! Owns: alignment. Does not own: what is said (`commands::describe`).

use unicode_width::UnicodeWidthStr;

use crate::table::{Lines, harmless};

/// Spaces by which a part stands further in than what it belongs to.
const INDENT: usize = 2;
/// Spaces between a name and its value, at least.
const GAP: usize = 2;

/// Lines that are being collected. Values of one depth stand below each other.
#[derive(Debug, Default)]
pub struct Sheet {
    lines: Vec<Line>,
    depth: usize,
}

#[derive(Debug)]
enum Line {
    /// Without a value it is the head of a part.
    Field {
        depth: usize,
        name: String,
        values: Vec<String>,
    },
    Text {
        depth: usize,
        text: String,
    },
}

impl Sheet {
    /// A name and its value.
    pub fn field(&mut self, name: &str, value: impl Into<String>) {
        self.list(name, [value.into()]);
    }

    /// The same, unless there is nothing to say.
    pub fn field_if(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.field(name, value);
        }
    }

    /// A name and several values below each other; `<none>` without any.
    pub fn list(&mut self, name: &str, values: impl IntoIterator<Item = String>) {
        let mut values: Vec<String> = values.into_iter().map(|value| harmless(&value)).collect();
        if values.is_empty() {
            values.push("<none>".to_owned());
        }
        self.lines.push(Line::Field { depth: self.depth, name: harmless(name), values });
    }

    /// A part: its name, and what `write` writes further in.
    pub fn part(&mut self, name: &str, write: impl FnOnce(&mut Sheet)) {
        self.lines.push(Line::Field { depth: self.depth, name: harmless(name), values: Vec::new() });
        self.depth += 1;
        write(self);
        self.depth -= 1;
    }

    /// A part that is lines of a text.
    pub fn text(&mut self, name: &str, lines: impl IntoIterator<Item = String>) {
        self.part(name, |sheet| {
            let depth = sheet.depth;
            let lines = lines.into_iter().map(|line| Line::Text { depth, text: harmless(&line) });
            sheet.lines.extend(lines);
        });
    }

    /// A part that is a table; a name with `<none>` if it has no rows.
    pub fn table(&mut self, name: &str, titles: &[&str], rows: Vec<Vec<String>>) {
        if rows.is_empty() {
            self.list(name, []);
            return;
        }
        // A line below the titles, as kubectl has it.
        let dashes = titles.iter().map(|title| "-".repeat(title.width())).collect();
        let text = Lines::default().of(titles, std::iter::once(dashes).chain(rows).collect());
        self.part(name, |sheet| {
            let depth = sheet.depth;
            sheet.lines.extend(text.lines().map(|line| Line::Text { depth, text: line.to_owned() }));
        });
    }

    /// Everything, without a line end behind it.
    pub fn finish(self) -> String {
        let mut widths: Vec<usize> = Vec::new();
        for line in &self.lines {
            if let Line::Field { depth, name, values } = line
                && !values.is_empty()
            {
                widths.resize(widths.len().max(depth + 1), 0);
                widths[*depth] = widths[*depth].max(name.width() + 1);
            }
        }
        let mut text: Vec<String> = Vec::new();
        for line in self.lines {
            match line {
                Line::Text { depth, text: line } => {
                    text.push(format!("{}{line}", " ".repeat(depth * INDENT)))
                }
                Line::Field { depth, name, values } if values.is_empty() => {
                    text.push(format!("{}{name}:", " ".repeat(depth * INDENT)));
                }
                Line::Field { depth, name, values } => {
                    let (indent, width) = (" ".repeat(depth * INDENT), widths[depth] + GAP);
                    let mut name = format!("{name}:");
                    for value in values {
                        let gap = " ".repeat(width.saturating_sub(name.width()));
                        text.push(format!("{indent}{name}{gap}{value}").trim_end().to_owned());
                        name.clear();
                    }
                }
            }
        }
        text.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_one_depth_stand_below_each_other() {
        let mut sheet = Sheet::default();
        sheet.field("Name", "w1");
        sheet.list("Labels", ["a=1".to_owned(), "b=2".to_owned()]);
        sheet.list("Annotations", []);
        sheet.field_if("Reason", "");
        sheet.part("Containers", |sheet| {
            sheet.part("main", |sheet| {
                sheet.field("Image", "perl");
                sheet.field("Message", "one\ntwo");
            });
        });
        sheet.table("Conditions", &["Type", "Status"], vec![vec!["Ready".to_owned(), "True".to_owned()]]);
        sheet.table("Events", &["Type"], Vec::new());
        let expected = "\
Name:         w1
Labels:       a=1
              b=2
Annotations:  <none>
Containers:
  main:
    Image:    perl
    Message:  one\\ntwo
Conditions:
  Type    Status
  ----    ------
  Ready   True
Events:       <none>";
        assert_eq!(sheet.finish(), expected);
    }
}
