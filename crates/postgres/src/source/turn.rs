//! Whose turn it is at a database: two runs of one label at the same time would read it twice and fork its chain.

use stonekeep_format::ids::{Digest, Label};
use tokio::time::timeout;

use super::{ANSWER_DURATION_MAX, DumpError, preflight::check_no_pooler, reading_session};
use crate::connect::{ConnectOptions, Session};

/// The first half of our advisory locks' key (`STKP` in ASCII), so that they are nobody else's.
const CLASS: i32 = 0x5354_4b50;

/// The server finds out within two minutes (60 s, then six probes 10 s apart) that a holder's machine is gone, where its own
/// settings may take two hours. On a Unix socket these say nothing, and nothing is needed.
const KEEPALIVE: &str =
    "SET tcp_keepalives_idle = 60; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 6";

const TRY: &str = "SELECT pg_catalog.pg_try_advisory_lock($1, $2)";

/// `objsubid` is 2 for keys of two halves.
const HOLDER: &str = "SELECT pid, pg_catalog.to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS since \
    FROM pg_catalog.pg_locks JOIN pg_catalog.pg_stat_activity USING (pid) \
    WHERE locktype = 'advisory' AND classid = $1::int8::oid AND objid = $2::int8::oid AND objsubid = 2 AND granted \
    AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())";

/// The right to be the only run of a label. The server takes it back when the session ends, whatever ends it.
#[derive(Debug)]
pub struct Turn(Session);

/// The session that has the turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process id of its backend.
    pub pid: i32,
    /// When the session began, as text; the server's clock. Absent where the role may not see it.
    pub since: Option<String>,
}

impl Turn {
    /// Takes the turn of `label` at this database, if nobody has it. Does not wait.
    ///
    /// # Errors
    /// [`DumpError::Taken`] if somebody has it; no connection, or no answer.
    pub async fn take(options: &ConnectOptions, label: &Label) -> Result<Self, DumpError> {
        let key = key(label);
        let taking = async {
            let session = reading_session(options).await?;
            // A pooler would keep the lock in a session that is nobody's.
            check_no_pooler(options, &session).await?;
            let failed = |error| DumpError::told(&error);
            session.batch_execute(KEEPALIVE).await.map_err(failed)?;
            let taken = session.query_one(TRY, &[&CLASS, &key]).await.map_err(failed)?;
            if taken.get(0) {
                return Ok(Self(session));
            }
            // Both halves are unsigned there.
            let halves = [CLASS, key].map(|half| i64::from(half.cast_unsigned()));
            let holder = session.query_opt(HOLDER, &[&halves[0], &halves[1]]).await;
            let holder = holder.map_err(failed)?;
            Err(DumpError::Taken {
                holder: holder.map(|row| Holder { pid: row.get("pid"), since: row.get("since") }),
            })
        };
        timeout(ANSWER_DURATION_MAX, taking).await.map_err(|_| DumpError::Silent)?
    }

    /// Whether the session still lives, so that nobody else can have had the turn.
    pub async fn is_kept(&self) -> bool {
        let answer = timeout(ANSWER_DURATION_MAX, self.0.batch_execute("")).await;
        answer.is_ok_and(|answer| answer.is_ok())
    }
}

/// The second half: 28 bits of the label's digest. Two labels of one database that share them wait for each other, no more.
fn key(label: &Label) -> i32 {
    let digest = Digest::of(label.as_str().as_bytes()).to_string();
    i32::from_str_radix(&digest[..7], 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_of_one_label_and_stays() {
        let key = |label: &str| key(&label.parse().expect("a label"));
        assert_eq!(key("bookings"), key("bookings"));
        assert_ne!(key("bookings"), key("rentals"));
    }
}
