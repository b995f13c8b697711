//! Takes snapshots of PostgreSQL into a bucket under Object Lock.
fn main() {}
