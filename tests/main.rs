//! One binary for every promise.
#![cfg(test)]

mod belongings;
mod chain;
mod cli;
mod ddl;
mod expiry;
mod extend;
mod faults;
mod guard;
mod harness;
mod immutability;
mod interrupted;
mod lock_table;
mod monitoring;
mod other_targets;
mod own_server;
mod parts;
mod policies;
mod poolers;
mod prove;
mod proxy;
mod refusals;
mod reuse;
mod rotate;
mod round_trip;
mod secrets;
mod servers_of_databases;
mod standby;
mod status;
mod tier_buckets;
mod tls;
mod watch;
