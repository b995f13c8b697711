//! The settings under which every session of ours reads: what COPY prints must not depend on the server, the database or
//! the role.

use tokio_postgres::Client;

use crate::refusal::Refusal;

pub use crate::connect::Session;

/// How long a lock may be waited for (300 ms): below `deadlock_timeout` (1 s), so that we give way and never the user's DDL.
pub(crate) const LOCK_TIMEOUT: &str = "300ms";

/// Settings of every reading session, in this order (reference: `setup_connection` of pg_dump, and what pg_dump gets from
/// its environment). `TimeZone` is pinned because the same timestamptz prints differently otherwise.
const READING: &str = "SELECT pg_catalog.set_config('search_path', '', false);\
    SET DateStyle = ISO; SET TimeZone = 'UTC'; SET IntervalStyle = postgres; SET extra_float_digits = 3;\
    SET bytea_output = hex; SET xmloption = content; SET synchronize_seqscans = off; SET quote_all_identifiers = off;\
    SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET row_security = off;\
    SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name IN ('transaction_timeout', 'idle_session_timeout');\
    SELECT pg_catalog.set_config(name, 'view, foreign-table', false) FROM pg_catalog.pg_settings WHERE name = 'restrict_nonsystem_relation_kind';";

/// Pins the settings of a reading session. The client's encoding stays UTF-8 for statements and catalogs; rows go out by
/// `COPY … (ENCODING …)` in the server's own.
pub(crate) async fn pin(client: &Client) -> Result<(), Refusal> {
    let pinned =
        client.batch_execute(&format!("{READING} SET lock_timeout = '{LOCK_TIMEOUT}'")).await;
    pinned.map_err(|error| Refusal::told(&error))
}
