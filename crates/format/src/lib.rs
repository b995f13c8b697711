//! What the bytes of a Stonekeep repository mean.
//!
//! Everything that is written to a bucket or read from one is defined here, in the order in which `docs/format.md`
//! tells it: names ([`ids`], [`key`]), signed objects ([`signature`], [`genesis`], [`manifest`], [`attempt`], [`prove`], [`drill`]), clear and
//! sealed lists ([`inventory`], [`catalog`]), the rules between snapshots ([`chain`], [`lock`], [`tier`]), the segment codec
//! ([`codec`]), how rows become segments ([`slicer`], [`digest`], [`pack`]) and pg_dump's own archive ([`archive`]).
//!
//! The crate is pure: it reads no file, no clock and no environment, opens no socket and runs no task. Every decoder takes
//! bytes that an attacker may have written and answers with an error, never with a panic.

pub mod archive;
pub mod attempt;
pub mod catalog;
pub mod chain;
pub mod clock;
pub mod codec;
pub mod digest;
pub mod drill;
pub mod error;
pub mod genesis;
pub mod ids;
pub mod inventory;
pub mod key;
pub mod lock;
pub mod manifest;
pub mod pack;
pub mod prove;
pub mod signature;
pub mod slicer;
pub mod tier;

pub use clock::Clock;
pub use error::ErrorKind;
