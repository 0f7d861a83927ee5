//! The texts of several databases as one: each family once, with the samples of all.

use std::collections::HashMap;
use std::fmt::Write;

/// `first`, then in each family what `others` have of it; then families that only others have.
pub(crate) fn merged(first: String, others: &[String]) -> String {
    if others.is_empty() {
        return first;
    }
    let mut families: Vec<String> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for text in std::iter::once(&first).chain(others) {
        let (mut at, mut is_new) = (0, false);
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("# HELP ").and_then(|rest| rest.split(' ').next())
            {
                at = *places.entry(name).or_insert(families.len());
                is_new = at == families.len();
                if is_new {
                    families.push(String::new());
                }
            }
            // A family is described once.
            if (is_new || !line.starts_with('#'))
                && let Some(family) = families.get_mut(at)
            {
                // Writing to a string does not fail.
                let _ = writeln!(family, "{line}");
            }
        }
    }
    families.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_is_there_once_with_the_samples_of_all() {
        let of = |names: &str, label: &str| -> String {
            let family = |name: char| {
                format!("# HELP {name} Things.\n# TYPE {name} gauge\n{name}{label} 1\n")
            };
            names.chars().map(family).collect()
        };
        let [one, two] = ["{d=\"one\"}", "{d=\"two\"}"];
        let all = merged(of("ab", ""), &[of("b", one), of("bca", two)]);
        let expected = "# HELP a Things.\n# TYPE a gauge\na 1\na{d=\"two\"} 1\n\
                        # HELP b Things.\n# TYPE b gauge\nb 1\nb{d=\"one\"} 1\nb{d=\"two\"} 1\n\
                        # HELP c Things.\n# TYPE c gauge\nc{d=\"two\"} 1\n";
        assert_eq!(all, expected);
        assert_eq!(merged(of("ab", ""), &[]), of("ab", ""));
    }
}
