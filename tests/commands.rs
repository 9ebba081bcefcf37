//! What a user types and sees: commands with their output, which are documentation as well.
//! After a wanted change: `TRYCMD=overwrite cargo test --test commands`.

#[test]
fn commands_print_what_they_should() {
    trycmd::TestCases::new().case("tests/commands/*.md").case("README.md");
}
