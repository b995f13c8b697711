//! From what the workers have stored to what a snapshot holds: everything is checked once more, and the pieces that are not
//! rows are stored.

use stonekeep_format::{
    archive::RowFormat,
    catalog::{Catalog, LargeObjects, Server, SlicedObject, Table, Text},
    digest::RowDigest,
    ids::RepositoryId,
    inventory::{SegmentKind, TableTotals},
    manifest::{Totals, Versions},
    slicer::HEAP_SLICE_PAGES,
};
use stonekeep_postgres::{
    compare::archive_sequences,
    source::{self, SourceOptions},
};

use super::{
    copy::Copied,
    large_objects,
    members::Packer,
    upload::{Slot, Uploads},
};
use crate::budget::Budget;
use crate::run::{BackupError, BackupPlan, Contents, Copies, Piece, Run};

/// Checks and completes what was copied.
pub(super) async fn complete(
    plan: &BackupPlan,
    source: &SourceOptions,
    mut copied: Copied,
    run: &Run,
) -> Result<Contents, BackupError> {
    check_complete(&copied)?;
    let failed = |source| BackupError::Source { label: plan.label.clone(), source };
    source::check_readable(source, &copied.dump.info, &copied.dump.archive)
        .await
        .map_err(failed)?;
    store_lists(plan, run, &mut copied).await?;
    let mut listed = Listed::new(&copied);
    let toc = directory_toc(&copied)?;
    let put = |kind, plaintext| run.keep(Piece { kind, member: None, plaintext, held: None });
    listed.lead(
        put(SegmentKind::Toc, toc).await?,
        put(SegmentKind::Globals, copied.dump.globals.clone()).await?,
    );
    Ok(Contents {
        catalog: catalog(plan, run, &copied, &listed),
        tables: table_totals(run, &copied),
        totals: totals(&copied),
        versions: versions(&copied),
        segments: listed.segments,
    })
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
            Slot::LargeObject { .. } | Slot::LargeObjects { .. } | Slot::Lists { .. } => false,
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

/// The archive's lists of large objects go into packs of their own: they change whenever an object comes or goes. A list that
/// is longer than a pack (some 700 000 objects, before PostgreSQL 17) is alone in one.
async fn store_lists(plan: &BackupPlan, run: &Run, copied: &mut Copied) -> Result<(), BackupError> {
    let lists = large_objects::lists(&copied.dump.archive, &copied.dump.large_objects)?;
    let budget = Budget::new(plan.memory_budget_bytes);
    let mut uploads = Uploads::new(run.clone());
    let mut packer = Packer::begin(&budget).await;
    for (at, (member, content)) in lists.into_iter().enumerate() {
        if content.len() as u64 > packer.room() && !packer.is_empty() {
            packer.put(|_| Slot::Lists { before: at }, &mut uploads)?;
            packer = Packer::begin(&budget).await;
        }
        packer.append(&member, &content)?;
    }
    packer.put(|_| Slot::Lists { before: usize::MAX }, &mut uploads)?;
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
    segments: Vec<Copies>,
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

    fn lead(&mut self, toc: Copies, globals: Copies) {
        self.segments.splice(0..0, [toc, globals]);
    }

    fn positions(&self, wanted: impl Fn(&Slot) -> bool) -> Vec<u32> {
        let positions = self.slots.iter().enumerate().filter(|(_, slot)| wanted(slot));
        positions.filter_map(|(at, _)| u32::try_from(at + LEADING).ok()).collect()
    }
}

/// The catalog of no repository yet: each gets its own.
fn catalog(plan: &BackupPlan, run: &Run, copied: &Copied, listed: &Listed) -> Catalog {
    let dump = &copied.dump;
    Catalog {
        format: Catalog::FORMAT.to_owned(),
        repository: RepositoryId::from_bytes([0; 16]),
        label: plan.label.clone(),
        id: run.id().clone(),
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
        objects: Some(dump.objects.clone()),
        warnings: dump.info.remarks.iter().chain(&dump.warnings).cloned().collect(),
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
            Slot::LargeObject { .. } | Slot::LargeObjects { .. } | Slot::Lists { .. } => false,
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

fn totals(copied: &Copied) -> Totals {
    Totals {
        tables: copied.dump.tables.len() as u64,
        binary_tables: copied.dump.tables.iter().filter(|table| is_binary(table)).count() as u64,
        rows: copied.rows.values().map(|digest| digest.rows).sum(),
        large_objects: copied.large_objects.objects,
        ..Totals::default()
    }
}

fn is_binary(table: &source::SourceTable) -> bool {
    table.format == RowFormat::Binary
}

fn versions(copied: &Copied) -> Versions {
    Versions {
        stonekeep: env!("CARGO_PKG_VERSION").to_owned(),
        server: copied.dump.info.server_version.clone(),
        pg_dump: copied.dump.info.pg_dump_version.clone(),
    }
}

fn table_totals(run: &Run, copied: &Copied) -> Vec<TableTotals> {
    let none = RowDigest::default();
    let table = |(at, table): (usize, &source::SourceTable)| {
        let digest = copied.rows.get(&at).unwrap_or(&none);
        let name = run.keyer().table_name(&table.schema, &table.name);
        let slice_pages = Some(table.slice_pages).filter(|pages| *pages > HEAP_SLICE_PAGES);
        let (rows, plain_bytes) = (digest.rows, digest.bytes);
        TableTotals { name, rows, plain_bytes, slice_pages, binary: is_binary(table) }
    };
    copied.dump.tables.iter().enumerate().map(table).collect()
}
