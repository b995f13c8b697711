//! A repository in memory and a database that is only a list of slices, with time in hand: the real engine decides what is
//! stored, reused, locked and named, and nothing here decides it a second time.

mod database;
mod world;

pub use self::{
    database::Database,
    world::{Stored, World, WorldError},
};
