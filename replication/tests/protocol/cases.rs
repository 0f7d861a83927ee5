//! What a peer may do wrong, as `README.md` tells it.

use std::path::Path;

/// The table there names tests that exist and are run.
#[test]
fn every_case_of_the_table_has_its_tests() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let (table, mut source, mut count) = (read("README.md"), String::new(), 0);
    for row in table.lines().filter(|line| line.starts_with("| ")) {
        for name in row.split('`').skip(1).step_by(2) {
            if name.ends_with(".rs") {
                let folder = match name.split('/').next() {
                    Some("src" | "tests") => "",
                    Some("engine") => "../",
                    _ => "tests/",
                };
                source = read(&format!("{folder}{name}"));
            } else {
                assert_eq!(is_run(&source, name), Ok(()), "{name}");
                count += 1;
            }
        }
    }
    assert!(count > 40, "{count}");
}

/// Whether `source` has a test of this name that is run; else why not.
fn is_run(source: &str, name: &str) -> Result<(), &'static str> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let starts = ["", "async "].map(|word| format!("{word}fn {name}("));
    let is_it = |line: &&str| starts.iter().any(|start| line.starts_with(start));
    let at = lines.iter().position(is_it).ok_or("there is no such function")?;
    let above = lines.iter().take(at).rev();
    let attributes: Vec<_> =
        above.take_while(|line| line.starts_with("#[") || line.starts_with("//")).collect();
    let is = |start: &str| attributes.iter().any(|line| line.starts_with(start));
    if is("#[ignore") || is("#[cfg") || is("#[should_panic") {
        return Err("the test is left out, or need not succeed");
    }
    if is("#[test]") || is("#[tokio::test") { Ok(()) } else { Err("it is no test") }
}

#[test]
fn what_is_no_test_or_is_left_out_does_not_hold_a_case() {
    assert!(is_run("#[test]\nfn a() {", "a").is_ok());
    assert!(
        is_run("    /// It.\n    #[tokio::test(start_paused = true)]\n    async fn a() {", "a")
            .is_ok()
    );
    for bad in [
        "fn a() {",
        "#[test]\nfn other() {}\n\nfn a() {",
        "#[test]\n#[ignore]\nfn a() {",
        "#[ignore = \"slow\"]\n#[test]\nfn a() {",
        "#[cfg(unix)]\n#[test]\nfn a() {",
        "#[test]\nfn ab() {",
        "// #[test]\n// fn a() {",
    ] {
        assert!(is_run(bad, "a").is_err(), "{bad}");
    }
}
