//! The comment by which a database says that it is being restored, and how far that has come.

use std::{fmt, str::FromStr};

use stonekeep_format::ids::SnapshotId;

/// How far a restore has come. What is named has begun and not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The schema is being made: if it broke off here, it cannot go on in this database.
    Schema,
    /// The schema is there; rows are being loaded. A restore can go on from here.
    Rows,
    /// Rows and sequences are in; indexes, constraints and rights are being made. It cannot go on in this database.
    Rest,
}

impl Phase {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Schema => "schema",
            Self::Rows => "rows",
            Self::Rest => "rest",
        }
    }
}

/// A database's comment while it is being restored: `stonekeep restore <snapshot id> <phase>`. Only a database that bears
/// one may be written to by a re-run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// How far it has come.
    pub phase: Phase,
}

const WORDS: &str = "stonekeep restore ";

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{WORDS}{} {}", self.snapshot, self.phase.as_str())
    }
}

/// The text is not a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the mark of a restore")]
pub struct NoMark;

impl FromStr for Mark {
    type Err = NoMark;
    fn from_str(text: &str) -> Result<Self, NoMark> {
        let (snapshot, phase) =
            text.strip_prefix(WORDS).and_then(|rest| rest.split_once(' ')).ok_or(NoMark)?;
        let known = [Phase::Schema, Phase::Rows, Phase::Rest]
            .into_iter()
            .find(|known| known.as_str() == phase);
        Ok(Self { snapshot: snapshot.parse().map_err(|_| NoMark)?, phase: known.ok_or(NoMark)? })
    }
}

/// The longest name of a database, in bytes: `NAMEDATALEN - 1`. PostgreSQL cuts longer ones without an error.
pub const NAME_BYTES_MAX: usize = 63;

/// Returns the name under which a database is loaded before it takes its own: `<name>_restoring_<snapshot id>` in lower case,
/// `name` cut so that all of it fits.
#[must_use]
pub fn restoring_name(name: &str, snapshot: &SnapshotId) -> String {
    let suffix = format!("_restoring_{}", snapshot.as_str().to_ascii_lowercase());
    let room = NAME_BYTES_MAX.saturating_sub(suffix.len());
    let cut =
        name.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= room).last();
    format!("{}{suffix}", &name[..cut.unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> SnapshotId {
        "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().expect("a ULID")
    }

    #[test]
    fn mark_is_read_back_and_nothing_else_is_one() {
        let mark = Mark { snapshot: snapshot(), phase: Phase::Rows };
        assert_eq!(mark.to_string(), "stonekeep restore 01ARZ3NDEKTSV4RRFFQ69G5FAV rows");
        assert_eq!(mark.to_string().parse(), Ok(mark));
        for other in ["", "stonekeep restore", "stonekeep restore x rows", "our bookings"] {
            assert_eq!(other.parse::<Mark>(), Err(NoMark), "{other}");
        }
    }

    #[test]
    fn restoring_name_fits_and_stays_whole_characters() {
        let short = restoring_name("bookings", &snapshot());
        assert_eq!(short, "bookings_restoring_01arz3ndektsv4rrffq69g5fav");
        let long = restoring_name(&"ä".repeat(40), &snapshot());
        assert!(long.len() <= NAME_BYTES_MAX && long.starts_with('ä'), "{long}");
    }
}
