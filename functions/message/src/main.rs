//! message
fn main() {}
