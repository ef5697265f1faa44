//! The `zabra` command.

fn main() {}
