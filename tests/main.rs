//! One binary for every promise.
#![cfg(test)]

mod cli;
