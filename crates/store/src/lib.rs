//! The repository in the bucket; the only crate that names the AWS SDK.
//!
//! Everything that touches the object store goes through one of three traits, each with the rights of one role:
//! [`ReadStore`] (watcher, restorer), [`AppendStore`] (the daemon: it also puts, and can extend a lock) and
//! [`ProvisionStore`] (a person, once). Behind them are [`S3Store`], [`DirectoryStore`] (a copy in a drawer, to read), and
//! [`MemoryStore`], a model for tests that is held to the same `contract` as the real servers.
//!
//! What callers build on them lies beside: [`list_keys`] and [`oldest_verified`] read what an attacker may have written over,
//! [`put_locked`] and [`put_fresh`] believe a write only once its lock was read back.
//!
//! Nothing here deletes, but for [`ProbeStore`], whose attacks are meant to fail and can name nothing except its own
//! [`Canary`]s; a test greps for any other.

#[doc(hidden)]
pub mod contract;
mod directory;
mod error;
mod listing;
#[doc(hidden)]
pub mod lying;
mod memory;
mod probe;
mod put;
pub mod retry;
mod s3;
mod store;

pub use directory::{CopiedObject, CopiedObjects, DirectoryError, DirectoryStore, VERSIONS_FILE};
pub use error::{Answer, OptionsError, StoreError};
pub use listing::{KeyVersions, Verified, list_key, list_keys, oldest_verified};
pub use memory::{MemoryStore, Right};
pub use probe::{Attack, Canary, Planting, ProbeAnswer, ProbeStore, Reaction};
pub use put::{PutReceipt, put_fresh, put_locked, see_locked};
pub use s3::{Authorities, S3Credentials, S3Options, S3Probe, S3Store};
pub use store::{
    AppendStore, BucketFacts, BucketLock, Created, DefaultRetention, DeleteMarker, LifecycleAction,
    LifecycleRule, ListCursor, ObjectHead, ObjectVersion, ProvisionStore, ReadStore, VersionPage,
};
