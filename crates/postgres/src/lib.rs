//! The PostgreSQL side: locks, exported snapshot, pg_dump and pg_restore as children, copy out and in.
