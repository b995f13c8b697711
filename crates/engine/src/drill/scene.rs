//! Where a drill restores to: a scratch server that it makes, or a database of its own on a server it was given.

use std::{collections::BTreeMap, path::PathBuf};

use async_trait::async_trait;
use stonekeep_format::ids::SnapshotId;
use stonekeep_postgres::{
    connect::ConnectOptions,
    scratch::{Scratch, ScratchOptions, Swept, room, sweep},
    target::{drill_name, drop_drill_database, sweep_drill_databases},
};

use super::{DrillError, DrillPlan};
use crate::{
    Context,
    events::Phase,
    history::Snapshot,
    restore::{Confirm, Question},
};

/// Room that a scratch server takes beside the data, in bytes (1.5 GiB): 40 MiB of a new cluster, its write-ahead log, and space to
/// sort in.
const ROOM_BESIDE_BYTES: u64 = 1_536 << 20;
/// The room of a table with its indexes, against its plaintext, in percent (200): PostgreSQL's headers of rows and pages take a
/// quarter of narrow ones, and indexes rarely more than the table.
const ROOM_PERCENT: u64 = 200;
/// The least memory a drill is begun with, in bytes (512 MiB): half for us, half for a small server.
const MEMORY_BYTES_MIN: u64 = 512 << 20;

/// Where a drill restores to.
#[derive(Debug, Clone)]
pub enum Scene {
    /// A server that is made in a directory, and removed again.
    Scratch {
        /// The directory.
        dir: PathBuf,
        /// Settings of the server.
        settings: BTreeMap<String, String>,
    },
    /// A new database on this server, dropped again.
    Server(Box<ConnectOptions>),
}

impl Scene {
    /// Returns host and port of a server that was given.
    #[must_use]
    pub fn address(&self) -> Option<String> {
        match self {
            Self::Scratch { .. } => None,
            Self::Server(server) => Some(server.address()),
        }
    }

    /// Whether the server waits for its disk; of one that was given nobody knows.
    pub(super) fn fsync(&self) -> Option<bool> {
        let is_on = |value: &String| {
            matches!(&*value.to_ascii_lowercase(), "on" | "true" | "t" | "yes" | "y" | "1")
        };
        match self {
            Self::Scratch { settings, .. } => Some(settings.get("fsync").is_some_and(is_on)),
            Self::Server(_) => None,
        }
    }
}

/// A scene that is set.
#[derive(Debug)]
pub(super) enum Stage {
    Scratch(Box<Scratch>),
    Given(Box<ConnectOptions>),
}

impl Stage {
    /// Sets the scene: what killed drills left is removed, and there is room.
    ///
    /// # Errors
    /// [`DrillError`].
    pub(super) async fn set(
        plan: &DrillPlan,
        snapshot: &Snapshot,
        drill: &SnapshotId,
        context: &Context,
    ) -> Result<Self, DrillError> {
        super::phase(context, Phase::Starting);
        match &plan.scene {
            Scene::Scratch { dir, settings } => {
                sweep(dir).await?.iter().for_each(|swept| context.warn(told(swept)));
                check_room(dir, snapshot)?;
                let options = ScratchOptions {
                    tools: plan.tools.clone(),
                    major: major(snapshot),
                    dir: dir.clone(),
                    jobs: plan.jobs,
                    settings: settings.clone(),
                };
                Ok(Self::Scratch(Box::new(Scratch::start(&options).await?)))
            }
            Scene::Server(server) => {
                let left = sweep_drill_databases(server, drill).await;
                let left = left.map_err(DrillError::Server)?;
                for name in left.dropped {
                    context
                        .warn(format!("database {name:?}, which a killed drill left, is dropped"));
                }
                for name in left.unmarked {
                    context.warn(format!(
                        "database {name:?} has the name of a drill's and no mark: it is left; drop it, if a killed drill made it"
                    ));
                }
                Ok(Self::Given(server.clone()))
            }
        }
    }

    /// Whether the server is somebody else's.
    pub(super) const fn is_given(&self) -> bool {
        matches!(self, Self::Given(_))
    }

    /// Returns the database that the drill restores to.
    pub(super) fn database(&self, drill: &SnapshotId) -> ConnectOptions {
        let name = drill_name(drill);
        match self {
            Self::Scratch(scratch) => scratch.server().with_database(&name),
            Self::Given(server) => server.with_database(&name),
        }
    }

    /// Returns who is asked whether the server may be used: nobody of one that was made for it.
    pub(super) fn confirm<'c>(&self, person: &'c dyn Confirm) -> &'c dyn Confirm {
        match self {
            Self::Scratch(_) => &Ours,
            Self::Given(_) => person,
        }
    }

    /// What is removed at the end, in words.
    pub(super) fn what(&self, drill: &SnapshotId) -> String {
        match self {
            Self::Scratch(_) => "the scratch server".to_owned(),
            Self::Given(server) => {
                format!("database {:?} on {}", drill_name(drill), server.address())
            }
        }
    }

    /// Removes what was made.
    ///
    /// # Errors
    /// [`DrillError`]: something is left, which the next drill removes.
    pub(super) async fn clear(self, drill: &SnapshotId) -> Result<(), DrillError> {
        match self {
            Self::Scratch(scratch) => Ok(scratch.stop().await?),
            Self::Given(server) => {
                drop_drill_database(&server, drill).await.map_err(DrillError::Server)?;
                Ok(())
            }
        }
    }
}

/// The server is the drill's own, made a moment ago: production's it cannot be.
struct Ours;

#[async_trait]
impl Confirm for Ours {
    async fn confirm(&self, _question: &Question) -> bool {
        true
    }
}

fn told(swept: &Swept) -> String {
    let path = swept.path.display();
    match (&swept.failure, swept.server_ran) {
        (Some(why), _) => format!("{path}, which a killed drill left, is not removed: {why}"),
        (None, true) => format!("{path}, which a killed drill left, and its server, is removed"),
        (None, false) => format!("{path}, which a killed drill left, is removed"),
    }
}

/// The major version of the server that the snapshot was taken from.
fn major(snapshot: &Snapshot) -> u32 {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    digits(&snapshot.manifest.versions.server).parse().unwrap_or_default()
}

fn check_room(dir: &std::path::Path, snapshot: &Snapshot) -> Result<(), DrillError> {
    let room = room(dir).map_err(|source| DrillError::Room { dir: dir.to_owned(), source })?;
    let of_data = snapshot.manifest.totals.plain_bytes.saturating_mul(ROOM_PERCENT) / 100;
    let needed = of_data.saturating_add(ROOM_BESIDE_BYTES);
    if room.disk_bytes < needed {
        return Err(DrillError::NoRoom {
            dir: dir.to_owned(),
            label: snapshot.manifest.label.to_string(),
            free_mib: room.disk_bytes >> 20,
            needed_mib: needed >> 20,
        });
    }
    if room.memory_bytes < MEMORY_BYTES_MIN {
        let (free_mib, needed_mib) = (room.memory_bytes >> 20, MEMORY_BYTES_MIN >> 20);
        return Err(DrillError::NoMemory { free_mib, needed_mib });
    }
    Ok(())
}
