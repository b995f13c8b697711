//! One file per use case, over the three crates that know the bytes, the bucket and the database.
//!
//! The engine sees no terminal, no environment and no wall clock: what it needs to know comes in as plain structs, time comes
//! in as a [`stonekeep_format::Clock`], and what it has to say goes out as [`events::Event`]s.

#[cfg(test)]
mod attacker;
pub mod audit;
pub mod backup;
mod budget;
pub mod check;
pub mod context;
pub mod drill;
pub mod events;
pub mod extend;
pub mod fetch;
pub mod finding;
pub mod history;
pub mod init;
pub mod lifecycle;
pub mod list;
mod named;
mod newest;
pub mod policy;
pub mod prove;
pub mod repository;
pub mod restore;
pub mod rotate;
pub mod run;
pub mod segments;
pub mod stores;
pub mod verify;
pub mod watch;
pub mod witness;

pub use context::Context;
