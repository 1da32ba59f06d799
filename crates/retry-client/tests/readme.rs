//! Compiles the Rust code of the repository's README. `UPDATE_DOCS=1` copies it to `tests/readme/snippets.rs`.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the test's message")]

use std::{env, fmt::Write as _, fs};

#[allow(warnings, reason = "snippets are compiled, not run or linted")]
#[rustfmt::skip]
#[path = "readme/snippets.rs"]
mod snippets;

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
const SNIPPETS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/readme/snippets.rs");

#[test]
fn the_code_in_the_readme_compiles() {
    let readme = fs::read_to_string(README).unwrap();
    let blocks = readme.split("\n```rust\n").skip(1).map(|rest| rest.split("\n```").next().unwrap_or_default());
    let mut snippets =
        String::from("//! Copied from the README by `UPDATE_DOCS=1 cargo test -p retry-client --test readme`.\n");
    for (index, block) in blocks.enumerate() {
        write!(snippets, "\nmod snippet_{} {{\n{block}\n}}\n", index + 1).unwrap();
    }
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(SNIPPETS, &snippets).unwrap();
        return;
    }
    let compiled = fs::read_to_string(SNIPPETS).unwrap();
    assert!(
        compiled == snippets,
        "README.md has changed: run `UPDATE_DOCS=1 cargo test -p retry-client --test readme`"
    );
}
