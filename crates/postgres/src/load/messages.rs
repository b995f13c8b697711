//! What pg_restore says, without what it quotes.
//!
//! Its stderr holds the server's messages with DETAIL (keys of rows), CONTEXT and the whole failed command (passwords of
//! user mappings). Kept is the first line of each error, and of the server's errors only those known to name nothing but
//! objects of the schema.

use std::fmt;

use stonekeep_format::ErrorKind;

use crate::refusal::one_line;

/// One error of pg_restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassMessage {
    /// The archive's entry as pg_restore names it: `3; 2615 2200 SCHEMA public postgres`.
    pub entry: Option<String>,
    /// What is wrong, or that the server's words are withheld.
    pub message: String,
}

impl PassMessage {
    /// Returns what to do about it, as [`crate::refusal::Refusal::kind`] does by the SQLSTATE, which pg_restore does not tell.
    /// What begins with [`QUERY`] still is of a session that is gone.
    pub(crate) fn kind(&self) -> ErrorKind {
        let begins = |starts: &[&str]| starts.iter().any(|start| self.message.starts_with(start));
        let is_login = self.message.starts_with("connection to ");
        if begins(&OF_RIGHTS)
            || (is_login && AT_LOGIN.iter().any(|said| self.message.contains(said)))
        {
            ErrorKind::Denied
        } else if begins(&OF_ROOM)
            || begins(&OF_THE_CONNECTION)
            || self.message.starts_with(QUERY)
            || NO_ROOM.iter().any(|end| self.message.ends_with(end))
        {
            ErrorKind::Unavailable
        } else {
            ErrorKind::Config
        }
    }
}

impl fmt::Display for PassMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.entry {
            Some(entry) => write!(f, "{} (entry {entry})", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// The most messages kept of each sort; all are counted.
const MESSAGES_MAX: usize = 20;

/// All that one run of pg_restore said, read line by line. Of bounded size, whatever it says.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    /// Errors that a restore is expected to meet, the first of them.
    pub(crate) tolerated: Vec<PassMessage>,
    /// How many there were.
    pub(crate) tolerated_count: usize,
    /// Errors that fail it, the first of them.
    pub(crate) errors: Vec<PassMessage>,
    /// How many there were.
    pub(crate) errors_count: usize,
    /// pg_restore's own count of both, which it gives when it came to its end.
    pub(crate) ignored: Option<usize>,
    entry: Option<String>,
}

impl Messages {
    /// Takes a line of the stderr of pg_restore 12 or later, run with `LC_ALL=C` and `--verbose` (without which it does not
    /// say at which entry it was).
    pub(crate) fn line(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let Some(line) = line.strip_prefix("pg_restore: ") else { return };
        if let Some(entry) = line.strip_prefix("from TOC entry ") {
            self.entry = Some(one_line(entry));
        } else if line.starts_with("while ") {
            self.entry = None;
        } else if let Some(count) = line.strip_prefix("warning: errors ignored on restore: ") {
            self.ignored = count.trim().parse().ok();
        } else if let Some(error) = line.strip_prefix("error: ") {
            self.add(error);
        }
    }

    fn add(&mut self, error: &str) {
        let from_query = error.strip_prefix(QUERY);
        let from_server = from_query.and_then(|said| said.strip_prefix("ERROR:  "));
        let tolerated = from_server.is_some_and(|said| TOLERATED.contains(&said));
        let message = match (from_server, from_query) {
            (Some(said), _) if names_only_objects(said) => one_line(said),
            // A server that speaks another language says ERROR otherwise.
            (None, Some(said)) if IN_A_QUERY.iter().any(|start| said.starts_with(start)) => {
                one_line(error)
            }
            (_, Some(_)) => WITHHELD.to_owned(),
            (_, None) => one_line(error),
        };
        let message = PassMessage { entry: self.entry.clone(), message };
        let (kept, count) = if tolerated {
            (&mut self.tolerated, &mut self.tolerated_count)
        } else {
            (&mut self.errors, &mut self.errors_count)
        };
        *count += 1;
        if kept.len() < MESSAGES_MAX {
            kept.push(message);
        }
    }
}

const WITHHELD: &str =
    "the target refused the command; its words may quote rows and are withheld here, see its log";

/// Errors that leave nothing out: what was to be made is there, or cannot matter.
///
/// - `public`: template0 has it; - plpgsql: likewise, and its comment is PostgreSQL's own; - `transaction_timeout`: a
///   pg_restore of version 17 or later sets it on every server, an older one does not know it and needs none.
pub const TOLERATED: [&str; 5] = [
    "schema \"public\" already exists",
    "must be owner of extension plpgsql",
    "language \"plpgsql\" already exists",
    "extension \"plpgsql\" already exists",
    "unrecognized configuration parameter \"transaction_timeout\"",
];

/// The server's messages in which every quoted word is the name of an object, `%` standing for it.
const OF_OBJECTS: [&str; 29] = [
    "role % does not exist",
    "type % does not exist",
    "type % already exists",
    "schema % does not exist",
    "schema % already exists",
    "relation % does not exist",
    "relation % already exists",
    "extension % does not exist",
    "extension % is not available",
    "extension % already exists",
    "language % does not exist",
    "language % already exists",
    "tablespace % does not exist",
    "server % does not exist",
    "foreign-data wrapper % does not exist",
    "access method % does not exist",
    "operator class % does not exist for access method %",
    "collation % for encoding % does not exist",
    "trigger % for relation % already exists",
    "policy % for table % already exists",
    "unrecognized configuration parameter %",
    "could not create unique index %",
    "check constraint % of relation % is violated by some row",
    "column % of relation % contains null values",
    "insert or update on table % violates foreign key constraint %",
    "materialized view % has not been populated",
    "could not open extension control file %: No such file or directory",
    "could not access file %: No such file or directory",
    "could not create file %: No space left on device",
];

/// Beginnings after which only names can follow.
const OF_RIGHTS: [&str; 6] = [
    "permission denied for ",
    "permission denied to create ",
    "must be owner of ",
    "must be superuser to ",
    "must be member of role ",
    "must be able to SET ROLE ",
];

/// Beginnings of want of room, of memory or of time, after which nothing of a row is at hand.
const OF_ROOM: [&str; 9] = [
    "could not extend file ",
    "could not write to file ",
    "could not write block ",
    "could not resize shared memory segment ",
    "temporary file size exceeds temp_file_limit",
    "out of shared memory",
    "out of memory",
    "canceling statement due to ",
    "terminating connection due to ",
];

/// Ends of what the operating system says of want of room (`strerror`, in English by `LC_ALL=C`).
const NO_ROOM: [&str; 3] =
    [": No space left on device", ": Disk quota exceeded", ": Cannot allocate memory"];

/// Beginnings of pg_restore's own and libpq's words of a session that is gone or not to be had.
const OF_THE_CONNECTION: [&str; 7] = [
    "connection to ",
    "could not reconnect",
    "reconnection failed",
    "error returned by PQ",
    "could not create worker process",
    "a worker process died unexpectedly",
    KILLED,
];

/// The same in place of the answer to a statement, behind [`QUERY`]. No row is at hand there.
const IN_A_QUERY: [&str; 9] = [
    "FATAL:  ",
    "PANIC:  ",
    "server closed the connection",
    "no connection to the server",
    "could not receive data from server",
    "could not send data to server",
    "lost synchronization with server",
    "SSL ",
    "out of memory",
];

/// How what a statement met begins.
const QUERY: &str = "could not execute query: ";

/// How the message of a pg_restore begins that a signal ended: the kernel's, mostly, for want of memory.
pub(crate) const KILLED: &str = "pg_restore ended with signal";

/// What a server says to those that it does not let in.
const AT_LOGIN: [&str; 4] = [
    "authentication failed",
    "no pg_hba.conf entry",
    "permission denied for",
    "is not permitted to",
];

fn names_only_objects(said: &str) -> bool {
    let starts = OF_RIGHTS.iter().chain(&OF_ROOM).chain(&["cannot execute "]);
    OF_OBJECTS.contains(&template(said).as_str())
        || starts.into_iter().any(|start| said.starts_with(start))
}

/// `role "bob" does not exist` → `role % does not exist`. A name with a quote in it makes a template that is in no list.
fn template(said: &str) -> String {
    let parts = said.split('"').enumerate();
    parts.map(|(at, part)| if at % 2 == 0 { part } else { "%" }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "pg_restore: while INITIALIZING:\n\
        pg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter \"transaction_timeout\"\n\
        Command was: SET transaction_timeout = 0;\n\
        pg_restore: while PROCESSING TOC:\n\
        pg_restore: from TOC entry 3; 2615 2200 SCHEMA public postgres\n\
        pg_restore: error: could not execute query: ERROR:  schema \"public\" already exists\n\
        Command was: CREATE SCHEMA public;\n\n\n\
        pg_restore: from TOC entry 9; 1259 5 INDEX i bob\n\
        pg_restore: error: could not execute query: ERROR:  could not create unique index \"i\"\n\
        DETAIL:  Key (mail)=(secret@example.com) is duplicated.\n\
        Command was: CREATE UNIQUE INDEX i ON t USING btree (mail);\n\
        pg_restore: from TOC entry 11; 0 7 MATERIALIZED VIEW DATA m bob\n\
        pg_restore: error: could not execute query: ERROR:  invalid input syntax for type integer: \"secret\"\n\
        pg_restore: warning: errors ignored on restore: 4\n";

    fn said(stderr: &str) -> Messages {
        let mut messages = Messages::default();
        stderr.lines().for_each(|line| messages.line(line.as_bytes()));
        messages
    }

    #[test]
    fn errors_are_sorted_and_counted() {
        let messages = said(SAID);
        assert_eq!(messages.ignored, Some(4));
        assert_eq!(messages.tolerated_count, 2);
        assert_eq!(messages.errors_count, 2);
        let first = messages.errors.first().map(ToString::to_string);
        assert_eq!(
            first.as_deref(),
            Some("could not create unique index \"i\" (entry 9; 1259 5 INDEX i bob)")
        );
    }

    #[test]
    fn what_may_quote_a_row_is_withheld() {
        let german = "pg_restore: error: could not execute query: FEHLER:  ein secret\n";
        let all = format!("{:?}", said(&format!("{german}{SAID}")));
        assert!(!all.contains("secret"), "{all}");
        for quoting in [
            "customer Miller does not exist",
            "duplicate key value violates unique constraint \"x\" \"y\"",
        ] {
            assert!(!names_only_objects(quoting), "{quoting}");
        }
    }

    #[test]
    fn loss_of_the_connection_is_told_in_full() {
        let lost = "pg_restore: error: connection to server at \"::1\", port 5432 failed: Connection refused\n";
        let messages = said(lost);
        assert_eq!((messages.errors.len(), messages.ignored), (1, None));
        assert!(messages.errors[0].message.contains("Connection refused"));
    }

    #[test]
    fn room_and_lost_sessions_pass_by_rights_are_given_and_the_rest_is_to_be_set_right() {
        let kind = |error: &str| {
            let messages = said(&format!("pg_restore: error: {error}\n"));
            messages.errors.first().map(PassMessage::kind)
        };
        for passing in [
            "could not execute query: ERROR:  could not extend file \"base/5/1\": No space left on device",
            "could not execute query: ERROR:  could not create file \"base/5/1\": No space left on device",
            "could not execute query: ERROR:  could not resize shared memory segment \"/PostgreSQL.1\" to 9 bytes: No space left on device",
            "could not execute query: ERROR:  out of memory",
            "could not execute query: ERROR:  canceling statement due to user request",
            "could not execute query: FATAL:  terminating connection due to administrator command",
            "could not execute query: server closed the connection unexpectedly",
            "could not execute query: no connection to the server",
            "connection to server at \"::1\", port 5432 failed: Connection refused",
            "connection to server at \"::1\", port 5432 failed: FATAL:  sorry, too many clients already",
            "a worker process died unexpectedly",
        ] {
            assert_eq!(kind(passing), Some(ErrorKind::Unavailable), "{passing}");
        }
        for right in [
            "could not execute query: ERROR:  permission denied for schema public",
            "could not execute query: ERROR:  permission denied to create extension \"x\"",
            "could not execute query: ERROR:  must be owner of table t",
            "could not execute query: ERROR:  must be superuser to create a base type",
            "connection to server at \"::1\", port 5432 failed: FATAL:  password authentication failed for user \"x\"",
        ] {
            assert_eq!(kind(right), Some(ErrorKind::Denied), "{right}");
        }
        for other in [
            "could not execute query: ERROR:  could not create unique index \"i\"",
            "could not execute query: ERROR:  role \"out of memory\" does not exist",
            "could not execute query: ERROR:  of this row I say: No space left on device",
            "could not execute query: FEHLER:  Geheimes existiert nicht",
            "unrecognized archive format",
        ] {
            assert_eq!(kind(other), Some(ErrorKind::Config), "{other}");
        }
    }

    #[test]
    fn endless_errors_are_counted_and_few_are_kept() {
        let messages = said(&"pg_restore: error: no\n".repeat(10_000));
        assert_eq!((messages.errors.len(), messages.errors_count), (MESSAGES_MAX, 10_000));
    }
}
