//! Packs: many small members in one segment.
//!
//! Its one responsibility is the tar in which whole small members (small tables, small large objects, lists of large objects)
//! lie together, and the rule by which they are grouped. A backup groups them by [`pack_groups`] and writes each group by a
//! [`PackWriter`]; a restore reads one by [`read_pack`], or a person does by `tar -x`. The same members always make the same
//! bytes: no time, no owner, no machine. Reading takes these very bytes and nothing else that a tar may hold: no link, no
//! directory, no path, no extension.
//!
//! # Layout
//! For each member, in the order of the group: a header of 512 bytes as of POSIX ustar (name; mode 600; owner, group and
//! time 0; size; type `0`; all else zero or empty), the content, zeros to the next multiple of 512. Then 1024 zeros.

use std::{
    collections::{BTreeMap, HashSet},
    io::{self, Write},
    ops::Range,
};

use xxhash_rust::xxh3::xxh3_64;

use crate::{ErrorKind, ids::MemberName};

/// The largest pack that is made of more than one member: 16 MiB, as large as the largest slice.
pub const PACK_BYTES_MAX: u64 = 16 << 20;

/// The unit of a tar.
const BLOCK_BYTES: usize = 512;
/// Two blocks of zeros end a tar.
const END_BYTES: usize = 2 * BLOCK_BYTES;
const ZEROS: [u8; END_BYTES] = [0; END_BYTES];
/// A size has eleven octal digits in ustar.
const MEMBER_BYTES_MAX: u64 = (8 << 30) - 1;

/// Why a pack could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// The writer failed.
    #[error("cannot write a pack")]
    Write(#[source] io::Error),
    /// A member is larger than a tar can say: it belongs into slices. A bug of the caller.
    #[error("cannot pack {member}: its {bytes} bytes are more than a tar header can say")]
    MemberTooLarge {
        /// The member.
        member: MemberName,
        /// Its size.
        bytes: u64,
    },
    /// A member would be, or is, twice in one pack.
    #[error("{member} is twice in one pack")]
    Duplicate {
        /// The member.
        member: MemberName,
    },
    /// The pack is larger than the reader allows.
    #[error("a pack has {bytes} bytes, more than the {bytes_max} allowed")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The pack ends before its end mark.
    #[error("a pack ends after {bytes} bytes, before its end mark; fetch it again")]
    Truncated {
        /// Its size.
        bytes: u64,
    },
    /// The pack holds what [`PackWriter`] never writes.
    #[error("a pack is damaged at byte {offset}: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
        /// Where.
        offset: u64,
    },
}

impl PackError {
    /// Returns what to do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Write(_) => ErrorKind::Unavailable,
            Self::MemberTooLarge { .. } => ErrorKind::Internal,
            _ => ErrorKind::Corrupt,
        }
    }
}

/// Writes a pack. What was written is a pack only after [`PackWriter::finish`].
#[derive(Debug)]
pub struct PackWriter<W> {
    writer: W,
    members: HashSet<MemberName>,
}

impl<W: Write> PackWriter<W> {
    /// Begins a pack.
    pub fn new(writer: W) -> Self {
        Self { writer, members: HashSet::new() }
    }

    /// Appends a whole member.
    ///
    /// # Errors
    /// [`PackError::Duplicate`], [`PackError::MemberTooLarge`] (8 GiB or more), or [`PackError::Write`].
    pub fn append(&mut self, member: &MemberName, content: &[u8]) -> Result<(), PackError> {
        let bytes = content.len() as u64;
        if bytes > MEMBER_BYTES_MAX {
            return Err(PackError::MemberTooLarge { member: member.clone(), bytes });
        }
        if !self.members.insert(member.clone()) {
            return Err(PackError::Duplicate { member: member.clone() });
        }
        self.put(&header(member, bytes))?;
        self.put(content)?;
        self.put(&ZEROS[..padding(content.len())])
    }

    /// Writes the end mark and returns the writer.
    ///
    /// # Errors
    /// [`PackError::Write`].
    pub fn finish(mut self) -> Result<W, PackError> {
        self.put(&ZEROS)?;
        Ok(self.writer)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        self.writer.write_all(bytes).map_err(PackError::Write)
    }
}

/// Returns the one header that a member of this name and size has.
fn header(member: &MemberName, bytes: u64) -> [u8; BLOCK_BYTES] {
    let mut header = tar::Header::new_ustar();
    if let Some(ustar) = header.as_ustar_mut() {
        // A member name has at most 100 ASCII characters, as many as the field, and needs no zero after it.
        ustar.name[..member.as_str().len()].copy_from_slice(member.as_str().as_bytes());
    }
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    *header.as_bytes()
}

const fn padding(bytes: usize) -> usize {
    bytes.next_multiple_of(BLOCK_BYTES) - bytes
}

/// Reads a pack of at most `bytes_max` bytes: its members in order, borrowed from `pack`.
///
/// # Errors
/// [`PackError::TooLarge`]; [`PackError::Truncated`]; [`PackError::Duplicate`]; [`PackError::Malformed`] for anything that
/// [`PackWriter`] would not have written just so, such as links, directories, paths, other owners, or bytes after the end.
pub fn read_pack(pack: &[u8], bytes_max: u64) -> Result<Vec<(MemberName, &[u8])>, PackError> {
    let bytes = pack.len() as u64;
    if bytes > bytes_max {
        return Err(PackError::TooLarge { bytes, bytes_max });
    }
    let mut input = Input { pack, at: 0 };
    let mut members = Vec::new();
    let mut names = HashSet::new();
    while let Some((member, content)) = input.member()? {
        if !names.insert(member.clone()) {
            return Err(PackError::Duplicate { member });
        }
        members.push((member, content));
    }
    Ok(members)
}

struct Input<'a> {
    pack: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    /// Returns the next member, or `None` after a proper end.
    fn member(&mut self) -> Result<Option<(MemberName, &'a [u8])>, PackError> {
        let found: &[u8; BLOCK_BYTES] = self.block()?;
        if found.iter().all(|byte| *byte == 0) {
            return self.end().map(|()| None);
        }
        let (member, bytes) = self.parse(found)?;
        let content = self.take(bytes)?;
        if self.take(padding(bytes))?.iter().any(|byte| *byte != 0) {
            return Err(self.malformed("the padding of a member is not zero"));
        }
        Ok(Some((member, content)))
    }

    /// Takes name and size, and refuses every header but the one that we would have written for them.
    fn parse(&self, found: &[u8; BLOCK_BYTES]) -> Result<(MemberName, usize), PackError> {
        let parsed = tar::Header::from_byte_slice(found);
        let name = found[..100].split(|byte| *byte == 0).next().unwrap_or_default();
        let member = str::from_utf8(name).ok().and_then(|name| name.parse::<MemberName>().ok());
        let member = member.ok_or_else(|| self.malformed("a name that no member may have"))?;
        let bytes = parsed.entry_size().ok().filter(|bytes| *bytes <= MEMBER_BYTES_MAX);
        let bytes = bytes.ok_or_else(|| self.malformed("a size that is none"))?;
        if *found != header(&member, bytes) {
            return Err(self.malformed("a header that is not of a plain file with our attributes"));
        }
        let bytes = usize::try_from(bytes).map_err(|_| self.truncated())?;
        Ok((member, bytes))
    }

    fn end(&mut self) -> Result<(), PackError> {
        if self.block::<BLOCK_BYTES>()?.iter().any(|byte| *byte != 0) {
            return Err(self.malformed("an end mark that is not zero"));
        }
        if self.at < self.pack.len() {
            return Err(self.malformed("bytes after the end mark"));
        }
        Ok(())
    }

    fn block<const N: usize>(&mut self) -> Result<&'a [u8; N], PackError> {
        let block = self.pack[self.at..].first_chunk().ok_or_else(|| self.truncated())?;
        self.at += N;
        Ok(block)
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], PackError> {
        let taken = self.pack[self.at..].get(..bytes).ok_or_else(|| self.truncated())?;
        self.at += bytes;
        Ok(taken)
    }

    const fn malformed(&self, what: &'static str) -> PackError {
        PackError::Malformed { what, offset: self.at as u64 }
    }

    const fn truncated(&self) -> PackError {
        PackError::Truncated { bytes: self.pack.len() as u64 }
    }
}

/// Returns the bytes that a member of `bytes` bytes takes in a pack: header, content and padding.
#[must_use]
pub const fn packed_bytes(bytes: u64) -> u64 {
    let block = BLOCK_BYTES as u64;
    bytes.saturating_add(2 * block - 1) / block * block
}

/// Groups small members, given as OID and size, into packs of at most `bytes_max` bytes ([`PACK_BYTES_MAX`]).
///
/// Members stand in the order of their OIDs. A group that is too large is divided before the member, other than its first,
/// whose OID has the smallest hash (XXH3-64 of its four bytes, least significant first; of equal ones the smaller OID), and
/// so on with both parts. A member that is too large by itself stands alone.
///
/// *Why:* where a group is divided depends on the OIDs alone, and whether it is, on the members within it. So when a member
/// comes, goes or grows, only the groups beside it change, by no more than `bytes_max` before and after it; filling packs
/// one after another would shift all that follow. Packs come out at about half of `bytes_max`.
#[must_use]
pub fn pack_groups(members: &BTreeMap<u32, u64>, bytes_max: u64) -> Vec<Vec<u32>> {
    let members: Vec<Member> =
        members.iter().map(|(oid, bytes)| Member::new(*oid, *bytes)).collect();
    let mut groups = Vec::new();
    let mut open: Vec<_> = std::iter::once(0..members.len()).collect();
    // The last on the stack is the first in order.
    while let Some(range) = open.pop() {
        match division(&members, &range, bytes_max) {
            Some(at) => open.extend([at..range.end, range.start..at]),
            None => groups.push(members[range].iter().map(|member| member.oid).collect()),
        }
    }
    groups.retain(|group: &Vec<u32>| !group.is_empty());
    groups
}

struct Member {
    oid: u32,
    hash: u64,
    bytes: u64,
}

impl Member {
    fn new(oid: u32, bytes: u64) -> Self {
        Self { oid, hash: xxh3_64(&oid.to_le_bytes()), bytes: packed_bytes(bytes) }
    }
}

/// Returns where a group must be divided, if it must.
fn division(members: &[Member], range: &Range<usize>, bytes_max: u64) -> Option<usize> {
    let group = &members[range.clone()];
    let bytes = group.iter().fold(END_BYTES as u64, |sum, member| sum.saturating_add(member.bytes));
    if bytes <= bytes_max {
        return None;
    }
    let first = range.start + 1;
    (first..range.end).min_by_key(|at| (members[*at].hash, members[*at].oid))
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use proptest::{
        collection::{btree_map, vec},
        prelude::*,
    };

    use super::*;

    fn name(text: &str) -> MemberName {
        text.parse().unwrap()
    }

    fn pack<'a>(members: impl IntoIterator<Item = (&'a MemberName, &'a Vec<u8>)>) -> Vec<u8> {
        let mut writer = PackWriter::new(Vec::new());
        for (member, content) in members {
            writer.append(member, content).unwrap();
        }
        writer.finish().unwrap()
    }

    fn members() -> impl Strategy<Value = BTreeMap<MemberName, Vec<u8>>> {
        let name = "[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}".prop_map(|text| name(&text));
        btree_map(name, vec(any::<u8>(), 0..1200), 0..6)
    }

    proptest! {
        #[test]
        fn pack_that_was_written_is_read_back(members in members()) {
            let bytes = pack(&members);
            let read = read_pack(&bytes, bytes.len() as u64).unwrap();
            let read: BTreeMap<_, _> = read.into_iter().map(|(name, content)| (name, content.to_vec())).collect();
            prop_assert_eq!(&read, &members);
            let expected = members.values().map(|content| packed_bytes(content.len() as u64)).sum::<u64>();
            prop_assert_eq!(bytes.len() as u64, expected + 1024);
        }

        #[test]
        fn truncated_pack_is_an_error(members in members(), at in any::<prop::sample::Index>()) {
            let bytes = pack(&members);
            let error = read_pack(&bytes[..at.index(bytes.len())], u64::MAX).unwrap_err();
            prop_assert!(matches!(error, PackError::Truncated { .. }), "{error}");
        }

        #[test]
        fn changed_byte_is_an_error_unless_it_is_content(
            members in members(), at in any::<prop::sample::Index>(), change in 1..=u8::MAX,
        ) {
            let mut bytes = pack(&members);
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            if let Ok(read) = read_pack(&bytes, u64::MAX) {
                let names: Vec<_> = read.iter().map(|(name, _)| name).collect();
                prop_assert_eq!(names, members.keys().collect::<Vec<_>>());
                let base = bytes.as_ptr().addr();
                let content = |part: &[u8]| part.as_ptr_range().start.addr() - base..part.as_ptr_range().end.addr() - base;
                prop_assert!(read.iter().any(|(_, part)| content(part).contains(&at)));
            }
        }

        #[test]
        fn any_bytes_are_an_error_but_no_panic(bytes in vec(any::<u8>(), 0..1600)) {
            prop_assert!(read_pack(&bytes, u64::MAX).is_err());
        }
    }

    #[test]
    fn tar_lists_and_unpacks_what_was_packed() {
        let long = "x".repeat(100);
        let members: BTreeMap<_, _> = [
            (name("t16384.dat"), b"1\tone\n\\.\n\n\n".to_vec()),
            (name("blob_4294967295.dat"), (0..=255).cycle().take(5000).collect()),
            (name("blobs.toc"), Vec::new()),
            (name(&long), vec![0; 512]),
        ]
        .into();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pack.tar");
        fs::write(&file, pack(&members)).unwrap();
        let list =
            tar(&["--utc", "--full-time", "--numeric-owner", "-tvf", file.to_str().unwrap()]);
        assert_eq!(list.lines().count(), 4);
        for (line, (member, content)) in list.lines().zip(&members) {
            let words: Vec<_> = line.split_whitespace().collect();
            let size = content.len().to_string();
            assert_eq!(
                words,
                ["-rw-------", "0/0", &size, "1970-01-01", "00:00:00", member.as_str()]
            );
        }
        tar(&["-xf", file.to_str().unwrap(), "-C", dir.path().to_str().unwrap()]);
        for (member, content) in &members {
            assert_eq!(&fs::read(dir.path().join(member.as_str())).unwrap(), content);
        }
    }

    fn tar(args: &[&str]) -> String {
        let output = Command::new("tar").args(args).output().expect("tar is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn with_header(change: impl Fn(&mut tar::Header)) -> Vec<u8> {
        let mut bytes = pack([(&name("t1.dat"), &b"row\n".to_vec())]);
        let mut header = tar::Header::from_byte_slice(&bytes[..512]).clone();
        change(&mut header);
        header.set_cksum();
        bytes[..512].copy_from_slice(header.as_bytes());
        bytes
    }

    #[test]
    fn anything_but_plain_files_of_ours_is_refused() {
        use tar::EntryType;
        assert_eq!(read_pack(&with_header(|_| ()), u64::MAX).unwrap().len(), 1);
        let kinds = [
            EntryType::Symlink,
            EntryType::Link,
            EntryType::Directory,
            EntryType::Char,
            EntryType::Fifo,
            EntryType::GNULongName,
            EntryType::GNUSparse,
            EntryType::XHeader,
            EntryType::XGlobalHeader,
            EntryType::Continuous,
            EntryType::new(0),
        ];
        for kind in kinds {
            let bytes = with_header(|header| header.as_old_mut().linkflag = [kind.as_byte()]);
            let changed = bytes[156] != b'0';
            assert_eq!(malformed(&bytes), changed, "{kind:?}");
        }
        assert!(malformed(&with_header(|header| header.as_old_mut().linkflag = [0])));
        assert!(malformed(&with_header(|header| header.set_mode(0o4755))));
        assert!(malformed(&with_header(|header| header.set_uid(1))));
        assert!(malformed(&with_header(|header| header.set_mtime(1))));
        assert!(malformed(&with_header(|header| header.set_size(u64::MAX))));
        assert!(malformed(&with_header(|header| header.as_old_mut().linkname[0] = b'x')));
        assert!(malformed(&with_header(|header| header.as_ustar_mut().unwrap().prefix[0] = b'x')));
        for path in ["../t1.dat", "/etc/passwd", "a/b", ".", "..", "./t1.dat", ""] {
            let bytes = with_header(|header| {
                let name = &mut header.as_old_mut().name;
                name.fill(0);
                name[..path.len()].copy_from_slice(path.as_bytes());
            });
            assert!(malformed(&bytes), "{path}");
        }
    }

    fn malformed(bytes: &[u8]) -> bool {
        matches!(read_pack(bytes, u64::MAX), Err(PackError::Malformed { .. }))
    }

    #[test]
    fn claimed_size_takes_no_memory() {
        let bytes = with_header(|header| header.set_size(MEMBER_BYTES_MAX));
        assert!(matches!(read_pack(&bytes, u64::MAX), Err(PackError::Truncated { .. })));
    }

    #[test]
    fn bytes_after_the_end_are_refused() {
        for extra in [1, 512, 9216] {
            let mut bytes = pack([(&name("t1.dat"), &Vec::new())]);
            bytes.resize(bytes.len() + extra, 0);
            assert!(malformed(&bytes), "{extra}");
        }
    }

    #[test]
    fn member_is_never_twice_in_a_pack() {
        let mut writer = PackWriter::new(Vec::new());
        writer.append(&name("t1.dat"), b"").unwrap();
        assert!(matches!(writer.append(&name("t1.dat"), b""), Err(PackError::Duplicate { .. })));
        let one = pack([(&name("t1.dat"), &Vec::new())]);
        let twice = [&one[..512], &one[..]].concat();
        assert!(matches!(read_pack(&twice, u64::MAX), Err(PackError::Duplicate { .. })));
    }

    #[test]
    fn pack_above_the_limit_is_refused() {
        let bytes = pack([(&name("t1.dat"), &vec![7; 100])]);
        assert!(read_pack(&bytes, 2048).is_ok());
        assert!(matches!(read_pack(&bytes, 2047), Err(PackError::TooLarge { .. })));
    }

    const MAX: u64 = 40_000;

    fn sizes() -> impl Strategy<Value = BTreeMap<u32, u64>> {
        btree_map(prop_oneof![16_384u32..17_000, any::<u32>()], 0u64..9000, 0..300)
    }

    /// The groups of one grouping that are not in the other, and the bytes of their members.
    fn changed(of: &BTreeMap<u32, u64>, from: &BTreeMap<u32, u64>) -> (Vec<Vec<u32>>, u64) {
        let old = pack_groups(from, MAX);
        let groups: Vec<_> =
            pack_groups(of, MAX).into_iter().filter(|group| !old.contains(group)).collect();
        let bytes = groups.iter().flatten().map(|oid| packed_bytes(of[oid])).sum();
        (groups, bytes)
    }

    proptest! {
        #[test]
        fn groups_are_the_members_in_order_and_never_too_large(sizes in sizes()) {
            let groups = pack_groups(&sizes, MAX);
            prop_assert_eq!(groups.concat(), sizes.keys().copied().collect::<Vec<_>>());
            for group in groups {
                let bytes = group.iter().map(|oid| packed_bytes(sizes[oid])).sum::<u64>() + 1024;
                prop_assert!(!group.is_empty() && (bytes <= MAX || group.len() == 1));
            }
        }

        #[test]
        fn a_member_that_comes_or_goes_changes_only_the_groups_beside_it(
            sizes in sizes(), oid in prop_oneof![16_384u32..17_000, any::<u32>()], bytes in 0u64..9000,
        ) {
            let mut without = sizes;
            without.remove(&oid);
            let mut with = without.clone();
            with.insert(oid, bytes);
            for (of, from) in [(&with, &without), (&without, &with)] {
                let (groups, bytes) = changed(of, from);
                // Within one largest pack before the member and one from it on.
                prop_assert!(bytes <= 2 * MAX, "{bytes}");
                let near = of.range(..oid).next_back().into_iter().chain(of.range(oid..).next());
                let near: Vec<_> = near.map(|(oid, _)| *oid).collect();
                prop_assert!(groups.is_empty() || groups.iter().flatten().any(|oid| near.contains(oid)));
            }
        }
    }

    #[test]
    fn a_member_that_comes_changes_one_or_two_packs_as_a_rule() {
        let sizes: BTreeMap<u32, u64> = (0..2000).map(|i| (16_384 + 10 * i, 3000)).collect();
        let total = pack_groups(&sizes, MAX).len();
        assert!((200..500).contains(&total), "{total}");
        let mut counts = Vec::new();
        for i in 0..500u32 {
            let mut with = sizes.clone();
            with.insert(16_389 + 40 * i, 3000);
            counts.push(changed(&with, &sizes).0.len());
        }
        assert!(counts.iter().filter(|count| **count <= 2).count() >= 495, "{counts:?}");
        assert!(counts.iter().all(|count| *count <= 4), "{counts:?}");
    }

    #[test]
    fn member_larger_than_a_pack_stands_alone() {
        let sizes = [(1, 10), (2, 2 * MAX), (3, 10), (4, 10)].into();
        let groups = pack_groups(&sizes, MAX);
        assert!(groups.contains(&vec![2]), "{groups:?}");
        assert!(pack_groups(&BTreeMap::new(), MAX).is_empty());
    }
}
