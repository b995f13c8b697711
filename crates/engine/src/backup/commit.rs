//! From stored segments to a snapshot: everything is checked once more, then catalog, inventory and manifest are put, in this
//! order. The manifest's PUT is the commit.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use stonekeep_format::{
    catalog::{Catalog, LargeObjects, Server, SlicedObject, Table, Text},
    digest::RowDigest,
    ids::{Digest, SnapshotId},
    inventory::{Inventory, Segment, SegmentKind, TableTotals},
    key::ObjectKey,
    lock,
    manifest::{InventoryRef, Manifest, Totals, Versions},
    signature::{SignedDocument, sign_document},
};
use stonekeep_postgres::{
    compare::archive_sequences,
    source::{self, SourceOptions},
};
use stonekeep_store::{AppendStore, PutReceipt, StoreError, list_all, put_locked};

use super::{
    BackupError, BackupPlan, BackupReport, Prepared,
    copy::Copied,
    large_objects,
    members::Packer,
    prepare::server_time,
    upload::{Piece, Slot, Uploads},
};
use crate::{Context, events::Event};

/// How often a manifest is sent (3) before its outcome is called unknown.
const MANIFEST_TRIES: u32 = 3;
/// Versions of one manifest key that are looked at after an unknown outcome.
const MANIFEST_VERSIONS_MAX: usize = 1000;

/// Checks, completes and commits.
pub(super) async fn commit(
    plan: &BackupPlan,
    source: &SourceOptions,
    prepared: Prepared,
    mut copied: Copied,
    context: &Context,
) -> Result<BackupReport, BackupError> {
    check_complete(&copied)?;
    let failed = |source| BackupError::Source { label: plan.label.clone(), source };
    let work_dir = std::env::temp_dir().join(format!("stonekeepd-{}", prepared.id));
    source::check_readable(source, &copied.dump.info, &copied.dump.archive, work_dir)
        .await
        .map_err(failed)?;
    store_lists(plan, &mut copied).await?;
    let mut listed = Listed::new(&copied);
    let toc = directory_toc(&copied)?;
    let uploader = copied.uploader.clone();
    let put = |kind, plaintext| uploader.store(Piece { kind, member: None, plaintext, held: None });
    listed.lead(
        put(SegmentKind::Toc, toc).await?,
        put(SegmentKind::Globals, copied.dump.globals.clone()).await?,
    );
    let catalog = catalog(plan, &prepared, &copied, &listed);
    let plaintext = serde_json::to_vec(&catalog)
        .map_err(|error| BackupError::Internal(format!("cannot write the catalog: {error}")))?;
    listed.segments.push(put(SegmentKind::Catalog, plaintext).await?);
    let totals = totals(&copied, &listed.segments);
    let (versions, snapshot_at) = (versions(&copied), copied.dump.snapshot_at);
    let warnings = std::mem::take(&mut copied.dump.warnings);
    let tables = table_totals(&prepared, &copied);
    // The dump ends here: production's locks and snapshot are given back before the last objects are put.
    drop(copied);
    let inventory = put_inventory(plan, &prepared, listed.segments, tables, context).await?;
    let committed_at = server_time(&*prepared.store).await?;
    let manifest = Manifest {
        format: Manifest::FORMAT.to_owned(),
        repository: prepared.repository.genesis.repository,
        label: plan.label.clone(),
        key: ObjectKey::manifest(
            &plan.label,
            prepared.position.seq,
            prepared.position.chain,
            &prepared.id,
        ),
        id: prepared.id.clone(),
        seq: prepared.position.seq,
        chain: prepared.position.chain,
        previous: prepared.position.previous.clone(),
        live: prepared.position.live.clone(),
        maybe: Vec::new(),
        tier: prepared.tier.name.clone(),
        keep: prepared.tier.keep,
        started_at: prepared.started_at,
        snapshot_at,
        committed_at,
        promised_until: lock::promised_until(committed_at, prepared.tier.keep),
        suspicious: None,
        inventory,
        totals,
        recipients: prepared.recipients.fingerprint(),
        versions,
    };
    put_manifest(plan, &prepared, &manifest, context).await?;
    Ok(report(manifest, warnings, context))
}

/// Nothing that failed can look finished: every table that pg_dump names was read, and every large object.
fn check_complete(copied: &Copied) -> Result<(), BackupError> {
    let incomplete = |what| Err(BackupError::Incomplete { what });
    for (at, table) in copied.dump.tables.iter().enumerate() {
        if !copied.rows.contains_key(&at) {
            return incomplete(format!("no worker read table {}", table.display_name()));
        }
        let has_segment = copied.segments.keys().any(|slot| match slot {
            Slot::Table { table, .. } => *table == at,
            Slot::Tables(tables) => tables.contains(&at),
            Slot::LargeObject { .. } | Slot::LargeObjects { .. } => false,
        });
        if !has_segment {
            return incomplete(format!("table {} has no segment", table.display_name()));
        }
    }
    let (wanted, found) = (copied.dump.large_objects.len() as u64, copied.large_objects.objects);
    if wanted != found {
        return incomplete(format!("{found} of {wanted} large objects were read"));
    }
    Ok(())
}

/// The archive's lists of large objects go into a pack of their own: they change whenever an object comes or goes.
async fn store_lists(plan: &BackupPlan, copied: &mut Copied) -> Result<(), BackupError> {
    let lists = large_objects::lists(&copied.dump.archive, &copied.dump.large_objects)?;
    if lists.is_empty() {
        return Ok(());
    }
    let mut packer = Packer::begin(&super::budget::Budget::new(plan.memory_budget_bytes)).await;
    for (member, content) in lists {
        packer.append(&member, &content)?;
    }
    let mut uploads = Uploads::new(copied.uploader.clone());
    packer.put(Slot::Tables, &mut uploads)?;
    copied.segments.extend(uploads.finish().await?);
    Ok(())
}

fn directory_toc(copied: &Copied) -> Result<Vec<u8>, BackupError> {
    let mut toc = Vec::new();
    let written = copied.dump.archive.write_directory(&mut toc);
    written.map_err(|error| BackupError::Internal(format!("cannot write toc.dat: {error}")))?;
    Ok(toc)
}

/// The inventory's list, and where each table's segments stand in it.
struct Listed {
    segments: Vec<Segment>,
    /// Positions before [`Listed::lead`] has put two segments in front.
    slots: Vec<Slot>,
}

/// `toc` and `globals` come first, so that a restore by hand has them before any row.
const LEADING: usize = 2;

impl Listed {
    fn new(copied: &Copied) -> Self {
        let (slots, segments) = copied.segments.clone().into_iter().unzip();
        Self { segments, slots }
    }

    fn lead(&mut self, toc: Segment, globals: Segment) {
        self.segments.splice(0..0, [toc, globals]);
    }

    fn positions(&self, wanted: impl Fn(&Slot) -> bool) -> Vec<u32> {
        let positions = self.slots.iter().enumerate().filter(|(_, slot)| wanted(slot));
        positions.filter_map(|(at, _)| u32::try_from(at + LEADING).ok()).collect()
    }
}

fn catalog(plan: &BackupPlan, prepared: &Prepared, copied: &Copied, listed: &Listed) -> Catalog {
    let dump = &copied.dump;
    Catalog {
        format: Catalog::FORMAT.to_owned(),
        repository: prepared.repository.genesis.repository,
        label: plan.label.clone(),
        id: prepared.id.clone(),
        digest_key: copied.digest_key.clone(),
        snapshot_at: dump.snapshot_at,
        wal_lsn: dump.wal_lsn.clone(),
        server: Server {
            version_num: dump.info.server_version_num,
            version: dump.info.server_version.clone(),
            system_identifier: dump.info.system_identifier.clone(),
            settings: dump.info.settings.clone(),
        },
        database: dump.database.clone(),
        tables: tables(copied, listed),
        large_objects: catalog_large_objects(copied, listed),
        sequences: archive_sequences(&dump.archive),
        warnings: dump.warnings.clone(),
    }
}

fn tables(copied: &Copied, listed: &Listed) -> Vec<Table> {
    let table = |(at, table): (usize, &source::SourceTable)| Table {
        oid: table.oid,
        dump_id: table.dump_id,
        schema: Text(table.schema.clone()),
        name: Text(table.name.clone()),
        columns: table.columns.iter().cloned().map(Text).collect(),
        condition: table.condition.as_deref().map(Text::from),
        member: table.member.clone(),
        digest: copied.rows.get(&at).copied().unwrap_or_default(),
        segments: listed.positions(|slot| match slot {
            Slot::Table { table, .. } => *table == at,
            Slot::Tables(tables) => tables.contains(&at),
            Slot::LargeObject { .. } | Slot::LargeObjects { .. } => false,
        }),
    };
    copied.dump.tables.iter().enumerate().map(table).collect()
}

fn catalog_large_objects(copied: &Copied, listed: &Listed) -> LargeObjects {
    let first_slices = listed.slots.iter().filter_map(|slot| match slot {
        Slot::LargeObject { oid, cut: 0 } => Some(*oid),
        _ => None,
    });
    let sliced = |wanted: u32| SlicedObject {
        oid: wanted,
        segments: listed
            .positions(|slot| matches!(slot, Slot::LargeObject { oid, .. } if *oid == wanted)),
    };
    LargeObjects {
        digest: copied.large_objects,
        packs: listed.positions(|slot| matches!(slot, Slot::LargeObjects { .. })),
        sliced: first_slices.map(sliced).collect(),
    }
}

fn totals(copied: &Copied, segments: &[Segment]) -> Totals {
    let sum = |bytes: fn(&Segment) -> u64| segments.iter().map(bytes).sum();
    let sealed_bytes = sum(|segment| segment.bytes);
    Totals {
        tables: copied.dump.tables.len() as u64,
        rows: copied.rows.values().map(|digest| digest.rows).sum(),
        large_objects: copied.large_objects.objects,
        segments: segments.len() as u64,
        plain_bytes: sum(|segment| segment.plain_bytes),
        sealed_bytes,
        put_bytes: sealed_bytes,
    }
}

fn versions(copied: &Copied) -> Versions {
    Versions {
        stonekeep: env!("CARGO_PKG_VERSION").to_owned(),
        server: copied.dump.info.server_version.clone(),
        pg_dump: copied.dump.info.pg_dump_version.clone(),
    }
}

fn table_totals(prepared: &Prepared, copied: &Copied) -> Vec<TableTotals> {
    let none = RowDigest::default();
    let table = |(at, table): (usize, &source::SourceTable)| {
        let digest = copied.rows.get(&at).unwrap_or(&none);
        let name = prepared.keyer.table_name(&table.schema, &table.name);
        TableTotals { name, rows: digest.rows, plain_bytes: digest.bytes }
    };
    copied.dump.tables.iter().enumerate().map(table).collect()
}

async fn put_inventory(
    plan: &BackupPlan,
    prepared: &Prepared,
    segments: Vec<Segment>,
    tables: Vec<TableTotals>,
    context: &Context,
) -> Result<InventoryRef, BackupError> {
    let promised_until =
        lock::promised_until(server_time(&*prepared.store).await?, prepared.tier.keep);
    for segment in &segments {
        outlives(&segment.key, segment.lock.retain_until, promised_until)?;
    }
    let inventory = Inventory {
        format: Inventory::FORMAT.to_owned(),
        repository: prepared.repository.genesis.repository,
        label: plan.label.clone(),
        id: prepared.id.clone(),
        segments,
        tables,
    };
    let stored = inventory.dump().map_err(BackupError::Inventory)?;
    let (bytes, digest) = (stored.len() as u64, Digest::of(&stored));
    let receipt = put_inventory_bytes(prepared, Bytes::from(stored), context).await?;
    outlives(&receipt.key, receipt.lock.retain_until, promised_until)?;
    Ok(InventoryRef {
        key: receipt.key,
        bucket: prepared.store.bucket().clone(),
        version_id: receipt.version_id,
        bytes,
        digest,
        lock: receipt.lock,
    })
}

/// An inventory's key has no random part, so a second try takes a new version of the same key; the manifest names which.
async fn put_inventory_bytes(
    prepared: &Prepared,
    body: Bytes,
    context: &Context,
) -> Result<PutReceipt, BackupError> {
    let key = ObjectKey::inventory(prepared.class, &prepared.id);
    let put = stonekeep_store::put_fresh(
        &*prepared.store,
        &*context.clock,
        || key.clone(),
        body,
        prepared.lock,
    );
    put.await
        .map_err(|source| BackupError::Store { action: "store the inventory under lock", source })
}

fn outlives(
    key: &ObjectKey,
    retain_until: DateTime<Utc>,
    promised_until: DateTime<Utc>,
) -> Result<(), BackupError> {
    if retain_until > promised_until {
        return Ok(());
    }
    Err(BackupError::PromiseOutlivesLock { key: key.to_string(), retain_until, promised_until })
}

/// Puts the manifest. Its bytes are the same each time, so a second version of it does no harm: readers take the oldest.
async fn put_manifest(
    plan: &BackupPlan,
    prepared: &Prepared,
    manifest: &Manifest,
    context: &Context,
) -> Result<(), BackupError> {
    outlives(&manifest.key, prepared.lock.retain_until, manifest.promised_until)?;
    let object = sign_document(manifest, &plan.signer).map_err(BackupError::Sign)?;
    if object.len() as u64 > Manifest::BYTES_MAX {
        let what = format!(
            "the manifest has {} bytes, more than readers take: too many live snapshots",
            object.len()
        );
        return Err(BackupError::Incomplete { what });
    }
    let body = Bytes::from(object);
    let mut tries = 1;
    loop {
        let put = put_locked(&*prepared.store, &manifest.key, body.clone(), prepared.lock).await;
        let Err(error) = put else { return Ok(()) };
        if !error.is_transient() {
            return Err(BackupError::Store {
                action: "store the manifest under lock",
                source: error,
            });
        }
        if landed(&*prepared.store, &manifest.key, body.len() as u64).await {
            return Ok(());
        }
        if tries == MANIFEST_TRIES {
            return Err(BackupError::Uncertain { key: manifest.key.to_string(), source: error });
        }
        context.tell(Event::Retried {
            action: "put the manifest".to_owned(),
            reason: error.to_string(),
        });
        tries += 1;
    }
}

/// Whether a manifest whose PUT got no answer is there, locked as it must be.
async fn landed(store: &dyn AppendStore, key: &ObjectKey, bytes: u64) -> bool {
    let look = async {
        let listing = list_all(store, key.as_str(), MANIFEST_VERSIONS_MAX).await?;
        let Some(version) =
            listing.versions.iter().find(|each| each.key == *key && each.bytes == bytes)
        else {
            return Ok(false);
        };
        store.retention(key, &version.version_id).await.map(|lock| lock.is_some())
    };
    let seen: Result<bool, StoreError> = look.await;
    seen.unwrap_or(false)
}

fn report(manifest: Manifest, warnings: Vec<String>, context: &Context) -> BackupReport {
    let Manifest { label, id, seq, chain, tier, committed_at, promised_until, totals, .. } =
        manifest;
    let snapshot: SnapshotId = id;
    context.tell(Event::Committed {
        label: label.clone(),
        snapshot: snapshot.clone(),
        tier: tier.clone(),
        promised_until,
    });
    BackupReport {
        label,
        snapshot,
        seq,
        chain,
        tier,
        committed_at,
        promised_until,
        totals,
        duration_ms: 0,
        warnings,
    }
}
