//! What is allowed and may be meant, and what an operator should know of all the same.

use super::layers::Config;
use super::value::in_units;

/// What is worth a word about `config`, whose process can have `have_bytes` of memory.
pub(crate) fn notes(config: &Config, have_bytes: u64) -> Vec<String> {
    no_directory(config).into_iter().chain(too_much_memory(config, have_bytes)).collect()
}

/// Nothing can be served from nowhere; but the command line may still say where.
fn no_directory(config: &Config) -> Option<String> {
    let is_missing = config.text("path").is_none();
    is_missing.then(|| "path is not given: `serve` needs it here or as --path".to_owned())
}

/// Budgets of memory that can not all be used up. Each database takes its own whatever the others have.
fn too_much_memory(config: &Config, have_bytes: u64) -> Option<String> {
    let databases = std::iter::once(config).chain(config.datasets().values());
    let budgets = databases.map(|config| config.number("engine.memory_bytes"));
    let bytes = budgets.fold(0, u64::saturating_add);
    let budgets = match config.datasets().len() + 1 {
        1 => format!("engine.memory_bytes is {}", in_units(bytes)),
        count => {
            format!("engine.memory_bytes of {count} databases is {} together", in_units(bytes))
        }
    };
    let have = in_units(have_bytes >> 20 << 20);
    (bytes > have_bytes).then(|| format!("{budgets}, and the process can have {have} of memory"))
}

#[cfg(test)]
mod tests {
    use super::super::layers::Layers;
    use super::*;
    use std::path::Path;

    fn of(text: &str, have_bytes: u64) -> Vec<String> {
        let mut layers = Layers::default();
        layers.read_file(text, Path::new("node.toml"));
        notes(&layers.settle().unwrap(), have_bytes)
    }

    #[test]
    fn budgets_that_fit_each_for_itself_are_told_if_they_do_not_fit_together() {
        let (main, gib) = ("path = 'a'\n[engine]\nmemory_bytes = '1 GiB'\n", 1 << 30);
        let two = format!(
            "{main}[datasets.plain]\npath = 'b'\n[datasets.big]\npath = 'c'\n\
             [datasets.big.engine]\nmemory_bytes = '2 GiB'\n"
        );
        assert_eq!(of(main, gib), [""; 0]);
        assert_eq!(
            of(main, gib - 1),
            ["engine.memory_bytes is 1 GiB, and the process can have 1023 MiB of memory"]
        );
        assert_eq!(of(&two, 4 * gib), [""; 0]);
        assert_eq!(
            of(&two, 3 * gib),
            [
                "engine.memory_bytes of 3 databases is 4 GiB together, and the process can have 3 GiB of memory"
            ]
        );
    }

    #[test]
    fn budgets_beyond_all_numbers_are_added_up() {
        let mut text = "path = 'a'\n[engine]\nmemory_bytes = '16 TiB'\n".to_owned();
        (0..64).for_each(|n| text += &format!("[datasets.d{n}]\npath = 'd{n}'\n"));
        assert_eq!(of(&text, u64::MAX), [""; 0]);
        assert!(of(&text, 1 << 40)[0].contains("of 65 databases is 1040 TiB together"));
    }
}
