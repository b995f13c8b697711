//! Schema, parse and check of the two TOML files; beside it what an operator installs.
