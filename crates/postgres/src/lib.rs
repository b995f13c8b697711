//! The PostgreSQL side: locks, exported snapshot, pg_dump and pg_restore as children, copy out and in.
//!
//! Taking: [`source`] locks the tables, exports a snapshot, lets pg_dump write its table of contents and gives out workers
//! that read rows. Getting back: [`target`] looks at a server and makes databases, [`load`] fills them, [`compare`] reads them
//! again. For a drill, [`scratch`] makes a server of its own and removes it. Nothing here drops anything but a database that a
//! drill made ([`target::drop_drill_database`]), and no error holds a row.

pub mod compare;
pub mod connect;
pub mod load;
pub mod objects;
pub mod pem;
pub mod properties;
pub mod question;
pub mod refusal;
pub mod rows;
pub mod scratch;
pub mod session;
pub mod source;
pub mod sql;
pub mod target;
pub mod tls;
pub mod tools;
