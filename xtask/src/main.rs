//! Build and test automation: `cargo xtask <step>`.

mod bench;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or_else(|| Path::new("."));
    let result = match arguments.split_first() {
        Some((name, flags)) if name == "bench" => bench::run(root, &root.join("target"), flags),
        _ => Err("expected a step: bench".into()),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}
