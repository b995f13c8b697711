//! Who is told of drills.

use stonekeep_config::ReaderConfig;
use stonekeep_engine::Context;

use super::Outcome;
use crate::{failure::Failure, open::Session};

pub(super) struct Tellers;

impl Tellers {
    pub(super) fn load(_session: &Session<'_>, _config: &ReaderConfig) -> Result<Self, Failure> {
        Ok(Self)
    }

    pub(super) async fn tell(
        &self,
        _name: &str,
        _outcomes: &Result<Vec<Outcome>, Failure>,
        _context: &Context,
    ) {
    }
}
