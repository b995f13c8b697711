//! Getting a database back: three list passes of pg_restore, our own parallel loading of rows and large objects between
//! them, and ANALYZE.
//!
//! In the flow of a restore: [`crate::target`] makes the database; [`run_pass`] with [`Pass::Schema`]; one [`Loader`] per
//! connection takes rows ([`Loader::copy_in`]) and large objects; [`Pass::AfterData`]; [`Pass::Rest`]; [`analyze`]; then
//! [`crate::compare`]. Every session and child is pinned against settings of the target that change rows on their way in
//! ([`Pins`]). Nothing here drops anything, and no error or log holds a byte of a row.

mod copy;
mod error;
mod large_objects;
mod list;
mod messages;
mod order;
mod pass;
mod pins;
mod roots;
mod select;

pub(crate) use copy::utf8_statement;
pub use copy::{CopyIn, CopyStatement, Loader, analyze, rows_of_slice};
pub use error::LoadError;
pub use large_objects::LARGE_OBJECT_WRITE_BYTES_MAX;
pub use list::{Pass, Step, archive_encoding, load_order, pass_list, steps};
pub use messages::{PassMessage, TOLERATED};
pub use order::ColumnOrder;
pub use pass::{ArchiveDir, PassOptions, PassOutcome, run_pass};
pub use pins::Pins;
pub use roots::partition_roots;
pub use select::{NoName, NotThere, ObjectName, Selected, Selection};
