//! Attacking one's own repository: the only place where a delete can be said, and what it can be said of.
//!
//! Every attack is one request, sent once. Those on objects take a [`Canary`], and a canary comes from [`ProbeStore::plant`]
//! alone: its key lies under `canary/`, its version id is that of its own PUT. So no code can name a snapshot's objects to
//! an attack. Attacks on the bucket's configuration carry a body that no server can act on, or ask for what a bucket with
//! locked versions refuses by itself.

use std::fmt;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use stonekeep_format::{
    ids::{SnapshotId, VersionId},
    key::ObjectKey,
    lock::Lock,
};

use crate::{Answer, AppendStore};

/// An object of `prove`'s own: a few bytes that nobody will miss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    key: ObjectKey,
    version_id: VersionId,
}

impl Canary {
    pub(crate) const fn new(key: ObjectKey, version_id: VersionId) -> Self {
        Self { key, version_id }
    }

    /// Returns its key.
    #[must_use]
    pub const fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// Returns the version that its own PUT made.
    #[must_use]
    pub const fn version_id(&self) -> &VersionId {
        &self.version_id
    }
}

/// How a canary is put. From the fourth on these are attacks: a writer has no business with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planting {
    /// As a backup is: in one PUT, under this lock.
    Locked(Lock),
    /// Without a lock, where the writer names the locks: whether it can be deleted is a question of rights alone.
    Unlocked(Lock),
    /// In parts, under this lock.
    Multipart(Lock),
    /// With a lock of a date that the bucket's own default does not have, where the bucket names the locks.
    NamedLock(Lock),
    /// With a legal hold, which has no end.
    LegalHold(Lock),
    /// With an event hold, which has no end either.
    EventHold(Lock),
    /// Under a key of the key management service that is not ours.
    ForeignKey(Lock),
    /// Outside the folders of a writer: under `canary-outside/`.
    Beside(Lock),
    /// Outside the repository's prefix, where it has one.
    Outside(Lock),
}

impl Planting {
    /// Returns the lock that is asked for.
    #[must_use]
    pub const fn lock(&self) -> Lock {
        match self {
            Self::Locked(lock)
            | Self::Unlocked(lock)
            | Self::Multipart(lock)
            | Self::NamedLock(lock)
            | Self::LegalHold(lock)
            | Self::EventHold(lock)
            | Self::ForeignKey(lock)
            | Self::Beside(lock)
            | Self::Outside(lock) => *lock,
        }
    }
}

/// What an attacker who holds a credential would try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// Deletes the canary's version.
    DeleteVersion {
        /// Whether the header that bypasses GOVERNANCE goes with it.
        bypass: bool,
    },
    /// The same by the call for many objects, which has checks of its own.
    DeleteMany {
        /// Whether the header that bypasses GOVERNANCE goes with it.
        bypass: bool,
    },
    /// Sets this lock instead of the canary's: an earlier date, or another mode.
    Relock(Lock),
    /// Sets a lock without mode and date.
    ClearLock,
    /// Sets a lock on a version that does not exist.
    LockNothing {
        /// Its date.
        until: DateTime<Utc>,
    },
    /// Hides the canary behind a delete marker.
    Hide,
    /// Puts over the canary's key.
    Overwrite {
        /// Whether on the condition that there is nothing under it.
        conditional: bool,
    },
    /// Sets a legal hold on the canary.
    Hold,
    /// Lets everybody read the canary.
    Publish,
    /// Reads the canary.
    Read,
    /// Lists what the bucket holds.
    List,
    /// Lists all versions.
    ListVersions,
    /// Asks for the bucket as if it were somebody else's.
    ForeignOwner,
    /// Suspends versioning, which a bucket with Object Lock refuses.
    SuspendVersioning,
    /// Deletes the bucket, which is not empty: a canary is in it.
    DeleteBucket,
    /// Sets lifecycle rules, with a status that does not exist.
    Lifecycle,
    /// Sets a default retention in days and in years, which is not allowed.
    DefaultRetention,
    /// Sets a bucket policy with an effect that does not exist.
    Policy,
    /// Sets a default encryption with a document that is none.
    Encryption,
    /// Sets a replication with a status that does not exist.
    Replication,
    /// Sets who may make things public, with a word where true or false must stand.
    PublicAccess,
    /// Sets who owns objects, with a rule that does not exist.
    Ownership,
    /// Sets the bucket's access list, with one that does not exist.
    BucketAcl,
    /// Ends an upload in parts that does not exist.
    AbortUpload,
    /// Lists uploads in parts.
    ListUploads,
}

/// How the server took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reaction {
    /// It did what was asked.
    Done,
    /// It refused for want of a right, or because of a lock: which of them, it does not say.
    Denied,
    /// It refused for another reason: the state of things, or the form of the request. Whether it looked at rights before, it
    /// does not say.
    Stopped,
    /// It did not answer, or not as an S3 server that is well, or not to this credential at all.
    Unclear,
}

/// A server's answer to an attack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeAnswer {
    /// How it took it.
    pub reaction: Reaction,
    /// What it said; the status is 0 if it said nothing.
    pub answer: Answer,
}

impl ProbeAnswer {
    /// Returns what an answer of this status and these words is; `done` if a success is one.
    pub(crate) fn new(answer: Answer) -> Self {
        let reaction = match answer.status {
            200..=299 if answer.code.is_empty() => Reaction::Done,
            // The call for many objects succeeds, and says of each why not.
            200..=299 | 403 if is_denial(&answer.code) => Reaction::Denied,
            400 | 404 | 405 | 409 | 411 | 412 => Reaction::Stopped,
            _ => Reaction::Unclear,
        };
        Self { reaction, answer }
    }

    pub(crate) fn silence(why: impl fmt::Display) -> Self {
        let answer = Answer::new(0, None, Some(&why.to_string()));
        Self { reaction: Reaction::Unclear, answer }
    }
}

impl fmt::Display for ProbeAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answer { status, code, message } = &self.answer;
        match (*status, code.as_str()) {
            (0, _) => write!(f, "no answer: {message}"),
            (status, "") => write!(f, "{status}"),
            (status, code) => write!(f, "{status} {code}"),
        }
    }
}

/// The words of an S3 server that refuses for want of a right, or because of a lock. Any other 403 is none: a proxy's page, a
/// quota, a credential that nobody knows, with which nothing was tried at all.
fn is_denial(code: &str) -> bool {
    matches!(code, "AccessDenied" | "AccessForbidden" | "ObjectLocked")
}

/// A repository that can be attacked: what `prove` holds, and nobody else.
#[async_trait]
pub trait ProbeStore: fmt::Debug + Send + Sync {
    /// Returns the repository for what is no attack: reading locks back, the server's clock, the record.
    fn store(&self) -> &dyn AppendStore;

    /// Puts a canary under `canary/<run>/<name>`.
    ///
    /// # Errors
    /// The server's answer, if there is no canary now.
    async fn plant(
        &self,
        run: &SnapshotId,
        name: &str,
        planting: Planting,
    ) -> Result<Canary, ProbeAnswer>;

    /// Sends one attack, once; `signed` by our credential, or by nobody.
    async fn attack(&self, attack: Attack, canary: &Canary, signed: bool) -> ProbeAnswer;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reaction(status: u16, code: &str) -> Reaction {
        ProbeAnswer::new(Answer::new(status, Some(code), None)).reaction
    }

    #[test]
    fn nothing_but_a_denial_is_one() {
        assert_eq!(reaction(403, "AccessDenied"), Reaction::Denied);
        assert_eq!(reaction(200, "AccessDenied"), Reaction::Denied);
        for (status, code) in [
            (403, ""),
            (403, "QuotaExceeded"),
            (403, "SignatureDoesNotMatch"),
            (403, "RequestTimeTooSkewed"),
            (500, "InternalError"),
            (503, "SlowDown"),
            (501, "NotImplemented"),
            (0, ""),
            (301, ""),
            (200, "InternalError"),
        ] {
            assert_eq!(reaction(status, code), Reaction::Unclear, "{status} {code}");
        }
        for status in [400, 404, 405, 409, 412] {
            assert_eq!(reaction(status, "Any"), Reaction::Stopped);
        }
        assert_eq!((reaction(204, ""), reaction(200, "")), (Reaction::Done, Reaction::Done));
    }
}
