//! What both binaries have in common as processes.
//!
//! How a result is printed ([`output`]), a failure told and turned into an exit code ([`failure`]), a signal heeded
//! ([`signals`]), events written as JSON lines ([`lines`]), figures for Prometheus ([`metrics`]), a file written over ([`mod@replace`]), how pages look ([`page`]) and speak ([`words`]), somebody told over HTTP
//! ([`notify`]), and the configuration turned into what the crates below take
//! ([`options`]). It decides nothing about backups or restores, and reads no files; of the environment it knows the proxies alone.

pub mod failure;
pub mod lines;
pub mod metrics;
pub mod notify;
pub mod options;
pub mod output;
pub mod page;
pub mod probes;
pub mod replace;
pub mod signals;
pub mod table;
pub mod words;

/// glibc keeps what the buffers of large rows leave behind: a backup of rows of 1 MiB took 381 MiB with it, and takes 176 MiB
/// with this one (a table of 5 GiB, measured).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
