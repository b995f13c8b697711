//! What the kit says and in which order: for a tired person at night, who reads from the top. Text and page are made of it.

use chrono::{DateTime, Utc};
use stonekeep_format::{drill::DrillVerdict, key::ObjectKey, lock::LockMode};
use stonekeep_process::output::bytes;

use super::{
    facts::{DatabaseLine, DrillLine, Facts, OtherIdentity, Place, RecipientLine, SignerLine},
    program::Commands,
};

/// Databases whose restore is spelled out (12): the others differ in nothing but the label.
const COMMANDS_MAX: usize = 12;

/// A part of the kit.
#[derive(Debug)]
pub(super) struct Section {
    /// What it is about.
    pub(super) title: &'static str,
    /// What it says.
    pub(super) parts: Vec<Part>,
}

/// A piece of a section. In prose, what stands between backticks is typed as it is.
#[derive(Debug)]
pub(super) enum Part {
    /// A paragraph.
    Prose(String),
    /// Something to do, numbered.
    Step(String),
    /// Names and values.
    Facts(Vec<(&'static str, String)>),
    /// What stands on no kit: a name, and what is to be written behind it.
    Blanks(Vec<(&'static str, String)>),
    /// Commands, to be copied or typed.
    Commands(String),
    /// A table with its headings.
    Table(Vec<&'static str>, Vec<Vec<String>>),
}

/// Returns the kit's sections.
pub(super) fn sections(facts: &Facts, commands: &Commands) -> Vec<Section> {
    vec![
        Section { title: "1. Do this first", parts: first(facts, commands) },
        Section { title: "2. Where it is", parts: place(facts) },
        Section { title: "3. Keys", parts: keys(facts) },
        Section { title: "4. Without Stonekeep", parts: stock(facts, commands) },
        Section { title: "5. What was there", parts: found(facts) },
    ]
}

/// Says what this is, when it was made, and when it is out of date.
pub(super) fn preface(facts: &Facts) -> Vec<String> {
    vec![
        format!(
            "Repository {} ({}), as it was on {}. Made by stonekeep {}.",
            facts.place.name,
            facts.repository,
            time(facts.made_at),
            facts.made_by
        ),
        "No secret is in here: what opens the backups is an identity, and what reads them a credential. Keep this on paper beside each identity, and not only on what it is to bring back.".to_owned(),
        "Print a new one after `stonekeep rotate`, with another bucket, credential or identity, with a new database, and after a drill, or once a year at least. An old one still works as long as bucket and owner key are the same.".to_owned(),
    ]
}

fn first(facts: &Facts, commands: &Commands) -> Vec<Part> {
    let step = |text: &str| Part::Step(text.to_owned());
    let mut parts = vec![
        Part::Prose("Nothing here deletes anything. Listing, verifying, fetching, and restoring into a new database cannot make it worse.".to_owned()),
        step("Withdraw the credential that did the damage; stop deployments and jobs. Write down when it happened, in UTC:"),
        Part::Blanks(vec![("Damage at", String::new())]),
        Part::Step(format!(
            "Take another machine than the broken one, with `stonekeep` {} or later and PostgreSQL {}. No `stonekeep`: part 4.",
            facts.made_by,
            facts.major().map_or("of the same major or later".to_owned(), |major| format!("{major} or later"))
        )),
        step("In `sh` or `bash`, give what this page does not hold: `export NAME=VALUE` for each."),
        Part::Blanks(ours(&facts.place)),
        step("Say where the backups are:"),
        Part::Commands(commands.place.clone()),
        step("Look at what there is. Choose the newest snapshot from before the damage. If it is not the newest of all, put its id into the place of `latest:` and the label below."),
        Part::Commands("sk list".to_owned()),
        step("Restore it into a new database, each under a `TARGET` of its own. `--plan` at the end says what would happen, and does nothing. It asks for what the server lacks, goes on where it was broken off if it is given again, and ends with “Every row was compared with what production held”. With any other end, do not use that database."),
    ];
    let shown = commands.restore.iter().take(COMMANDS_MAX).cloned();
    parts.extend(shown.map(Part::Commands));
    let more = commands.restore.len().saturating_sub(COMMANDS_MAX);
    if more > 0 {
        parts.push(Part::Prose(format!("The other {more} likewise: their labels are in part 5.")));
    }
    parts.push(Part::Prose("The runbook, `docs/recovery.md` (in the package: /usr/share/doc/stonekeep/recovery.md), says what to do when one table is gone, a host was taken over, or an identity is lost.".to_owned()));
    parts
}

/// What our commands need besides.
fn ours(place: &Place) -> Vec<(&'static str, String)> {
    let mut blanks = credentials();
    blanks.push(("IDENTITY", "file with one age identity, mode 0600 (part 3)".to_owned()));
    blanks.push((
        "TARGET",
        "new database, as postgres://postgres@HOST/NAME; its password in PGPASSWORD".to_owned(),
    ));
    blanks.extend(authorities(place));
    blanks
}

fn credentials() -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ACCESS_KEY_ID", "the reader's credential, not the writer's (part 2)".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "its secret; not to be written here".to_owned()),
    ]
}

fn authorities(place: &Place) -> Option<(&'static str, String)> {
    let name = place.ca_file.as_deref()?.file_name()?.to_string_lossy().into_owned();
    Some(("CURL_CA_BUNDLE", format!("file with the server's certificates, a copy of {name}")))
}

fn place(facts: &Facts) -> Vec<Part> {
    let at = &facts.place;
    let mut lines = vec![
        ("endpoint", at.endpoint.clone()),
        ("region", at.region.clone()),
        ("bucket", at.bucket.to_string()),
    ];
    lines.extend(at.tier_buckets.iter().map(|(tier, bucket)| {
        ("bucket of a tier", format!("{bucket} (snapshots of tier {tier})"))
    }));
    lines
        .push(("prefix", if at.prefix.is_empty() { "none".to_owned() } else { at.prefix.clone() }));
    lines.push((
        "the bucket stands",
        if at.path_style { "in the path of the URL" } else { "in the host name" }.to_owned(),
    ));
    let bypass = match at.lock_mode {
        LockMode::Compliance => "nobody can delete before they end",
        LockMode::Governance => "nobody can delete before they end but who may bypass them",
    };
    lines.push(("locks", format!("{}: {bypass}", at.lock_mode)));
    lines.push(("repository id", facts.repository.to_string()));
    let blanks = vec![
        ("Account at", "provider, account, who may sign in".to_owned()),
        ("Reader's credential", "where it is kept".to_owned()),
        ("Provisioner's", "where it is kept; to prolong locks, and to sign again".to_owned()),
    ];
    vec![Part::Facts(lines), Part::Prose("To fill in by hand:".to_owned()), Part::Blanks(blanks)]
}

fn keys(facts: &Facts) -> Vec<Part> {
    let mut parts = vec![Part::Prose(format!(
        "{} Which files belong to them, as far as was seen when this was printed:",
        opens(facts)
    ))];
    let row = |line: &RecipientLine| {
        let files = match line.identity_files.is_empty() {
            true => "not seen here".to_owned(),
            false => line.identity_files.join(", "),
        };
        vec![line.recipient.clone(), files]
    };
    parts.push(Part::Table(
        vec!["Recipient", "Identity"],
        facts.recipients.iter().map(row).collect(),
    ));
    let other = |line: &OtherIdentity| {
        Part::Prose(format!(
            "Identity file {}: not known to open any of these ({}).",
            line.file, line.why
        ))
    };
    parts.extend(facts.other_identities.iter().map(other));
    let kept = |number| ("Identity", format!("{number}: where it is kept, and by whom"));
    parts.push(Part::Blanks((1..=facts.recipients.len()).map(kept).collect()));
    parts.push(Part::Prose(
        "Who is believed. The owner key signs the genesis, which names the signers of snapshots:"
            .to_owned(),
    ));
    let mut lines: Vec<(&'static str, String)> =
        facts.owners.iter().map(|owner| ("owner key", owner.clone())).collect();
    lines.push(("genesis", format!("{} of {}", facts.genesis.key, time(facts.genesis.created_at))));
    let validity = |signer: &SignerLine| match signer.valid_until {
        None => format!("from {}", time(signer.valid_from)),
        Some(until) => format!("{} to {}, withdrawn", time(signer.valid_from), time(until)),
    };
    lines.extend(
        facts
            .signers
            .iter()
            .map(|signer| ("signer", format!("{}, {}", signer.fingerprint, validity(signer)))),
    );
    parts.push(Part::Facts(lines));
    if facts.allowed_signers.is_empty() {
        parts.push(Part::Prose(
            "The file allowed_signers was not at hand. Keep a copy of it here.".to_owned(),
        ));
    } else {
        parts.push(Part::Prose("The file allowed_signers, in whole (public):".to_owned()));
        parts.push(Part::Facts(
            facts.allowed_signers.iter().map(|line| ("", line.clone())).collect(),
        ));
    }
    parts.push(Part::Blanks(vec![("Owner key", "where it is kept; to sign again".to_owned())]));
    parts
}

/// After a successor of the genesis, old snapshots are for those who were recipients then.
fn opens(facts: &Facts) -> String {
    if facts.genesis.key == ObjectKey::genesis(1) {
        return "One of these identities is enough: each opens every snapshot.".to_owned();
    }
    format!(
        "One of these identities is enough for every snapshot that was taken for these recipients. The configuration was signed anew {}: where that changed the recipients, older snapshots are for those of their time. Keep those identities, too.",
        time(facts.genesis.created_at)
    )
}

fn stock(facts: &Facts, commands: &Commands) -> Vec<Part> {
    let step = |text: &str| Part::Step(text.to_owned());
    let labels: Vec<&str> =
        facts.databases.iter().map(|each| each.label.as_str()).take(COMMANDS_MAX).collect();
    let mut blanks = vec![("LABEL", format!("the database: {}", labels.join(", ")))];
    blanks.extend(credentials());
    blanks.push(("IDENTITY", "file with one age identity; one without a passphrase".to_owned()));
    blanks.push(("OUT", "directory to make, with room for the size in part 5".to_owned()));
    blanks.push((
        "NEW_DATABASE",
        "name of the database to make; the server in PGHOST, PGPORT, PGUSER".to_owned(),
    ));
    blanks.extend(authorities(&facts.place));
    let mut parts = vec![
        Part::Prose("A snapshot is a directory that stock `pg_restore` reads, in pieces. Needed: `curl` (7.88 or later), `jq`, `age`, `zstd`, `tar`, `sed`, `ssh-keygen` (OpenSSH 9.1 or later), PostgreSQL's client programs, and, if there is, `b3sum`.".to_owned()),
        step("Give what this page does not hold: `export NAME=VALUE` for each."),
        Part::Blanks(blanks),
        step("Get the program below into a file, restore.sh: out of the text of this kit by"),
        Part::Commands("sed -n '/^ *# ---- Where it is$/,/^ *# ---- The end$/p' recovery-kit.txt > restore.sh".to_owned()),
        Part::Prose("or type it in. Numbered lines on the printed page are lines of the program, however they are broken there.".to_owned()),
        step("Run it. It takes the newest snapshot of `LABEL`, checks who signed it, and stops at the first thing that is not as it was named."),
        Part::Commands("sh restore.sh".to_owned()),
        Part::Prose("If it ends with “Could not verify signature” for the manifest, somebody has put another object there: take the line before in `$OUT.work/manifests.tsv`, `export MANIFEST` (the third column, from `manifests/` on), `MANIFEST_VERSION` (the fourth) and `MANIFEST_BUCKET` (the second), and run it again with another `OUT`. A snapshot of before the damage is chosen in the same way. If it tells of more under `genesis/` and the owner has signed again since this was printed, say so with `GENESIS` and `GENESIS_VERSION` (third and fourth column of `$OUT.work/genesis.tsv`): else it believes signers that were withdrawn, and not the new ones.".to_owned()),
        step("Load it."),
        Part::Commands(commands.load.clone()),
        step("Compare with what you know of the data. Then remove `$OUT` and `$OUT.work`: they hold it in the clear."),
    ];
    if !facts.place.path_style && !facts.place.is_aws {
        parts.push(Part::Prose("This server is configured with the bucket in the host name, and the program puts it in the path. Most servers take both; for one that does not, get the objects with another S3 client (`get` and `list` in the program say which).".to_owned()));
    }
    if facts.allowed_signers.is_empty() {
        parts.push(Part::Prose("The file allowed_signers was not at hand when this was made, so the program does not check who signed. Section 15 of docs/format.md has that part.".to_owned()));
    }
    parts.push(Part::Commands(format!("{}\n# ---- The end", commands.stock)));
    parts
}

fn found(facts: &Facts) -> Vec<Part> {
    let mut parts = Vec::new();
    if facts.databases.is_empty() {
        parts.push(Part::Prose("There was no snapshot yet.".to_owned()));
    } else {
        let heads =
            vec!["Database", "Newest snapshot", "Data of", "Promised until", "Size", "PostgreSQL"];
        parts.push(Part::Table(heads, facts.databases.iter().map(row).collect()));
    }
    for database in &facts.databases {
        parts.extend(remarks(database).into_iter().map(Part::Prose));
    }
    parts.push(Part::Prose(match facts.findings {
        0 => "Nothing was wrong with the objects in the bucket.".to_owned(),
        1 => "Something was wrong with the repository: `sk list` names it.".to_owned(),
        findings => {
            format!("{findings} things were wrong with the repository: `sk list` names them.")
        }
    }));
    parts.extend(drills(facts));
    parts.push(Part::Prose("The size is that of all rows as text. As a rule the new server takes up to twice that; the way without Stonekeep takes it once more, in `OUT`.".to_owned()));
    parts
}

/// How long it took the last time: what to tell those who ask when it will be back.
fn drills(facts: &Facts) -> Vec<Part> {
    if facts.drills.is_empty() {
        return vec![Part::Prose(
            "No drill is on record that could be checked. A backup that was never restored is a hope: `stonekeep drill`."
                .to_owned(),
        )];
    }
    let row = |drill: &DrillLine| {
        let took = drill.rto_secs.map_or_else(|| "did not come to its end".to_owned(), spell);
        vec![
            drill.label.to_string(),
            time(drill.at),
            drill.verdict.as_str().to_owned(),
            format!("{took}{}", if drill.is_slow { ", longer than it may" } else { "" }),
        ]
    };
    let heads = vec!["Database", "Last drill", "Verdict", "A restore takes"];
    let never = facts
        .databases
        .iter()
        .filter(|each| facts.drills.iter().all(|drill| drill.label != each.label));
    let never: Vec<&str> = never.map(|each| each.label.as_str()).collect();
    let mut parts = vec![Part::Table(heads, facts.drills.iter().map(row).collect())];
    if !never.is_empty() {
        parts.push(Part::Prose(format!("No drill is on record of {}.", never.join(", "))));
    }
    if facts.drills.iter().any(|drill| drill.verdict == DrillVerdict::Fail) {
        parts.push(Part::Prose(
            "Where a drill failed, its report names what is not as it was. Take another snapshot first, and compare."
                .to_owned(),
        ));
    }
    parts
}

/// `1 h 02 min 03 s`.
fn spell(secs: u64) -> String {
    match (secs / 3600, secs / 60 % 60, secs % 60) {
        (0, 0, secs) => format!("{secs} s"),
        (0, minutes, secs) => format!("{minutes} min {secs:02} s"),
        (hours, minutes, secs) => format!("{hours} h {minutes:02} min {secs:02} s"),
    }
}

fn row(database: &DatabaseLine) -> Vec<String> {
    vec![
        database.label.to_string(),
        database.snapshot.to_string(),
        time(database.snapshot_at),
        time(database.promised_until),
        bytes(database.plain_bytes),
        database.postgresql.split(' ').next().unwrap_or_default().to_owned(),
    ]
}

fn remarks(database: &DatabaseLine) -> Vec<String> {
    let label = &database.label;
    let mut remarks = Vec::new();
    if let Some(why) = &database.suspicious {
        let sound = database
            .newest_sound
            .as_ref()
            .map_or_else(String::new, |id| format!(" The newest that is not: {id}."));
        remarks.push(format!("The newest snapshot of {label} is suspicious: {why}.{sound}"));
    }
    if !database.is_for_recipients {
        remarks.push(format!("The newest snapshot of {label} is of before the recipients were changed: the identities of then open it."));
    }
    remarks
}

/// `2026-11-21 10:15 UTC`.
fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spelled_as_people_say_them() {
        let cases = [(0, "0 s"), (61, "1 min 01 s"), (3723, "1 h 02 min 03 s")];
        for (secs, text) in cases {
            assert_eq!(spell(secs), text);
        }
    }
}
