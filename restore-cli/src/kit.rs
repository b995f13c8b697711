//! `stonekeep recovery-kit`: a page to print and put beside the identities. It holds what a person needs who has lost everything
//! else, and no secret: where the bucket is, whom to believe, which identity opens it, and the commands, with and without us.

mod content;
mod facts;
mod page;
mod program;
mod text;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde::Serialize;
use stonekeep_config::reader::Whereabouts;
use stonekeep_engine::audit::audit;
use stonekeep_process::{output, replace};

use crate::{cli::RecoveryKitArgs, failure::Failure, identity, open::Session};
use content::Section;
use facts::{Facts, Keys};

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
    let facts = session.block_on(async |context, _| {
        let repository = session.open(&config, &context).await?;
        let audit = audit(&repository, None, &context).await;
        let audit = audit.map_err(|source| Failure::Audit(Box::new(source)))?;
        Ok(Facts::of(&repository, &audit, place, (keys, &[])))
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

/// What the file of an identity says of itself. One that cannot be read here is no failure: it may well be in a safe.
fn look(path: &Path, session: &Session<'_>) -> facts::IdentityFile {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    match identity::recipients(path, session.environment) {
        Ok(recipients) => facts::IdentityFile { name, recipients, why: None },
        Err(failure) => {
            facts::IdentityFile { name, recipients: Vec::new(), why: Some(failure.to_string()) }
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
