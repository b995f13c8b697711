//! A page of `ListObjectVersions`, whose keys anyone who may write has chosen.

use aws_sdk_s3::{
    operation::list_object_versions::ListObjectVersionsOutput,
    types::{self, EncodingType},
};
use chrono::{DateTime, Utc};
use stonekeep_format::key::ObjectKey;

use super::{answer::Call, when};
use crate::{DeleteMarker, ListCursor, ObjectVersion, StoreError, VersionPage};

/// Reads a page. Keys that are not under `prefix` (of the repository, with its slash), or cannot be ours for their length, are
/// left out.
pub(super) fn read(
    output: &ListObjectVersionsOutput,
    prefix: &str,
    call: &Call<'_>,
) -> Result<VersionPage, StoreError> {
    let encoded = output.encoding_type() == Some(&EncodingType::Url);
    let spelling = Spelling { encoded, prefix };
    let mut page = VersionPage { next: next(output, &spelling), ..VersionPage::default() };
    // Servers list the newest version of a key first.
    for version in output.versions().iter().rev() {
        if let Some(key) = spelling.ours(version.key()) {
            page.versions.push(object_version(version, key, call)?);
        }
    }
    for marker in output.delete_markers().iter().rev() {
        if let Some(key) = spelling.ours(marker.key()) {
            page.markers.push(delete_marker(marker, key, call)?);
        }
    }
    page.versions.sort_by(|a, b| a.key.cmp(&b.key));
    page.markers.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(page)
}

struct Spelling<'a> {
    encoded: bool,
    prefix: &'a str,
}

impl Spelling<'_> {
    fn plain(&self, key: &str) -> Option<String> {
        if self.encoded { decode(key) } else { Some(key.to_owned()) }
    }

    fn ours(&self, key: Option<&str>) -> Option<ObjectKey> {
        self.plain(key?)?.strip_prefix(self.prefix)?.parse().ok()
    }
}

fn object_version(
    version: &types::ObjectVersion,
    key: ObjectKey,
    call: &Call<'_>,
) -> Result<ObjectVersion, StoreError> {
    let version_id = version.version_id().unwrap_or("null").parse();
    let bytes = version.size().and_then(|size| u64::try_from(size).ok());
    Ok(ObjectVersion {
        key,
        version_id: version_id.map_err(|error| call.bad_answer(error))?,
        bytes: bytes.ok_or_else(|| call.bad_answer("a version without a size"))?,
        modified_at: modified_at(version.last_modified(), call)?,
        is_latest: version.is_latest().unwrap_or(false),
    })
}

fn delete_marker(
    marker: &types::DeleteMarkerEntry,
    key: ObjectKey,
    call: &Call<'_>,
) -> Result<DeleteMarker, StoreError> {
    let version_id = marker.version_id().unwrap_or("null").parse();
    Ok(DeleteMarker {
        key,
        version_id: version_id.map_err(|error| call.bad_answer(error))?,
        modified_at: modified_at(marker.last_modified(), call)?,
    })
}

fn modified_at(
    at: Option<&aws_sdk_s3::primitives::DateTime>,
    call: &Call<'_>,
) -> Result<DateTime<Utc>, StoreError> {
    at.and_then(when).ok_or_else(|| call.bad_answer("a version without a date"))
}

/// Where the next page begins. Some servers (Ceph) do not encode the marker although they encode the keys: then it is, as it
/// stands, one of the keys of this page.
fn next(output: &ListObjectVersionsOutput, spelling: &Spelling<'_>) -> Option<ListCursor> {
    if !output.is_truncated().unwrap_or(false) {
        return None;
    }
    let marker = output.next_key_marker()?;
    let versions = output.versions().iter().filter_map(types::ObjectVersion::key);
    let markers = output.delete_markers().iter().filter_map(types::DeleteMarkerEntry::key);
    let is_plain =
        versions.chain(markers).any(|key| spelling.plain(key).as_deref() == Some(marker));
    let key = if is_plain { marker.to_owned() } else { spelling.plain(marker)? };
    let version_id = output.next_version_id_marker().filter(|id| !id.is_empty());
    Some(ListCursor { key, version_id: version_id.map(str::to_owned) })
}

/// Undoes URL encoding; `None` for what is not UTF-8 then, which is no key.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => (hex(*high)? << 4 | hex(*low)?, tail),
            (b'+', tail) => (b' ', tail),
            (byte, tail) => (*byte, tail),
        };
        bytes.push(byte);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_encoding_is_undone() {
        assert_eq!(decode("a%2Fb%20c+d%2541").as_deref(), Some("a/b c d%41"));
        assert_eq!(decode("%01%C3%A4").as_deref(), Some("\u{1}ä"));
        assert_eq!(decode("%zz"), None);
        assert_eq!(decode("%ff"), None);
        assert_eq!(decode("100%").as_deref(), Some("100%"));
    }

    #[test]
    fn a_marker_that_is_not_encoded_is_taken_as_it_is() {
        let version = types::ObjectVersion::builder().key("p%2Fa%2541b").build();
        let page = |marker: &str| {
            ListObjectVersionsOutput::builder()
                .versions(version.clone())
                .is_truncated(true)
                .next_key_marker(marker)
                .build()
        };
        let spelling = Spelling { encoded: true, prefix: "p/" };
        for marker in ["p/a%41b", "p%2Fa%2541b"] {
            assert_eq!(next(&page(marker), &spelling).map(|c| c.key).as_deref(), Some("p/a%41b"));
        }
    }

    #[test]
    fn keys_outside_the_prefix_are_left_out() {
        let spelling = Spelling { encoded: false, prefix: "keep/" };
        assert_eq!(spelling.ours(Some("keep/genesis/1")), Some(ObjectKey::genesis(1)));
        for foreign in ["keeper/genesis/1", "genesis/1", "keep/", "keep//x"] {
            assert_eq!(spelling.ours(Some(foreign)), None, "{foreign}");
        }
    }
}
