//! Signed objects: a JSON document, then the armoured SSH signature over exactly those bytes.
//!
//! The signature is OpenSSH's (SSHSIG), so that `ssh-keygen -Y verify` checks it without us. Every kind has its own
//! namespace, and every document contains the repository, its own key and, where it has one, its label: a signature cannot
//! be carried to another kind, place or repository. What cannot be verified has no type here but `&[u8]`.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};
use ssh_key::{Fingerprint, HashAlg, LineEnding, PrivateKey, PublicKey, SshSig, public::KeyData};

use crate::{
    ids::{Label, RepositoryId},
    key::ObjectKey,
};

const BEGIN: &[u8] = b"-----BEGIN SSH SIGNATURE-----";
/// What stands before the signature of a page, and behind it, each in lines of their own.
const COMMENT: &[u8] = b"<!--\n";
const COMMENT_END: &[u8] = b"-->\n";
const HASH: HashAlg = HashAlg::Sha512;
/// Keys are named by SHA-256, as `ssh-keygen -l` does.
const HASH_OF_KEYS: HashAlg = HashAlg::Sha256;
/// The principal under which an owner key stands in `allowed_signers`.
pub const OWNER_PRINCIPAL: &str = "owner";
/// The principal under which a report key stands there.
pub const REPORTER_PRINCIPAL: &str = "reporter";

/// What a signature is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespace {
    /// Genesis, by the owner key only.
    Genesis,
    /// A manifest, by a signer of the genesis.
    Manifest,
    /// An attempt record, by a signer of the genesis.
    Attempt,
    /// The record of an attack on the own repository, by a signer of the genesis.
    Prove,
    /// A drill or lock-proof report, by a report key.
    Report,
}

impl Namespace {
    /// Returns the namespace as `ssh-keygen -n` takes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Genesis => "stonekeep-genesis",
            Self::Manifest => "stonekeep-manifest",
            Self::Attempt => "stonekeep-attempt",
            Self::Prove => "stonekeep-prove",
            Self::Report => "stonekeep-report",
        }
    }
}

/// A document that exists only with a signature.
pub trait SignedDocument: Serialize + DeserializeOwned {
    /// The namespace of its signatures.
    const NAMESPACE: Namespace;
    /// The value of its `format` field: kind and version.
    const FORMAT: &'static str;
    /// The longest object (document and signature) a reader takes, in bytes.
    const BYTES_MAX: u64;

    /// Returns the document's `format` field.
    fn format(&self) -> &str;
    /// Returns the repository it belongs to.
    fn repository(&self) -> RepositoryId;
    /// Returns the key it lies under.
    fn key(&self) -> &ObjectKey;
    /// Returns the label it belongs to, if its kind has one.
    fn label(&self) -> Option<&Label>;
    /// Returns when it says it was signed.
    fn signed_at(&self) -> DateTime<Utc>;
}

/// Why an object is not what it should be. All but [`SignatureError::Key`] and [`SignatureError::Sign`] mean: planted,
/// foreign or damaged; ignore it and say so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The object has no signature, or one that cannot be read.
    #[error("the object carries no readable SSH signature")]
    Unsigned,
    /// The signature is of a key that is not allowed for this namespace, or not at this time.
    #[error(
        "the object is signed by {fingerprint}, which may not sign {namespace} objects at {at}"
    )]
    NotAllowed {
        /// SHA-256 fingerprint of the key.
        fingerprint: String,
        /// The namespace that was wanted.
        namespace: &'static str,
        /// When the document says it was signed.
        at: DateTime<Utc>,
    },
    /// The signature does not fit the bytes or the namespace.
    #[error("the signature does not fit the object")]
    Mismatch,
    /// The signed bytes are not a document of this kind and version.
    #[error("the signed document cannot be read")]
    Document(#[source] serde_json::Error),
    /// The document is of another kind or version.
    #[error("the document is of format {found:?}, not {wanted:?}: a newer stonekeep may be needed")]
    Format {
        /// What the document says.
        found: String,
        /// What was expected.
        wanted: &'static str,
    },
    /// The document belongs to another repository, key or label: it was copied here.
    #[error("the document belongs to {what} {found}, not to {wanted}")]
    Foreign {
        /// Repository, key or label.
        what: &'static str,
        /// What the document says.
        found: String,
        /// Where it was found.
        wanted: String,
    },
    /// A key file or `allowed_signers` line cannot be used.
    #[error("{0}")]
    Key(String),
    /// Signing failed.
    #[error("cannot sign the document")]
    Sign(#[source] ssh_key::Error),
}

/// The host's signing key, an Ed25519 OpenSSH private key. Wiped when dropped (by `ssh-key`).
#[derive(Clone)]
pub struct Signer(PrivateKey);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", self.fingerprint())
    }
}

impl Signer {
    /// Reads an unencrypted OpenSSH Ed25519 private key.
    ///
    /// # Errors
    /// [`SignatureError::Key`] if it is no such key; the text never holds key material.
    pub fn from_openssh(pem: &str) -> Result<Self, SignatureError> {
        let key = PrivateKey::from_openssh(pem)
            .map_err(|_| SignatureError::Key("not an OpenSSH private key".to_owned()))?;
        if key.is_encrypted() {
            return Err(SignatureError::Key(
                "the private key is protected by a passphrase".to_owned(),
            ));
        }
        if key.key_data().ed25519().is_none() {
            return Err(SignatureError::Key(
                "not an Ed25519 key: make one with ssh-keygen -t ed25519 -N ''".to_owned(),
            ));
        }
        Ok(Self(key))
    }

    /// Returns the public key as one line of OpenSSH text, without a comment.
    ///
    /// # Errors
    /// [`SignatureError::Sign`] if the key cannot be encoded, which no parsed key shows.
    pub fn public_line(&self) -> Result<String, SignatureError> {
        PublicKey::from(self.0.public_key().key_data().clone())
            .to_openssh()
            .map_err(SignatureError::Sign)
    }

    /// Returns `SHA256:…` as ssh-keygen prints it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HASH_OF_KEYS).to_string()
    }

    /// Derives a secret from the private key, bound to `context`, for keyed hashes only this host can compute.
    ///
    /// `context` is hard-coded, unique in the world and never holds data, as [`blake3::derive_key`] asks.
    #[must_use]
    pub fn derive_secret(&self, context: &'static str) -> [u8; 32] {
        // `from_openssh` admits Ed25519 only; any other key would derive from nothing, so it is told apart by its public key.
        let seed =
            self.0.key_data().ed25519().map(|pair| pair.private.to_bytes()).unwrap_or_default();
        blake3::derive_key(context, &seed)
    }

    /// Returns the armoured signature over `message`.
    ///
    /// # Errors
    /// [`SignatureError::Sign`].
    pub fn sign(&self, namespace: Namespace, message: &[u8]) -> Result<String, SignatureError> {
        let signature =
            self.0.sign(namespace.as_str(), HASH, message).map_err(SignatureError::Sign)?;
        signature.to_pem(LineEnding::LF).map_err(SignatureError::Sign)
    }
}

/// Which key may sign.
#[derive(Debug, Clone)]
enum AllowedKey {
    /// This one.
    Key(PublicKey),
    /// The one of this fingerprint: a signature brings its key along.
    Fingerprint(Fingerprint),
}

impl AllowedKey {
    fn is(&self, key: &KeyData) -> bool {
        match self {
            Self::Key(allowed) => allowed.key_data() == key,
            Self::Fingerprint(fingerprint) => key.fingerprint(HASH_OF_KEYS) == *fingerprint,
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Key(key) => key.fingerprint(HASH_OF_KEYS),
            Self::Fingerprint(fingerprint) => *fingerprint,
        }
    }
}

/// One key that may sign, for what and when.
#[derive(Debug, Clone)]
struct Allowed {
    key: AllowedKey,
    namespaces: Option<BTreeSet<String>>,
    valid_after: Option<DateTime<Utc>>,
    valid_before: Option<DateTime<Utc>>,
}

/// The keys whose signatures count. Made from an `allowed_signers` file (the owner) or from a genesis (the signers).
#[derive(Debug, Clone, Default)]
pub struct Trust(Vec<Allowed>);

impl Trust {
    /// Trusts nobody yet.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Reads a file in the format of `ssh-keygen -Y verify`: `principals [options] keytype key`. Options are
    /// `namespaces="…"`, `valid-after="…"` and `valid-before="…"`; certificate authorities are refused. Lines whose
    /// principals do not name [`OWNER_PRINCIPAL`] are left alone.
    ///
    /// # Errors
    /// [`SignatureError::Key`] with the line number if a line cannot be read, or if no line names the owner.
    pub fn from_allowed_signers(text: &str) -> Result<Self, SignatureError> {
        let trust = Self(allowed_lines(text, OWNER_PRINCIPAL)?);
        if trust.0.is_empty() {
            return Err(SignatureError::Key(format!(
                "no line names the principal \"{OWNER_PRINCIPAL}\""
            )));
        }
        Ok(trust)
    }

    /// Reads the report keys of the same file: the lines whose principals name [`REPORTER_PRINCIPAL`]. They may sign reports and
    /// nothing else, whatever else their `namespaces` name; a line whose `namespaces` do not name `stonekeep-report` does not
    /// count. Where there is none, no report is believed.
    ///
    /// # Errors
    /// [`SignatureError::Key`] with the line number if such a line cannot be read.
    pub fn of_reporters(text: &str) -> Result<Self, SignatureError> {
        let report = Namespace::Report.as_str();
        let mut allowed = allowed_lines(text, REPORTER_PRINCIPAL)?;
        allowed.retain(|line| line.namespaces.as_ref().is_none_or(|set| set.contains(report)));
        for line in &mut allowed {
            line.namespaces = Some(BTreeSet::from([report.to_owned()]));
        }
        Ok(Self(allowed))
    }

    /// Trusts the owner whose key has this fingerprint, as `ssh-keygen -l` and the recovery kit print it: `SHA256:…`. He may
    /// sign a genesis and nothing else.
    ///
    /// # Errors
    /// [`SignatureError::Key`] if the text is no such fingerprint.
    pub fn of_owner(fingerprint: &str) -> Result<Self, SignatureError> {
        Self::of_fingerprint(fingerprint, Namespace::Genesis)
    }

    /// Trusts the report key of this fingerprint. It may sign reports and nothing else.
    ///
    /// # Errors
    /// As [`Trust::of_owner`].
    pub fn of_reporter(fingerprint: &str) -> Result<Self, SignatureError> {
        Self::of_fingerprint(fingerprint, Namespace::Report)
    }

    fn of_fingerprint(fingerprint: &str, namespace: Namespace) -> Result<Self, SignatureError> {
        let parsed: Result<Fingerprint, _> = fingerprint.trim().parse();
        match parsed {
            Ok(fingerprint @ Fingerprint::Sha256(_)) => Ok(Self(vec![Allowed {
                key: AllowedKey::Fingerprint(fingerprint),
                namespaces: Some(BTreeSet::from([namespace.as_str().to_owned()])),
                valid_after: None,
                valid_before: None,
            }])),
            _ => Err(SignatureError::Key(format!(
                "{fingerprint:?} is no fingerprint like SHA256:… (43 characters), as ssh-keygen -l prints it"
            ))),
        }
    }

    /// Whether nobody is trusted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a key (one line of OpenSSH text) that may sign in `namespaces` from `from` until `until`.
    ///
    /// # Errors
    /// [`SignatureError::Key`] if the line is no public key.
    pub fn allow(
        &mut self,
        public_line: &str,
        namespaces: &[Namespace],
        from: Option<DateTime<Utc>>,
        until: Option<DateTime<Utc>>,
    ) -> Result<(), SignatureError> {
        let key = AllowedKey::Key(public_key(public_line).map_err(SignatureError::Key)?);
        let namespaces = Some(namespaces.iter().map(|n| n.as_str().to_owned()).collect());
        self.0.push(Allowed { key, namespaces, valid_after: from, valid_before: until });
        Ok(())
    }

    /// Returns the SHA-256 fingerprints of all keys.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<String> {
        self.0.iter().map(|allowed| allowed.key.fingerprint().to_string()).collect()
    }

    /// Whether what `signer` signs at `at` in `namespace` would be believed.
    #[must_use]
    pub fn allows_signer(&self, signer: &Signer, namespace: Namespace, at: DateTime<Utc>) -> bool {
        self.allows(signer.0.public_key().key_data(), namespace, at)
    }

    fn allows(&self, key: &KeyData, namespace: Namespace, at: DateTime<Utc>) -> bool {
        self.0.iter().any(|allowed| {
            allowed.key.is(key)
                && allowed.namespaces.as_ref().is_none_or(|set| set.contains(namespace.as_str()))
                && allowed.valid_after.is_none_or(|from| at >= from)
                && allowed.valid_before.is_none_or(|until| at < until)
        })
    }
}

/// Writes `document` as JSON, ended by a newline, and signs it.
///
/// # Errors
/// [`SignatureError::Sign`] and [`SignatureError::Document`].
pub fn sign_document<T: SignedDocument>(
    document: &T,
    signer: &Signer,
) -> Result<Vec<u8>, SignatureError> {
    let body = document_body(document)?;
    let armour = signer.sign(T::NAMESPACE, &body)?;
    Ok(join(body, &armour))
}

/// Returns the bytes of `document` that are signed: one line of JSON and a newline.
///
/// # Errors
/// [`SignatureError::Document`] if it cannot be written as JSON.
pub fn document_body<T: SignedDocument>(document: &T) -> Result<Vec<u8>, SignatureError> {
    let mut body = serde_json::to_vec(document).map_err(SignatureError::Document)?;
    body.push(b'\n');
    Ok(body)
}

/// Puts the armoured signature behind the signed bytes.
#[must_use]
pub fn join(mut body: Vec<u8>, armour: &str) -> Vec<u8> {
    body.extend_from_slice(armour.trim_end().as_bytes());
    body.push(b'\n');
    body
}

/// Where a document was found: what it must say of itself to be believed.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// The key of the object.
    pub key: &'a ObjectKey,
    /// The repository, once known (a genesis tells it).
    pub repository: Option<RepositoryId>,
}

/// Verifies a signed object and returns its document.
///
/// # Errors
/// [`SignatureError`]: the object is not a document of this kind, signed by a trusted key, for this place.
pub fn verify_document<T: SignedDocument>(
    bytes: &[u8],
    found: Found<'_>,
    trust: &Trust,
) -> Result<T, SignatureError> {
    let (body, armour) = split(bytes).ok_or(SignatureError::Unsigned)?;
    let signature = SshSig::from_pem(armour).map_err(|_| SignatureError::Unsigned)?;
    let document: T = serde_json::from_slice(body).map_err(SignatureError::Document)?;
    check_signature(body, &signature, &document, trust)?;
    check_place(&document, found)?;
    Ok(document)
}

/// Verifies the armoured signature over a message that `document` stands in, and returns the fingerprint of the key that made it.
///
/// # Errors
/// As [`verify_document`].
pub fn verify_message<T: SignedDocument>(
    message: &[u8],
    armour: &[u8],
    document: &T,
    found: Found<'_>,
    trust: &Trust,
) -> Result<String, SignatureError> {
    let signature = SshSig::from_pem(armour).map_err(|_| SignatureError::Unsigned)?;
    check_signature(message, &signature, document, trust)?;
    check_place(document, found)?;
    Ok(fingerprint_of(&signature))
}

fn check_signature<T: SignedDocument>(
    message: &[u8],
    signature: &SshSig,
    document: &T,
    trust: &Trust,
) -> Result<(), SignatureError> {
    if !trust.allows(signature.public_key(), T::NAMESPACE, document.signed_at()) {
        return Err(SignatureError::NotAllowed {
            fingerprint: fingerprint_of(signature),
            namespace: T::NAMESPACE.as_str(),
            at: document.signed_at(),
        });
    }
    let key = PublicKey::from(signature.public_key().clone());
    let verified = key.verify(T::NAMESPACE.as_str(), message, signature);
    verified.map_err(|_| SignatureError::Mismatch)
}

fn fingerprint_of(signature: &SshSig) -> String {
    signature.public_key().fingerprint(HASH_OF_KEYS).to_string()
}

fn check_place<T: SignedDocument>(document: &T, found: Found<'_>) -> Result<(), SignatureError> {
    if document.format() != T::FORMAT {
        return Err(SignatureError::Format {
            found: document.format().to_owned(),
            wanted: T::FORMAT,
        });
    }
    let foreign =
        |what, found: String, wanted: String| Err(SignatureError::Foreign { what, found, wanted });
    if let Some(wanted) = found.repository.filter(|id| *id != document.repository()) {
        return foreign("repository", document.repository().to_string(), wanted.to_string());
    }
    if document.key() != found.key {
        return foreign("key", document.key().to_string(), found.key.to_string());
    }
    let label_of_key = found.key.as_str().split('/').nth(1).unwrap_or_default();
    match document.label() {
        Some(label) if label.as_str() != label_of_key => {
            foreign("label", label.to_string(), label_of_key.to_owned())
        }
        _ => Ok(()),
    }
}

/// Cuts an object into the signed bytes and the armour. The last begin line counts: a document that quotes one is only JSON.
#[must_use]
pub fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.windows(BEGIN.len()).rposition(|window| window == BEGIN)?;
    let after_newline = at == 0 || bytes[at - 1] == b'\n';
    after_newline.then(|| bytes.split_at(at))
}

/// Puts the armoured signature behind a page of HTML, in a comment, which browsers do not show.
#[must_use]
pub fn join_page(mut page: Vec<u8>, armour: &str) -> Vec<u8> {
    for part in [COMMENT, armour.trim_end().as_bytes(), b"\n", COMMENT_END] {
        page.extend_from_slice(part);
    }
    page
}

/// Cuts a page into the signed bytes and the armour. There is one way to write a signature behind a page, that of [`join_page`]:
/// a page of which one byte was changed is another one, wherever that byte stands.
#[must_use]
pub fn split_page(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_suffix(COMMENT_END)?;
    let at = rest.windows(COMMENT.len()).rposition(|window| window == COMMENT)?;
    let armour = &rest[at + COMMENT.len()..];
    let written = SshSig::from_pem(armour).ok()?.to_pem(LineEnding::LF).ok()?;
    let is_as_written = armour.strip_suffix(b"\n") == Some(written.trim_end().as_bytes());
    is_as_written.then(|| (&rest[..at], armour))
}

/// Returns `SHA256:…` of a public key, one line of OpenSSH text, as `ssh-keygen -l` prints it.
///
/// # Errors
/// [`SignatureError::Key`] if the line is no public key.
pub fn fingerprint(public_line: &str) -> Result<String, SignatureError> {
    let key = public_key(public_line).map_err(SignatureError::Key)?;
    Ok(key.fingerprint(HASH_OF_KEYS).to_string())
}

fn public_key(line: &str) -> Result<PublicKey, String> {
    PublicKey::from_openssh(line.trim()).map_err(|_| "not an OpenSSH public key".to_owned())
}

/// Reads the lines of an `allowed_signers` file that name `principal`.
fn allowed_lines(text: &str, principal: &str) -> Result<Vec<Allowed>, SignatureError> {
    let lines = text.lines().map(str::trim).enumerate();
    let said = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let read = said.filter_map(|(index, line)| {
        let failed = |why| SignatureError::Key(format!("line {}: {why}", index + 1));
        allowed_line(line, principal).map_err(failed).transpose()
    });
    read.collect()
}

/// Reads one line of an `allowed_signers` file; `None` if it is about other principals.
fn allowed_line(line: &str, principal: &str) -> Result<Option<Allowed>, String> {
    let (principals, rest) =
        line.split_once(char::is_whitespace).ok_or("no key behind the principals")?;
    if !principals.trim_matches('"').split(',').any(|name| name == principal) {
        return Ok(None);
    }
    let mut allowed = Allowed {
        key: AllowedKey::Key(public_key(key_part(rest)?)?),
        namespaces: None,
        valid_after: None,
        valid_before: None,
    };
    for option in options(rest) {
        match option.split_once('=').map(|(name, value)| (name, value.trim_matches('"'))) {
            Some(("namespaces", list)) => {
                allowed.namespaces = Some(list.split(',').map(str::to_owned).collect());
            }
            Some(("valid-after", text)) => allowed.valid_after = Some(instant(text)?),
            Some(("valid-before", text)) => allowed.valid_before = Some(instant(text)?),
            _ => return Err(format!("the option {option:?} is not supported here")),
        }
    }
    Ok(Some(allowed))
}

/// The key begins at the first word that is a key type.
fn key_part(rest: &str) -> Result<&str, String> {
    let is_type =
        |word: &str| ["ssh-", "sk-", "ecdsa-"].iter().any(|prefix| word.starts_with(prefix));
    let word = rest.split_whitespace().find(|word| is_type(word)).ok_or("no key type")?;
    rest.find(word).map(|at| &rest[at..]).ok_or_else(|| "no key type".to_owned())
}

/// The options stand before the key, separated by commas outside quotes, without blanks.
fn options(rest: &str) -> Vec<String> {
    let first = rest.split_whitespace().next().unwrap_or_default();
    if key_part(first).is_ok() {
        return Vec::new();
    }
    let mut quoted = false;
    first
        .split(|c| {
            quoted ^= c == '"';
            c == ',' && !quoted
        })
        .map(str::to_owned)
        .collect()
}

/// `YYYYMMDD[HHMM[SS]]`, in UTC with a `Z`; without one ssh-keygen reads local time, which is refused here.
fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    let bad =
        || format!("{text:?} is not a time like 20270101Z or 202701011200Z (UTC, with the Z)");
    let digits = text.strip_suffix('Z').ok_or_else(bad)?;
    let padded = match digits.len() {
        8 => format!("{digits}000000"),
        12 => format!("{digits}00"),
        14 => digits.to_owned(),
        _ => return Err(bad()),
    };
    NaiveDateTime::parse_from_str(&padded, "%Y%m%d%H%M%S").map(|at| at.and_utc()).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Note {
        format: String,
        repository: RepositoryId,
        label: Label,
        key: ObjectKey,
        at: DateTime<Utc>,
        text: String,
    }

    impl SignedDocument for Note {
        const NAMESPACE: Namespace = Namespace::Attempt;
        const FORMAT: &'static str = "stonekeep/note/1";
        const BYTES_MAX: u64 = 1 << 16;
        fn format(&self) -> &str {
            &self.format
        }
        fn repository(&self) -> RepositoryId {
            self.repository
        }
        fn key(&self) -> &ObjectKey {
            &self.key
        }
        fn label(&self) -> Option<&Label> {
            Some(&self.label)
        }
        fn signed_at(&self) -> DateTime<Utc> {
            self.at
        }
    }

    // Made by ssh-keygen -t ed25519 -N '' for this test; it guards nothing.
    const KEY: &str = include_str!("../tests/data/signer");

    fn signer() -> Signer {
        Signer::from_openssh(KEY).expect("the test's own key")
    }

    fn note() -> Note {
        Note {
            format: Note::FORMAT.to_owned(),
            repository: RepositoryId::from_bytes([7; 16]),
            label: "bookings".parse().expect("a label"),
            key: "attempts/bookings/1".parse().expect("a key"),
            at: "2026-11-21T10:00:00Z".parse().expect("a date"),
            text: "-----BEGIN SSH SIGNATURE-----\n in the text is harmless".to_owned(),
        }
    }

    fn trust(namespaces: &[Namespace], from: Option<&str>, until: Option<&str>) -> Trust {
        let instant = |text: &str| text.parse().expect("a date");
        let mut trust = Trust::none();
        let line = signer().public_line().expect("a public key");
        trust.allow(&line, namespaces, from.map(instant), until.map(instant)).expect("a key");
        trust
    }

    fn verify(bytes: &[u8], trust: &Trust) -> Result<Note, SignatureError> {
        let key = note().key;
        verify_document(bytes, Found { key: &key, repository: Some(note().repository) }, trust)
    }

    #[test]
    fn what_is_signed_verifies() {
        let object = sign_document(&note(), &signer()).expect("signed");
        let all = trust(&[Namespace::Attempt], None, None);
        assert_eq!(verify(&object, &all).expect("verifies"), note());
    }

    #[test]
    fn a_signature_counts_only_in_its_namespace_and_time() {
        let object = sign_document(&note(), &signer()).expect("signed");
        for trust in [
            trust(&[Namespace::Manifest, Namespace::Genesis], None, None),
            trust(&[Namespace::Attempt], Some("2026-11-21T10:00:01Z"), None),
            trust(&[Namespace::Attempt], None, Some("2026-11-21T10:00:00Z")),
            Trust::none(),
        ] {
            assert!(matches!(verify(&object, &trust), Err(SignatureError::NotAllowed { .. })));
        }
    }

    #[test]
    fn a_document_found_elsewhere_is_foreign() {
        let trust = trust(&[Namespace::Attempt], None, None);
        let foreign = |note: Note| {
            let object = sign_document(&note, &signer()).expect("signed");
            verify(&object, &trust).expect_err("must be foreign").to_string()
        };
        let other = |change: fn(&mut Note)| {
            let mut note = note();
            change(&mut note);
            foreign(note)
        };
        assert!(other(|n| n.repository = RepositoryId::from_bytes([8; 16])).contains("repository"));
        assert!(other(|n| n.key = "attempts/bookings/2".parse().expect("a key")).contains("key"));
        assert!(other(|n| n.label = "invoices".parse().expect("a label")).contains("label"));
        assert!(other(|n| n.format = "stonekeep/note/2".to_owned()).contains("format"));
    }

    #[test]
    fn what_was_signed_with_a_page_around_it_verifies_with_that_page_only() {
        let trust = trust(&[Namespace::Attempt], None, None);
        let note = note();
        let found = Found { key: &note.key, repository: None };
        let signed = |text: &[u8]| {
            join_page(text.to_vec(), &signer().sign(Namespace::Attempt, text).expect("signed"))
        };
        let (page, other) = (signed(b"<p>one</p>\n"), signed(b"<p>two</p>\n"));
        let (text, armour) = split_page(&page).expect("signed");
        assert_eq!(text, b"<p>one</p>\n");
        let by = verify_message(text, armour, &note, found, &trust).expect("verifies");
        assert_eq!(by, signer().fingerprint());
        let (_, armour) = split_page(&other).expect("signed");
        let refused = verify_message(text, armour, &note, found, &trust);
        assert!(matches!(refused, Err(SignatureError::Mismatch)));
        for cut in 1..page.len() - text.len() {
            assert!(split_page(&page[..page.len() - cut]).is_none(), "{cut} bytes less");
        }
    }

    #[test]
    fn no_byte_of_a_pages_signature_can_be_another() {
        let page = b"<p>\n";
        let armour = signer().sign(Namespace::Attempt, page).expect("signed");
        let whole = join_page(page.to_vec(), &armour);
        let trust = trust(&[Namespace::Attempt], None, None);
        let note = note();
        let found = Found { key: &note.key, repository: None };
        for at in 0..whole.len() {
            for flip in [1, 2, 4, 7, 32, 128] {
                let mut changed = whole.clone();
                changed[at] ^= flip;
                let verified = split_page(&changed).map(|(text, armour)| {
                    verify_message(text, armour, &note, found, &trust).is_ok()
                });
                assert_ne!(verified, Some(true), "byte {at}, {flip}");
            }
        }
    }

    #[test]
    fn ssh_keygen_verifies_what_we_sign_and_we_what_it_signs() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        let body = document_body(&note()).expect("JSON");
        std::fs::write(path("body"), &body).expect("written");
        std::fs::write(path("body.sig"), signer().sign(Namespace::Attempt, &body).expect("signed"))
            .expect("written");
        let line = format!(
            "owner namespaces=\"stonekeep-attempt\" {}\n",
            signer().public_line().expect("a key")
        );
        std::fs::write(path("allowed"), &line).expect("written");
        let args = [
            "-Y",
            "verify",
            "-I",
            "owner",
            "-n",
            "stonekeep-attempt",
            "-f",
            "allowed",
            "-s",
            "body.sig",
        ];
        let stdin = std::fs::File::open(path("body")).expect("opened");
        let status = std::process::Command::new("ssh-keygen")
            .args(args)
            .stdin(stdin)
            .current_dir(dir.path())
            .status();
        assert!(status.expect("ssh-keygen runs").success());

        std::fs::write(path("key"), KEY).expect("written");
        std::fs::set_permissions(path("key"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("mode");
        std::fs::remove_file(path("body.sig")).expect("removed");
        let args = ["-Y", "sign", "-n", "stonekeep-attempt", "-f", "key", "body"];
        let status =
            std::process::Command::new("ssh-keygen").args(args).current_dir(dir.path()).status();
        assert!(status.expect("ssh-keygen runs").success());
        let object = join(body, &std::fs::read_to_string(path("body.sig")).expect("a signature"));
        let trust = Trust::from_allowed_signers(&line).expect("a trust");
        assert_eq!(verify(&object, &trust).expect("verifies"), note());
    }

    #[test]
    fn allowed_signers_are_read_as_ssh_keygen_reads_them() {
        let key = signer().public_line().expect("a key");
        let good = format!(
            "# the owner\n\nother {key}\nowner,alice namespaces=\"stonekeep-genesis\",valid-after=\"20260101Z\" {key} comment\n"
        );
        assert_eq!(Trust::from_allowed_signers(&good).expect("readable").fingerprints().len(), 1);
        for (bad, why) in [
            (format!("owner cert-authority {key}"), "not supported"),
            (format!("owner valid-after=\"20260101\" {key}"), "with the Z"),
            ("owner ssh-ed25519 AAAA".to_owned(), "line 1"),
            (format!("alice {key}"), "no line names"),
            (String::new(), "no line names"),
        ] {
            let error = Trust::from_allowed_signers(&bad).expect_err(&bad).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_reporter_is_no_owner_and_an_owner_no_reporter() {
        let key = signer().public_line().expect("a key");
        let now = note().at;
        let allows = |trust: &Trust, namespace| trust.allows_signer(&signer(), namespace, now);

        let owner = format!("owner {key}\n");
        assert!(Trust::of_reporters(&owner).expect("readable").is_empty());
        let reporter = format!("reporter namespaces=\"stonekeep-report\" {key}\n");
        let error = Trust::from_allowed_signers(&reporter).expect_err("no owner").to_string();
        assert!(error.contains("no line names"), "{error}");

        let all = "stonekeep-genesis,stonekeep-manifest,stonekeep-prove,stonekeep-report";
        for line in [
            reporter,
            format!("reporter {key}"),
            format!("{owner}alice,reporter namespaces=\"{all}\" {key}"),
        ] {
            let trust = Trust::of_reporters(&line).expect("readable");
            assert!(allows(&trust, Namespace::Report), "{line}");
            for other in
                [Namespace::Genesis, Namespace::Manifest, Namespace::Attempt, Namespace::Prove]
            {
                assert!(!allows(&trust, other), "{other:?} by {line}");
            }
        }
        let elsewhere = format!("reporter namespaces=\"stonekeep-prove\" {key}");
        assert!(Trust::of_reporters(&elsewhere).expect("readable").is_empty());
        assert!(Trust::of_reporters("").expect("readable").is_empty());
        let bad = Trust::of_reporters(&format!("{owner}reporter ssh-ed25519 AAAA"));
        assert!(bad.expect_err("no key").to_string().contains("line 2"));
    }

    #[test]
    fn a_reporter_known_by_fingerprint_may_sign_reports_only() {
        let now = note().at;
        let fingerprint = signer().fingerprint();
        let reporter = Trust::of_reporter(&fingerprint).expect("a trust");
        let owner = Trust::of_owner(&fingerprint).expect("a trust");
        for (namespace, by_owner, by_reporter) in [
            (Namespace::Genesis, true, false),
            (Namespace::Report, false, true),
            (Namespace::Manifest, false, false),
            (Namespace::Prove, false, false),
        ] {
            assert_eq!(owner.allows_signer(&signer(), namespace, now), by_owner);
            assert_eq!(reporter.allows_signer(&signer(), namespace, now), by_reporter);
        }
        assert!(Trust::of_reporter("SHA256:short").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_flipped_or_missing_byte_is_refused(at in any::<prop::sample::Index>(), flip in 1_u8.., cut in any::<bool>()) {
            let trust = trust(&[Namespace::Attempt], None, None);
            let mut object = sign_document(&note(), &signer()).expect("signed");
            // The newline behind the last line is not part of the armour.
            let at = at.index(object.len() - 1);
            if cut { object.truncate(at); } else { object[at] ^= flip; }
            match verify(&object, &trust) {
                Err(_) => {}
                // Base 64 and PEM tell the same signature in more than one way; the document must be the same all the same.
                Ok(same) => prop_assert!(same == note() && !cut && at > document_body(&note()).expect("JSON").len()),
            }
        }
    }
}
