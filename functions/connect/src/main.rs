//! connect
fn main() {}
