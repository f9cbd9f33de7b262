//! Stops a build for another system before the compiler finds out the hard way.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let system = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if system != "linux" {
        println!("cargo::error=weir runs on Linux only, not on {system}");
    }
}
