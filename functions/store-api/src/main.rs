//! store-api
fn main() {}
