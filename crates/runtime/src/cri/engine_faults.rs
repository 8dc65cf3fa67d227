//! Known faults of engines that reach those who use a node.
//!
//! Owns: which version has which. Does not own: asking the version, saying it (`health`).

/// Why the end of a log may be missing with this engine, and what mends it.
///
/// containerd 1.5.8 to 1.6.21 and 1.7.0 to 1.7.2 close their end of a container's output when it ends, before they have read what
/// is still in it (moby issue 45689; mended in 1.6.22 and 1.7.3): what a program that ends at once has left in its pipes is lost.
pub(super) fn loses_output(engine: &str, version: &str) -> Option<String> {
    if engine != "containerd" {
        return None;
    }
    let is_faulty = match parse(version)? {
        (1, 5, patch) => patch >= 8,
        (1, 6, patch) => patch < 22,
        (1, 7, patch) => patch < 3,
        _ => false,
    };
    is_faulty.then(|| {
        format!(
            "containerd {version} loses the end of what containers write when they end at once: install 1.6.22, 1.7.3 or later"
        )
    })
}

/// Major, minor, patch of `1.6.20~ds1`, `v1.7.24`, `2.0.0-rc.1`.
fn parse(version: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = version.trim_start_matches('v').splitn(3, '.').map(|part| {
        let digits = part.find(|character: char| !character.is_ascii_digit()).unwrap_or(part.len());
        part[..digits].parse().ok()
    });
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_loses_output_is_known_by_its_version() {
        for version in ["1.5.8", "1.6.0", "1.6.20~ds1", "v1.6.21", "1.7.0", "1.7.2-0ubuntu1~22.04.1"] {
            let said = loses_output("containerd", version).unwrap_or_else(|| panic!("{version}"));
            assert!(said.contains(version) && said.contains("1.7.3"), "{said}");
        }
        for version in [
            "1.4.13",
            "1.5.7",
            "1.6.22",
            "1.7.3",
            "1.7.24~ds1",
            "v2.1.4",
            "2.0.0-rc.1",
            "",
            "1",
            "1.6",
            "a.b.c",
            "1.6.x",
        ] {
            assert_eq!(loses_output("containerd", version), None, "{version}");
        }
        assert_eq!(loses_output("cri-o", "1.6.20"), None);
    }
}
