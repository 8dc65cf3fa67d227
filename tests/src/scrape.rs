//! Reading metrics and health over HTTP, as a scraper does.
//!
//! Owns: asking, reading the text of Prometheus. Does not own: what should be there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// One family of metrics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Family {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// Names of its labels, as far as there are samples; without `le`.
    pub labels: BTreeSet<String>,
    /// Its samples: name with labels, and value.
    pub samples: Vec<(String, String)>,
}

/// Status code and body of a GET; 0 if nobody answers.
pub fn get(address: &str, path: &str) -> (u16, String) {
    ask(address, path).unwrap_or_default()
}

fn ask(address: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let code = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((code, body.to_owned()))
}

/// Families by name; those of several texts come together.
pub fn families(texts: &[String]) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in texts.iter().flat_map(|text| text.lines()) {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap_or((declared, ""));
            families.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else if !line.starts_with('#')
            && let Some((sample, value)) = line.rsplit_once(' ')
        {
            let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
            let family = ["", "_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|suffix| name.strip_suffix(suffix))
                .find(|name| families.contains_key(*name))
                .unwrap_or(name);
            let family = families.entry(family.to_owned()).or_default();
            // No value of a label of ours has a comma or an equals sign.
            let names = labels.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name);
            family.labels.extend(names.filter(|name| *name != "le").map(str::to_owned));
            family.samples.push((sample.to_owned(), value.to_owned()));
        }
    }
    families
}
