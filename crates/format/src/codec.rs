//! Segments: plaintext to sealed bytes and back.
//!
//! `seal` is age( zstd( plaintext ) ), its digest is BLAKE3 over the sealed bytes; `open` checks the digest before it
//! decrypts a byte, and bounds what comes out. Both are synchronous and run on blocking threads.

use std::{
    io::{Read, Write},
    sync::Arc,
};

use crate::{
    ids::{Digest, Label, SegmentId},
    inventory::SegmentKind,
    signature::Signer,
};

/// The age recipients of a repository, sorted; who can open its segments.
pub struct Recipients {
    parsed: Vec<Box<dyn age::Recipient + Send + Sync>>,
    fingerprint: Digest,
}

impl std::fmt::Debug for Recipients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recipients({}, {})", self.parsed.len(), self.fingerprint)
    }
}

/// Why recipients cannot be used, or a segment not be sealed or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// A text is no recipient.
    #[error("{0:?} is not an age recipient (age1…): make one with age-keygen")]
    Recipient(String),
    /// A text is a *secret* key. It is not repeated.
    #[error(
        "an age identity (secret key) stands where a recipient belongs: put the public key (age1…) there"
    )]
    IdentityAsRecipient,
    /// Fewer than two recipients.
    #[error(
        "{0} recipient(s) given: two or more are needed, so that losing one identity does not lose the backups"
    )]
    TooFewRecipients(usize),
    /// One recipient twice.
    #[error("the recipient {0} is given twice: two different ones are needed")]
    SameRecipient(String),
    /// Classic and post-quantum recipients do not mix.
    #[error("these recipients cannot be used together")]
    Incompatible(#[source] age::EncryptError),
    /// Writing to memory failed.
    #[error("cannot seal a segment")]
    Seal(#[source] std::io::Error),
    /// The sealed bytes are not those that were named.
    #[error("the segment's digest is {found}, not {wanted}: the object is damaged")]
    Damaged {
        /// Of the bytes.
        found: Digest,
        /// As named.
        wanted: Digest,
    },
    /// No identity opens it.
    #[error("none of the given identities opens the segment")]
    WrongIdentity(#[source] age::DecryptError),
    /// It is no age file, or cut short.
    #[error("the segment cannot be decrypted")]
    Decrypt(#[source] std::io::Error),
    /// It is longer than was named.
    #[error("the segment's plaintext is longer than the {0} bytes it was named with")]
    TooLong(u64),
    /// It is shorter than was named.
    #[error("the segment's plaintext has {found} bytes, not the {wanted} it was named with")]
    Truncated {
        /// Bytes that came out.
        found: u64,
        /// As named.
        wanted: u64,
    },
}

impl Recipients {
    /// Parses age recipients: native X25519 (`age1…`) and the tagged ones for hardware keys (`age1tag1…`, `age1tagpq1…`).
    ///
    /// # Errors
    /// [`CodecError`] if there are fewer than two, two are the same, one is unreadable, or they do not mix.
    pub fn parse(texts: &[String]) -> Result<Self, CodecError> {
        let mut sorted: Vec<&str> = texts.iter().map(|text| text.trim()).collect();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(CodecError::SameRecipient(pair[0].to_owned()));
        }
        let parsed = sorted.iter().map(|text| recipient(text)).collect::<Result<Vec<_>, _>>()?;
        if parsed.len() < 2 {
            return Err(CodecError::TooFewRecipients(parsed.len()));
        }
        let recipients = Self { parsed, fingerprint: Self::fingerprint_of(&sorted) };
        recipients.encryptor()?;
        Ok(recipients)
    }

    /// Returns BLAKE3 over the sorted recipients, each followed by a newline.
    #[must_use]
    pub const fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    fn fingerprint_of(sorted: &[&str]) -> Digest {
        Digest::of(sorted.iter().map(|text| format!("{text}\n")).collect::<String>().as_bytes())
    }

    fn encryptor(&self) -> Result<age::Encryptor, CodecError> {
        let all = self.parsed.iter().map(|each| -> &dyn age::Recipient { &**each });
        age::Encryptor::with_recipients(all).map_err(CodecError::Incompatible)
    }
}

fn recipient(text: &str) -> Result<Box<dyn age::Recipient + Send + Sync>, CodecError> {
    if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY") {
        return Err(CodecError::IdentityAsRecipient);
    }
    let bad = || CodecError::Recipient(text.chars().take(120).collect());
    if text.starts_with("age1tagpq1") {
        return Ok(Box::new(text.parse::<age::tagpq::Recipient>().map_err(|_| bad())?));
    }
    if text.starts_with("age1tag1") {
        return Ok(Box::new(text.parse::<age::tag::Recipient>().map_err(|_| bad())?));
    }
    Ok(Box::new(text.parse::<age::x25519::Recipient>().map_err(|_| bad())?))
}

/// Makes segment ids: a BLAKE3 hash keyed with a secret of the signer, so that nobody else can tell what content an id has,
/// or find two databases that hold the same.
#[derive(Clone)]
pub struct SegmentKeyer {
    key: [u8; 32],
    label: Label,
    recipients: Digest,
}

impl std::fmt::Debug for SegmentKeyer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SegmentKeyer({})", self.label)
    }
}

impl SegmentKeyer {
    const CONTEXT: &'static str = "stonekeep 2026-11-21 segment id v1";

    /// Derives the key from `signer`, for the segments of `label` sealed to `recipients`.
    #[must_use]
    pub fn new(signer: &Signer, label: Label, recipients: &Recipients) -> Self {
        Self {
            key: signer.derive_secret(Self::CONTEXT),
            label,
            recipients: recipients.fingerprint(),
        }
    }

    /// Returns the id of a segment: keyed BLAKE3 over label, zero byte, recipients' fingerprint, kind, zero byte, plaintext.
    /// (Neither a label nor a kind holds a zero byte, so no two inputs run together.)
    #[must_use]
    pub fn id(&self, kind: SegmentKind, plaintext: &[u8]) -> SegmentId {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(self.label.as_str().as_bytes()).update(&[0]);
        hasher.update(self.recipients.as_bytes());
        hasher.update(kind.as_str().as_bytes()).update(&[0]).update(plaintext);
        SegmentId::from_bytes(*hasher.finalize().as_bytes())
    }

    /// Returns a name for a table that only this writer can make: keyed BLAKE3 of the label, `table` and the qualified name.
    #[must_use]
    pub fn table_name(&self, schema: &[u8], name: &[u8]) -> crate::ids::Nonce {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(self.label.as_str().as_bytes()).update(b"\0table\0");
        hasher.update(schema).update(&[0]).update(name);
        let mut short = [0; 16];
        hasher.finalize_xof().fill(&mut short);
        crate::ids::Nonce::from_bytes(short)
    }
}

/// A sealed segment, ready to be put.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The bytes to store.
    pub bytes: Vec<u8>,
    /// Their BLAKE3 digest.
    pub digest: Digest,
}

/// Seals `plaintext`: zstd at `level` with frame checksum, then age to `recipients`, then BLAKE3.
///
/// It is compressed in one call: fed piece by piece, zstd copies it through a window of its own and takes twice the time. An
/// owned plaintext is given back before it is encrypted, so no more than two of the three forms are in memory.
///
/// # Errors
/// [`CodecError::Seal`] and [`CodecError::Incompatible`]; neither occurs with recipients from [`Recipients::parse`].
pub fn seal(
    plaintext: impl AsRef<[u8]>,
    level: i32,
    recipients: &Recipients,
) -> Result<Sealed, CodecError> {
    let packed = pack(plaintext.as_ref(), level).map_err(CodecError::Seal)?;
    drop(plaintext);
    let encryptor = recipients.encryptor()?;
    let write = || -> std::io::Result<Vec<u8>> {
        let mut sealed =
            encryptor.wrap_output(Vec::with_capacity(packed.len() + AGE_ROOM_BYTES))?;
        sealed.write_all(&packed)?;
        sealed.finish()
    };
    let bytes = write().map_err(CodecError::Seal)?;
    let digest = Digest::of(&bytes);
    Ok(Sealed { bytes, digest })
}

/// What age adds to 16 MiB: a header of some 200 bytes a recipient, and 16 bytes for each 64 KiB.
const AGE_ROOM_BYTES: usize = 8 << 10;

fn pack(plaintext: &[u8], level: i32) -> std::io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(level)?;
    compressor.include_checksum(true)?;
    compressor.compress(plaintext)
}

/// The identities that a reader holds. Their order is the order in which they are tried.
pub type Identities = [Box<dyn age::Identity + Send + Sync>];

/// An identity that several lists share: each must prove alone that it opens a snapshot, and all together restore it.
#[derive(Clone)]
pub struct SharedIdentity(Arc<dyn age::Identity + Send + Sync>);

impl std::fmt::Debug for SharedIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedIdentity")
    }
}

impl age::Identity for SharedIdentity {
    fn unwrap_stanza(
        &self,
        stanza: &age_core::format::Stanza,
    ) -> Option<Result<age_core::format::FileKey, age::DecryptError>> {
        self.0.unwrap_stanza(stanza)
    }

    fn unwrap_stanzas(
        &self,
        stanzas: &[age_core::format::Stanza],
    ) -> Option<Result<age_core::format::FileKey, age::DecryptError>> {
        self.0.unwrap_stanzas(stanzas)
    }
}

impl SharedIdentity {
    /// Shares an identity.
    #[must_use]
    pub fn new(identity: Box<dyn age::Identity + Send + Sync>) -> Self {
        Self(Arc::from(identity))
    }

    /// Returns a list of these identities, in their order.
    #[must_use]
    pub fn list<'i>(all: impl IntoIterator<Item = &'i Self>) -> Arc<Identities> {
        let boxed =
            |each: &Self| -> Box<dyn age::Identity + Send + Sync> { Box::new(each.clone()) };
        all.into_iter().map(boxed).collect()
    }
}

/// Opens a sealed segment that was named with `digest` and a plaintext of `plain_bytes` bytes. The digest is checked first:
/// nothing that was not named is decrypted, and no more than was named comes out.
///
/// # Errors
/// [`CodecError::Damaged`], [`CodecError::WrongIdentity`], [`CodecError::Decrypt`], [`CodecError::TooLong`],
/// [`CodecError::Truncated`].
pub fn open(
    sealed: &[u8],
    digest: Digest,
    plain_bytes: u64,
    identities: &Identities,
) -> Result<Vec<u8>, CodecError> {
    let found = Digest::of(sealed);
    if found != digest {
        return Err(CodecError::Damaged { found, wanted: digest });
    }
    let decryptor = age::Decryptor::new(sealed).map_err(open_error)?;
    let all = identities.iter().map(|each| -> &dyn age::Identity { &**each });
    let opened = decryptor.decrypt(all).map_err(open_error)?;
    let decoder = zstd::Decoder::new(opened).map_err(CodecError::Decrypt)?;
    let mut plaintext = Vec::new();
    decoder
        .take(plain_bytes.saturating_add(1))
        .read_to_end(&mut plaintext)
        .map_err(CodecError::Decrypt)?;
    match (plaintext.len() as u64).cmp(&plain_bytes) {
        std::cmp::Ordering::Equal => Ok(plaintext),
        std::cmp::Ordering::Greater => Err(CodecError::TooLong(plain_bytes)),
        std::cmp::Ordering::Less => {
            Err(CodecError::Truncated { found: plaintext.len() as u64, wanted: plain_bytes })
        }
    }
}

fn open_error(error: age::DecryptError) -> CodecError {
    match error {
        age::DecryptError::Io(source) => CodecError::Decrypt(source),
        other => CodecError::WrongIdentity(other),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identity() -> age::x25519::Identity {
        age::x25519::Identity::generate()
    }

    fn recipients(identities: &[&age::x25519::Identity]) -> Recipients {
        let texts: Vec<String> =
            identities.iter().map(|each| each.to_public().to_string()).collect();
        Recipients::parse(&texts).expect("two recipients")
    }

    fn one(identity: age::x25519::Identity) -> Vec<Box<dyn age::Identity + Send + Sync>> {
        vec![Box::new(identity)]
    }

    #[test]
    fn every_recipient_opens_and_nobody_else() {
        let (a, b) = (identity(), identity());
        let sealed = seal(b"rows", 3, &recipients(&[&a, &b])).expect("sealed");
        for identity in [a, b] {
            assert_eq!(
                open(&sealed.bytes, sealed.digest, 4, &one(identity)).expect("opens"),
                b"rows"
            );
        }
        let error =
            open(&sealed.bytes, sealed.digest, 4, &one(identity())).expect_err("a stranger");
        assert!(matches!(error, CodecError::WrongIdentity(_)));
    }

    #[test]
    fn a_plaintext_of_another_length_is_refused() {
        let (a, b) = (identity(), identity());
        let sealed = seal(b"rows", 3, &recipients(&[&a, &b])).expect("sealed");
        let identities = one(a);
        let open = |plain_bytes| open(&sealed.bytes, sealed.digest, plain_bytes, &identities);
        assert!(matches!(open(3), Err(CodecError::TooLong(3))));
        assert!(matches!(open(5), Err(CodecError::Truncated { found: 4, wanted: 5 })));
    }

    #[test]
    fn recipients_are_two_or_more_public_and_different() {
        let (a, b) = (identity(), identity());
        let text = |identity: &age::x25519::Identity| identity.to_public().to_string();
        assert!(matches!(Recipients::parse(&[text(&a)]), Err(CodecError::TooFewRecipients(1))));
        assert!(matches!(
            Recipients::parse(&[text(&a), text(&a)]),
            Err(CodecError::SameRecipient(_))
        ));
        assert!(matches!(
            Recipients::parse(&["x".into(), text(&a)]),
            Err(CodecError::Recipient(_))
        ));
        use age::secrecy::ExposeSecret;
        let secret = a.to_string().expose_secret().to_owned();
        let error = Recipients::parse(&[secret.clone(), text(&b)]).expect_err("a secret key");
        assert!(!error.to_string().contains(&secret[20..]));
        let orders = [[text(&a), text(&b)], [text(&b), text(&a)]]
            .map(|texts| Recipients::parse(&texts).expect("two"));
        assert_eq!(orders[0].fingerprint(), orders[1].fingerprint());
    }

    #[test]
    fn stock_age_and_zstd_open_a_segment() {
        use age::secrecy::ExposeSecret;
        let dir = tempfile::tempdir().expect("a directory");
        let (a, b) = (identity(), identity());
        let plaintext = b"1\tone\n".repeat(10_000);
        let sealed = seal(&plaintext, 3, &recipients(&[&a, &b])).expect("sealed");
        std::fs::write(dir.path().join("segment"), &sealed.bytes).expect("written");
        std::fs::write(dir.path().join("identity"), a.to_string().expose_secret())
            .expect("written");
        let output = std::process::Command::new("sh")
            .args(["-c", "age -d -i identity segment | zstd -d"])
            .current_dir(dir.path())
            .output()
            .expect("age and zstd run");
        assert!(
            output.status.success() && output.stdout == plaintext,
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    #[test]
    fn ids_depend_on_all_that_makes_content_differ() {
        let key = |byte| SegmentKeyer {
            key: [byte; 32],
            label: "a".parse().expect("a label"),
            recipients: Digest::of(b"r"),
        };
        let base = key(1).id(SegmentKind::Rows, b"x");
        let mut other_label = key(1);
        other_label.label = "b".parse().expect("a label");
        let mut other_recipients = key(1);
        other_recipients.recipients = Digest::of(b"s");
        assert_eq!(base, key(1).id(SegmentKind::Rows, b"x"));
        for other in [
            key(2).id(SegmentKind::Rows, b"x"),
            key(1).id(SegmentKind::Pack, b"x"),
            key(1).id(SegmentKind::Rows, b"y"),
            other_label.id(SegmentKind::Rows, b"x"),
            other_recipients.id(SegmentKind::Rows, b"x"),
        ] {
            assert_ne!(base, other);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn what_is_sealed_opens_and_any_damage_is_seen(
            plaintext in proptest::collection::vec(any::<u8>(), 0..100_000), at in any::<prop::sample::Index>(), flip in 1_u8.., cut in any::<bool>(),
        ) {
            let (a, b) = (identity(), identity());
            let mut sealed = seal(&plaintext, 1, &recipients(&[&a, &b])).expect("sealed");
            let identities = one(a);
            let length = plaintext.len() as u64;
            prop_assert_eq!(&open(&sealed.bytes, sealed.digest, length, &identities).expect("opens"), &plaintext);
            let at = at.index(sealed.bytes.len());
            if cut { sealed.bytes.truncate(at); } else { sealed.bytes[at] ^= flip; }
            prop_assert!(matches!(open(&sealed.bytes, sealed.digest, length, &identities), Err(CodecError::Damaged { .. })), "digest");
            // Even with a digest that fits the damaged bytes, age or zstd notice.
            let fitting = Digest::of(&sealed.bytes);
            prop_assert!(open(&sealed.bytes, fitting, length, &identities).is_err());
        }
    }
}
