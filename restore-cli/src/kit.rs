//! `stonekeep recovery-kit`: a page to print and put beside the identities. It holds what a person needs who has lost everything
//! else, and no secret: where the bucket is, whom to believe, which identity opens it, and the commands, with and without us.

mod content;
mod facts;
mod page;
mod program;
mod text;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    slice,
};

use serde::Serialize;
use stonekeep_config::reader::Whereabouts;
use stonekeep_engine::{
    Context,
    audit::audit,
    drill::{LabelDrills, last_records},
    history::History,
    repository::Repository,
};
use stonekeep_format::{drill::DrillRecord, ids::Label, signature::Trust};
use stonekeep_process::{output, replace};

use crate::{cli::RecoveryKitArgs, failure::Failure, identity, open::Session};
use content::Section;
use facts::{Facts, IdentityFile, Keys};

/// The names under which the kit is written; one of a former kit is replaced.
const TEXT_FILE: &str = "recovery-kit.txt";
const PAGE_FILE: &str = "recovery-kit.html";
/// Everybody may read it: it is worth more the more people know where it is.
const MODE: u32 = 0o644;

/// The kit, and where it was written.
#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    facts: Facts,
    /// Shell functions and commands, as they are printed.
    commands: program::Commands,
    /// The files; empty if it is only printed.
    files: Vec<PathBuf>,
}

pub(crate) fn run(session: &Session<'_>, args: &RecoveryKitArgs) -> Result<ExitCode, Failure> {
    let config = session.load()?;
    let Whereabouts::Bucket(place) = config.repository(session.repository)? else {
        return Err(Failure::NotOfACopy("recovery-kit"));
    };
    let keys = Keys {
        owners: session.trust(&config)?.fingerprints(),
        allowed_signers: match session.bare.owner {
            Some(_) => String::new(),
            None => config.allowed_signers(session.environment)?,
        },
        identities: args.identities.or(&config).iter().map(|path| look(path, session)).collect(),
    };
    let reporters = session.reporters(&config)?;
    let facts = session.block_on(async |context, _| {
        let repository = session.open(&config, &context).await?;
        let audit = audit(&repository, None, &context).await;
        let audit = audit.map_err(|source| Failure::Audit(Box::new(source)))?;
        let drills = drills(&repository, &audit.history, &reporters, &context).await;
        Ok(Facts::of(&repository, &audit, place, (keys, &drills)))
    })?;
    let commands = program::commands(&facts);
    let sections = content::sections(&facts, &commands);
    let files = match args.out.as_deref() {
        Some(out) => write(out, &facts, &sections)?,
        None => Vec::new(),
    };
    let document = Document { facts, commands, files };
    output::result(session.json, &document, || match document.files.is_empty() {
        true => text::lines(&document.facts, &sections),
        false => document.files.iter().map(|path| format!("Written: {}", path.display())).collect(),
    })
    .map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}

/// Whose identities are in a file. One that cannot be read here is no failure: it may well be in a safe.
fn look(path: &PathBuf, session: &Session<'_>) -> IdentityFile {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    match identity::listed(slice::from_ref(path), session.environment) {
        Ok(listed) if listed.iter().any(|each| each.recipient.is_none()) => IdentityFile {
            name,
            recipients: Vec::new(),
            why: Some("of a plugin, which alone can tell".to_owned()),
        },
        Ok(listed) => {
            let recipients = listed.into_iter().filter_map(|each| each.recipient).collect();
            IdentityFile { name, recipients, why: None }
        }
        Err(failure) => {
            IdentityFile { name, recipients: Vec::new(), why: Some(failure.to_string()) }
        }
    }
}

/// The last drill of each database. Records that cannot be read do not keep the kit from being made.
async fn drills(
    repository: &Repository,
    history: &History,
    reporters: &Trust,
    context: &Context,
) -> Vec<DrillRecord> {
    let labels: BTreeSet<Label> = history.labels.keys().cloned().collect();
    match last_records(repository, &labels, reporters).await {
        Ok(records) => records.labels.values().filter_map(LabelDrills::last).cloned().collect(),
        Err(error) => {
            context.warn(format!("cannot read the records of drills: {error}"));
            Vec::new()
        }
    }
}

fn write(out: &Path, facts: &Facts, sections: &[Section]) -> Result<Vec<PathBuf>, Failure> {
    let unwritable = |path: &Path, source| Failure::Write { path: path.to_owned(), source };
    fs::create_dir_all(out).map_err(|source| unwritable(out, source))?;
    let lines: Vec<String> =
        text::lines(facts, sections).iter().map(|line| output::printable(line) + "\n").collect();
    let files = [(TEXT_FILE, lines.concat()), (PAGE_FILE, page::render(facts, sections).0)];
    files
        .iter()
        .map(|(name, text)| {
            let path = out.join(name);
            let written = replace::replace(&path, text.as_bytes(), MODE);
            written.map_err(|source| unwritable(&path, source))?;
            Ok(path)
        })
        .collect()
}
