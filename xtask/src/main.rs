//! Build and test automation: `cargo xtask <step>`.

fn main() {}
