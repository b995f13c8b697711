//! A drill finds what is wrong in a snapshot, and nothing else.
