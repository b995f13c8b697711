//! The commands of the kit, with this repository's values: ours, and those of stock tools, which are cut out of `docs/format.md`
//! so that there is one text of them.

use serde::Serialize;

use super::facts::Facts;

/// The specification, with the program in marked blocks.
const FORMAT: &str = include_str!("../../../docs/format.md");
/// Of a line of `allowed_signers`, how much stands in one line of the program (64 characters): it may have to be typed.
const PIECE_CHARS: usize = 64;

/// What is typed, part by part.
#[derive(Debug, Serialize)]
pub(super) struct Commands {
    /// The function that stands for `stonekeep` with the place of the repository.
    pub(super) place: String,
    /// How each database is restored, in the order of the labels.
    pub(super) restore: Vec<String>,
    /// The program of stock tools.
    pub(super) stock: String,
    /// What loads that program's directory.
    pub(super) load: String,
}

/// Returns the commands for a repository.
pub(super) fn commands(facts: &Facts) -> Commands {
    let restore = |label| {
        format!(
            "sk restore latest:{label} --create-roles --target \"$TARGET\" --identity \"$IDENTITY\""
        )
    };
    Commands {
        place: place(facts),
        restore: facts.databases.iter().map(|database| restore(&database.label)).collect(),
        stock: stock(facts),
        load: block("stock-load").to_owned(),
    }
}

fn place(facts: &Facts) -> String {
    let at = &facts.place;
    let mut lines = Vec::new();
    lines.extend(facts.owners.first().map(|owner| format!("--owner {}", quoted(owner))));
    let mut bucket = format!("--bucket {}", quoted(at.bucket.as_str()));
    if !at.prefix.is_empty() {
        bucket += &format!(" --prefix {}", quoted(&at.prefix));
    }
    lines.push(format!("{bucket} --region {}", quoted(&at.region)));
    if !at.is_aws {
        lines.push(format!("--endpoint {}", quoted(&at.endpoint)));
    }
    if at.path_style {
        lines.push("--path-style".to_owned());
    }
    if at.ca_file.is_some() {
        lines.push("--ca-file \"$CURL_CA_BUNDLE\"".to_owned());
    }
    lines.push("\"$@\"".to_owned());
    format!("sk() {{\n  stonekeep {}\n}}", lines.join(" \\\n    "))
}

/// The whole program: the repository's values, then the blocks, with a head to each.
fn stock(facts: &Facts) -> String {
    let part = |title: &str, block: &str| format!("# ---- {title}\n{block}");
    let mut parts = vec![
        part("Where it is", &values(facts)),
        part("How the server is asked", block("stock-functions")),
        part("Which snapshot", block("stock-list")),
        part("Its manifest", block("stock-manifest")),
    ];
    if let Some(pin) = pin(facts) {
        parts.push(part("Who signed it", &format!("{pin}\n{}", block("stock-verify"))));
    }
    parts.push(part("What it holds", block("stock-restore")));
    parts.join("\n\n")
}

fn values(facts: &Facts) -> String {
    let at = &facts.place;
    let mut lines = vec![
        format!("export S3_ENDPOINT={} S3_REGION={}", quoted(&at.endpoint), quoted(&at.region)),
        format!("export BUCKET={} PREFIX={}", quoted(at.bucket.as_str()), quoted(&at.prefix)),
    ];
    let mut buckets: Vec<&str> = at.tier_buckets.iter().map(|(_, name)| name.as_str()).collect();
    buckets.sort_unstable();
    buckets.dedup();
    if !buckets.is_empty() {
        lines.push(format!("export BUCKETS={}", quoted(&buckets.join(" "))));
    }
    if at.ca_file.is_some() {
        lines.push("export CURL_CA_BUNDLE".to_owned());
    }
    lines.join("\n")
}

/// Lays down the owner's public key, and names the genesis. Without either, nobody's signature can be checked.
fn pin(facts: &Facts) -> Option<String> {
    let version = facts.genesis.version_id.as_ref()?;
    if facts.allowed_signers.is_empty() {
        return None;
    }
    let mut lines = vec!["{".to_owned()];
    for signer in &facts.allowed_signers {
        let chars: Vec<char> = signer.chars().collect();
        let piece = |piece: &[char]| format!("  printf %s {}", quoted(&String::from_iter(piece)));
        lines.extend(chars.chunks(PIECE_CHARS).map(piece));
        lines.push("  echo".to_owned());
    }
    lines.push("} > \"$work/allowed_signers\"".to_owned());
    let (key, version) = (quoted(facts.genesis.key.as_str()), quoted(version.as_str()));
    lines.push("ALLOWED_SIGNERS=$work/allowed_signers".to_owned());
    lines.push(format!(": \"${{GENESIS:={key}}}\" \"${{GENESIS_VERSION:={version}}}\""));
    Some(lines.join("\n"))
}

/// Returns the block of the specification that this mark stands over.
fn block(mark: &str) -> &'static str {
    let after = FORMAT.split_once(&format!("<!-- {mark} -->\n```sh\n"));
    let block = after.and_then(|(_, rest)| rest.split_once("\n```"));
    block.map_or("", |(block, _)| block)
}

/// Returns a word as a shell takes it: bare if nothing in it means anything to one.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_is_in_the_specification() {
        for mark in ["functions", "list", "manifest", "verify", "restore", "load"] {
            let block = block(&format!("stock-{mark}"));
            assert!(block.lines().count() > 5, "{mark}: {block}");
            let long: Vec<&str> = block.lines().filter(|line| line.chars().count() > 100).collect();
            assert_eq!(long, Vec::<&str>::new(), "{mark}: too long for a line of the page");
        }
        assert_eq!(block("stock-"), "");
    }

    #[test]
    fn what_means_something_to_a_shell_is_quoted() {
        let cases = [
            ("SHA256:a+b/c", "SHA256:a+b/c"),
            ("", "''"),
            ("a b", "'a b'"),
            ("$(x)`y`", "'$(x)`y`'"),
            ("it's", "'it'\\''s'"),
            ("~/x", "'~/x'"),
        ];
        for (word, wanted) in cases {
            assert_eq!(quoted(word), wanted);
        }
    }
}
