//! Schema, parse and check of the two TOML files, `stonekeepd.toml` and `stonekeep.toml`.
//!
//! The binaries read their configuration here and turn it into the plain `*Plan` and `*Options` structs of the crates below;
//! nothing else knows that there is a file. Errors name the file, and the line and column where one can be told. This is also
//! the only crate that reads the environment ([`Environment`]), and the one that says which files hold secrets and who may
//! read them ([`mod@file`]). It never opens a socket, and no value of a file is repeated in an error where it could be a secret.

pub mod daemon;
pub mod database;
pub mod defaults;
pub mod drill;
pub mod environment;
pub mod error;
pub mod file;
pub mod notify;
pub mod origin;
pub mod password;
pub mod reader;
pub mod repository;
pub mod schedule;
pub mod service;
pub mod status;
pub mod tier;
pub mod url;
pub mod value;
pub mod watch;

pub use daemon::DaemonConfig;
pub use database::{DatabaseConfig, Patterns, TlsMode};
pub use drill::{DrillCheckConfig, DrillConfig};
pub use environment::Environment;
pub use error::ConfigError;
pub use file::Given;
pub use notify::NotifyConfig;
pub use reader::ReaderConfig;
pub use repository::{Access, RepositoryConfig, RepositoryTier};
pub use service::ServiceConfig;
pub use status::StatusConfig;
pub use url::DatabaseUrl;
pub use watch::{WatchConfig, WatchedDatabase};
