//! One binary for every promise.
#![cfg(test)]

mod cli;
mod harness;
mod immutability;
mod refusals;
mod round_trip;
