//! Large objects on their way in: made empty, with their owners, then filled.
//!
//! pg_restore makes them one transaction each, which takes minutes for some hundred thousand.

use std::collections::BTreeMap;

use bytes::Bytes;
use stonekeep_format::archive::Archive;

use super::{LoadError, Loader, PassOptions, copy::quoted};
use crate::refusal::Refusal;

/// The most bytes of large objects that [`Loader::put_large_objects`] is given at once: 8 MiB. They are held about three
/// times (ours, the driver's, the socket's).
pub const LARGE_OBJECT_WRITE_BYTES_MAX: usize = 8 << 20;

/// Large objects made by one statement, and one transaction (10,000): 40 KB of OIDs.
const MADE_AT_ONCE: usize = 10_000;

impl Loader {
    /// Makes all large objects of the archive, empty, each by its owner: so it is theirs. Under `no_owner` they are the
    /// role's that restores.
    ///
    /// # Errors
    /// [`LoadError::Refused`] if one is there already, or a role cannot be taken on; [`LoadError::Contents`].
    pub async fn make_large_objects(
        &mut self,
        archive: &Archive,
        options: &PassOptions,
    ) -> Result<(), LoadError> {
        let refused = |e| LoadError::refused("large objects", Refusal::told(&e));
        let mut of_owner: BTreeMap<Option<Vec<u8>>, Vec<u32>> = BTreeMap::new();
        let role = || options.role.as_ref().map(|role| role.clone().into_bytes());
        for entry in &archive.entries {
            let Some(oids) = entry.large_objects()? else { continue };
            let owner = entry.owner.as_deref().filter(|owner| !owner.is_empty());
            let owner = owner.filter(|_| !options.no_owner).map(<[u8]>::to_vec).or_else(role);
            of_owner.entry(owner).or_default().extend(oids);
        }
        for (owner, oids) in of_owner {
            if let Some(owner) = &owner {
                let become_owner = [b"SET ROLE ", quoted(owner).as_slice()].concat();
                let become_owner = self.statement(become_owner, "of large objects").await?;
                self.session.batch_execute(&become_owner).await.map_err(refused)?;
            }
            for some in oids.chunks(MADE_AT_ONCE) {
                let make = "SELECT pg_catalog.count(pg_catalog.lo_create(o)) FROM pg_catalog.unnest($1::oid[]) o";
                self.session.execute(make, &[&some]).await.map_err(refused)?;
            }
            self.session.batch_execute("RESET ROLE").await.map_err(refused)?;
        }
        Ok(())
    }

    /// Writes into a large object, which [`Self::make_large_objects`] has made. `offset` in bytes.
    ///
    /// # Errors
    /// [`LoadError::Refused`].
    pub async fn put_large_object(
        &mut self,
        oid: u32,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), LoadError> {
        let refused = |refusal| LoadError::refused(format!("large object {oid}"), refusal);
        let offset = i64::try_from(offset).map_err(|_| LoadError::TooLong { oid })?;
        let put = "SELECT pg_catalog.lo_put($1::oid, $2::int8, $3::bytea)";
        self.session
            .execute(put, &[&oid, &offset, &bytes])
            .await
            .map_err(|e| refused(Refusal::quiet(&e)))?;
        Ok(())
    }

    /// Writes whole small large objects in one statement, at most [`LARGE_OBJECT_WRITE_BYTES_MAX`] together.
    ///
    /// # Errors
    /// [`LoadError::Refused`].
    pub async fn put_large_objects(&mut self, objects: &[(u32, Bytes)]) -> Result<(), LoadError> {
        let (oids, contents): (Vec<u32>, Vec<&[u8]>) =
            objects.iter().map(|(oid, bytes)| (*oid, &bytes[..])).unzip();
        let put = "SELECT pg_catalog.lo_put(o.oid, 0, o.content) \
                   FROM ROWS FROM (pg_catalog.unnest($1::oid[]), pg_catalog.unnest($2::bytea[])) AS o(oid, content)";
        let refused = |refusal| LoadError::refused("large objects", refusal);
        self.session
            .execute(put, &[&oids, &contents])
            .await
            .map_err(|e| refused(Refusal::quiet(&e)))?;
        Ok(())
    }
}
