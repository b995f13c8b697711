//! Verifies, restores and rehearses what stonekeepd stored.
fn main() {}
