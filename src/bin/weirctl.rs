//! The `weirctl` command.
fn main() {}
