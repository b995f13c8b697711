//! The comment by which a database says that it is being restored or drilled with, and how far that has come.

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

/// A database's comment while it is being restored: `stonekeep restore <snapshot id> <phase>`, of a drill
/// `stonekeep drill <drill id> <snapshot id> <phase>`. Only a database that bears one may be written to by a re-run, and only one
/// that bears a drill's is ever dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// How far it has come.
    pub phase: Phase,
    /// The drill that made the database and drops it again; none: a person restores, and nobody else touches it.
    pub drill: Option<SnapshotId>,
}

const RESTORE: &str = "stonekeep restore ";
const DRILL: &str = "stonekeep drill ";

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.drill {
            Some(drill) => write!(f, "{DRILL}{drill} ")?,
            None => f.write_str(RESTORE)?,
        }
        write!(f, "{} {}", self.snapshot, self.phase.as_str())
    }
}

/// The text is not a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the mark of a restore")]
pub struct NoMark;

impl FromStr for Mark {
    type Err = NoMark;
    fn from_str(text: &str) -> Result<Self, NoMark> {
        let (drill, rest) = match text.strip_prefix(DRILL) {
            Some(rest) => rest.split_once(' ').map(|(drill, rest)| (Some(drill), rest)),
            None => text.strip_prefix(RESTORE).map(|rest| (None, rest)),
        }
        .ok_or(NoMark)?;
        let (snapshot, phase) = rest.split_once(' ').ok_or(NoMark)?;
        let known = [Phase::Schema, Phase::Rows, Phase::Rest]
            .into_iter()
            .find(|known| known.as_str() == phase);
        let id = |text: &str| text.parse::<SnapshotId>().map_err(|_| NoMark);
        let drill = drill.map(id).transpose()?;
        Ok(Self { snapshot: id(snapshot)?, phase: known.ok_or(NoMark)?, drill })
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
        let mark = Mark { snapshot: snapshot(), phase: Phase::Rows, drill: None };
        assert_eq!(mark.to_string(), "stonekeep restore 01ARZ3NDEKTSV4RRFFQ69G5FAV rows");
        assert_eq!(mark.to_string().parse(), Ok(mark.clone()));
        let drill = Some("01BRZ3NDEKTSV4RRFFQ69G5FAV".parse().expect("a ULID"));
        let mark = Mark { drill, ..mark };
        assert_eq!(
            mark.to_string(),
            "stonekeep drill 01BRZ3NDEKTSV4RRFFQ69G5FAV 01ARZ3NDEKTSV4RRFFQ69G5FAV rows"
        );
        assert_eq!(mark.to_string().parse(), Ok(mark));
        for other in [
            "",
            "stonekeep restore",
            "stonekeep restore x rows",
            "our bookings",
            "stonekeep drill 01ARZ3NDEKTSV4RRFFQ69G5FAV rows",
            "stonekeep drill x 01ARZ3NDEKTSV4RRFFQ69G5FAV rows",
        ] {
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
