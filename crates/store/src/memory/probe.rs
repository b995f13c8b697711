//! The model under attack: what a server that keeps its locks answers, by the rights of the credential.

use async_trait::async_trait;
use bytes::Bytes;
use stonekeep_format::{
    genesis::LockBy,
    ids::SnapshotId,
    key::ObjectKey,
    lock::{Lock, LockMode},
};

use super::{Entry, MemoryStore, Right};
use crate::{Answer, AppendStore, Attack, Canary, Planting, ProbeAnswer, ProbeStore, StoreError};

/// What a canary holds.
const SONG: Bytes = Bytes::from_static(b"a canary");

#[async_trait]
impl ProbeStore for MemoryStore {
    fn store(&self) -> &dyn AppendStore {
        self
    }

    async fn plant(
        &self,
        run: &SnapshotId,
        name: &str,
        planting: Planting,
    ) -> Result<Canary, ProbeAnswer> {
        let (mut key, mut store) = (ObjectKey::canary(run, name), self.clone());
        match planting {
            Planting::Locked(_) | Planting::Multipart(_) => {}
            Planting::Unlocked(_) => {
                self.needs(Right::Put)?;
                return Ok(Canary::new(key.clone(), self.plant(&key, SONG)));
            }
            Planting::NamedLock(_) => {
                self.needs(Right::WriteLock)?;
                store.lock_by = LockBy::PerObject;
            }
            Planting::LegalHold(_) | Planting::EventHold(_) => self.needs(Right::Hold)?,
            Planting::ForeignKey(_) => {
                self.needs(Right::Put)?;
                return Err(answer(400, "KMS.NotFoundException"));
            }
            Planting::Beside(_) | Planting::Outside(_) => {
                self.needs(Right::PutAnywhere)?;
                let beside = format!("canary-outside/{run}");
                key = beside.parse().expect("an id makes a short key");
            }
        }
        match store.put(&key, SONG, planting.lock()).await {
            Ok(version_id) => Ok(Canary::new(key, version_id)),
            Err(error) => Err(of_error(&error)),
        }
    }

    async fn attack(&self, attack: Attack, canary: &Canary, signed: bool) -> ProbeAnswer {
        if !signed {
            return answer(403, "AccessDenied");
        }
        self.take(attack, canary).await.unwrap_or_else(|refused| refused)
    }
}

impl MemoryStore {
    fn needs(&self, right: Right) -> Result<(), ProbeAnswer> {
        if self.denied.contains(&right) { Err(answer(403, "AccessDenied")) } else { Ok(()) }
    }

    async fn take(&self, attack: Attack, canary: &Canary) -> Result<ProbeAnswer, ProbeAnswer> {
        let done = Ok(answer(200, ""));
        match attack {
            Attack::DeleteVersion { bypass } | Attack::DeleteMany { bypass } => {
                self.needs(Right::Delete)?;
                self.delete(canary, bypass)
            }
            Attack::Relock(lock) => {
                let set = self.extend(canary.key(), canary.version_id(), lock).await;
                set.map(|()| answer(200, "")).map_err(|error| of_error(&error))
            }
            Attack::ClearLock => {
                self.needs(Right::WriteLock)?;
                Err(answer(400, "MalformedXML"))
            }
            Attack::LockNothing { .. } => {
                self.needs(Right::WriteLock)?;
                Err(answer(404, "NoSuchVersion"))
            }
            Attack::Hide => {
                self.needs(Right::Delete)?;
                self.plant_marker(canary.key());
                done
            }
            Attack::Overwrite { conditional } => {
                self.needs(Right::Put)?;
                if conditional {
                    return Err(answer(412, "PreconditionFailed"));
                }
                self.append(canary.key(), Some(SONG), None);
                done
            }
            Attack::Hold => self.needs(Right::Hold).and(done),
            Attack::Publish => self.needs(Right::Publish).and(done),
            Attack::Read => self.needs(Right::Read).and(done),
            Attack::List | Attack::ListVersions | Attack::ListUploads => {
                self.needs(Right::List).and(done)
            }
            Attack::ForeignOwner => Err(answer(403, "AccessDenied")),
            Attack::AbortUpload => {
                self.needs(Right::Put)?;
                Err(answer(404, "NoSuchUpload"))
            }
            Attack::SuspendVersioning => {
                self.needs(Right::Configure)?;
                Err(answer(409, "InvalidBucketState"))
            }
            Attack::DeleteBucket => {
                self.needs(Right::Configure)?;
                Err(answer(409, "BucketNotEmpty"))
            }
            Attack::Lifecycle
            | Attack::DefaultRetention
            | Attack::Policy
            | Attack::Encryption
            | Attack::Replication
            | Attack::PublicAccess
            | Attack::Ownership
            | Attack::BucketAcl => {
                self.needs(Right::Configure)?;
                Err(answer(400, "MalformedXML"))
            }
        }
    }

    fn delete(&self, canary: &Canary, bypass: bool) -> Result<ProbeAnswer, ProbeAnswer> {
        let entry = self.entry(canary.key(), canary.version_id());
        let (_, Entry { lock, .. }) = entry.map_err(|error| of_error(&error))?;
        let holds = |lock: Lock| {
            let passes = bypass && lock.mode == LockMode::Governance;
            lock.retain_until > self.clock.now() && !passes
        };
        if lock.is_some_and(holds) {
            return Err(answer(403, "AccessDenied"));
        }
        self.lose(canary.key(), canary.version_id());
        Ok(answer(204, ""))
    }
}

fn answer(status: u16, code: &str) -> ProbeAnswer {
    ProbeAnswer::new(Answer::new(status, Some(code), None))
}

fn of_error(error: &StoreError) -> ProbeAnswer {
    match error {
        StoreError::Denied { source, .. } | StoreError::Rejected { source, .. } => {
            ProbeAnswer::new(source.clone())
        }
        StoreError::NotFound { .. } => answer(404, "NoSuchVersion"),
        other => ProbeAnswer::silence(other),
    }
}
