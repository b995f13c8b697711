//! One file per use case: backup, restore, verify, list, fetch, init.
