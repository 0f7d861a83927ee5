//! From OpenMetrics, which the library writes, to the text format that every Prometheus reads.
//!
//! The two differ in the names of counters: OpenMetrics describes `x` and samples `x_total`, the
//! older format describes what it samples. Besides, the older one has no `# UNIT` and no `# EOF`.

use std::collections::HashSet;
use std::fmt::Write;

/// `open`, in the older format.
pub(super) fn classic(open: &str) -> String {
    let types = open.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let counters: HashSet<&str> =
        types.filter_map(|description| description.strip_suffix(" counter")).collect();
    let mut text = String::with_capacity(open.len() + 8 * counters.len());
    for line in open.lines() {
        let described = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
        match described.and_then(|description| description.split_once(' ')) {
            Some((name, rest)) if counters.contains(name) => {
                // Writing to a string does not fail.
                let _ = writeln!(text, "{} {name}_total {rest}", line.get(..6).unwrap_or_default());
            }
            None if line.starts_with('#') => {}
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_described_by_the_name_of_their_samples() {
        let open = "# HELP a Things.\n# TYPE a counter\n# UNIT a bytes\na_total 1\n\
                    # HELP b More.\n# TYPE b gauge\nb{c=\"# TYPE d counter\"} 2\n# EOF\n";
        let expected = "# HELP a_total Things.\n# TYPE a_total counter\na_total 1\n\
                        # HELP b More.\n# TYPE b gauge\nb{c=\"# TYPE d counter\"} 2\n";
        assert_eq!(classic(open), expected);
    }
}
