//! Nothing to export; the tests are in `main.rs`.
