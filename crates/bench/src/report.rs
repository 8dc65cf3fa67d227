//! Tables, and the words above them.
//!
//! Owns: how figures are printed. Does not own: figures.

use std::process::Command;

/// Prints what the figures below are of.
pub fn head(what: &str) {
    let first_line = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok()?;
        let text =
            String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned();
        (output.status.success() && !text.is_empty()).then_some(text)
    };
    let unknown = || "unknown".to_owned();
    let commit = first_line("git", &["rev-parse", "--short", "HEAD"]).unwrap_or_else(unknown);
    let changed =
        first_line("git", &["status", "--porcelain", "--untracked-files=no"]).map_or("", |_| ", changed");
    let date = first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"]).unwrap_or_else(unknown);
    let kernel = first_line("uname", &["-srm"]).unwrap_or_else(unknown);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let folder = tempfile::env::temp_dir().display().to_string();
    let disk = first_line("findmnt", &["--noheadings", "--output", "FSTYPE,OPTIONS", "--target", &folder]);
    let disk = disk.unwrap_or_else(unknown);
    println!("{what}\ncommit {commit}{changed}; {date}; {kernel}, {cores} cores; load before: {load}");
    println!("data in {folder}, {disk}\n");
}

/// Rows of equal length, in Markdown.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With the names of its columns.
    pub fn new(columns: &[&str]) -> Table {
        Table { rows: vec![columns.iter().map(|column| (*column).to_owned()).collect()] }
    }

    /// Adds a row, as long as the first one.
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.rows[0].len());
        self.rows.push(cells);
    }

    /// Prints it: the first column to the left, figures to the right.
    pub fn print(&self) {
        let columns = 0..self.rows[0].len();
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = columns.clone().map(width).collect();
        for (at, row) in self.rows.iter().enumerate() {
            let cells = columns.clone().map(|column| match column {
                0 => format!("{:<1$}", row[column], widths[column]),
                _ => format!("{:>1$}", row[column], widths[column]),
            });
            println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
            if at == 0 {
                let rule = columns.clone().map(|column| match column {
                    0 => "-".repeat(widths[column]),
                    _ => format!("{}:", "-".repeat(widths[column].max(2) - 1)),
                });
                println!("| {} |", rule.collect::<Vec<_>>().join(" | "));
            }
        }
        println!();
    }
}

/// The middle one; of an even number the lower.
pub fn median(values: &[f64]) -> f64 {
    at_share(values, 0.5)
}

/// The value that this share of them does not exceed.
pub fn at_share(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).floor() as usize).copied().unwrap_or(f64::NAN)
}

/// Bytes, for people.
pub fn mebibytes(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / f64::from(1 << 20))
}

/// Bytes of what is small.
pub fn kibibytes(bytes: f64) -> String {
    format!("{:.0} KiB", bytes / 1024.0)
}
