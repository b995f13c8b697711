//! One entry of the table of contents: one object of the database, or the data of one.

use std::io::{Read, Write};

use super::{
    ArchiveError, ArchiveVersion, Format, Header,
    primitive::{Input, put_decimal, put_int, put_string},
};

/// The part of a restore that an entry belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// None in particular: rights and comments go with what they belong to.
    None,
    /// Before the data: tables, types, functions.
    PreData,
    /// Rows, large objects, values of sequences.
    Data,
    /// After the data: indexes, constraints, triggers.
    PostData,
}

impl Section {
    const fn from_int(value: i32) -> Option<Self> {
        match value {
            1 => Some(Self::None),
            2 => Some(Self::PreData),
            3 => Some(Self::Data),
            4 => Some(Self::PostData),
            _ => None,
        }
    }

    const fn int(self) -> i32 {
        match self {
            Self::None => 1,
            Self::PreData => 2,
            Self::Data => 3,
            Self::PostData => 4,
        }
    }
}

/// One entry of the table of contents, fields in the order in which they lie in the archive. Strings are in the encoding of
/// the dump; `None` is a null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The number by which other entries of this archive depend on this one; positive.
    pub dump_id: i32,
    /// Whether the entry has data of its own outside the TOC.
    pub had_dumper: bool,
    /// The OID of the catalog that holds the object; 0 where it has none.
    pub table_oid: u32,
    /// The OID of the object (for data: of the table); 0 where it has none.
    pub oid: u32,
    /// The name of the object.
    pub tag: Option<Vec<u8>>,
    /// The kind of the object, such as `TABLE DATA`.
    pub desc: Option<Vec<u8>>,
    /// The part of a restore it belongs to.
    pub section: Section,
    /// The SQL that makes it.
    pub defn: Option<Vec<u8>>,
    /// The SQL that drops it.
    pub drop_stmt: Option<Vec<u8>>,
    /// The COPY statement that loads its rows, with the exact list of columns.
    pub copy_stmt: Option<Vec<u8>>,
    /// The schema it lies in.
    pub namespace: Option<Vec<u8>>,
    /// The tablespace it lies in.
    pub tablespace: Option<Vec<u8>>,
    /// The table access method.
    pub table_am: Option<Vec<u8>>,
    /// The relkind of a relation as a character's code, 0 for others. `None` before 1.16.
    pub relkind: Option<i32>,
    /// The role that owns it.
    pub owner: Option<Vec<u8>>,
    /// `false` since PostgreSQL 12.
    pub with_oids: Option<Vec<u8>>,
    /// The dump ids of the entries that must come first.
    pub dependencies: Vec<i32>,
    /// The file with its data, in a directory archive.
    pub file_name: Option<Vec<u8>>,
}

impl Entry {
    pub(super) fn read(
        input: &mut Input<'_, impl Read>,
        header: &Header,
        format: Format,
    ) -> Result<Self, ArchiveError> {
        Ok(Self {
            dump_id: read_dump_id(input)?,
            had_dumper: read_flag(input)?,
            table_oid: read_oid(input)?,
            oid: read_oid(input)?,
            tag: input.string()?,
            desc: input.string()?,
            section: read_section(input)?,
            defn: input.string()?,
            drop_stmt: input.string()?,
            copy_stmt: input.string()?,
            namespace: input.string()?,
            tablespace: input.string()?,
            table_am: input.string()?,
            relkind: if has_relkind(header) { Some(input.int()?) } else { None },
            owner: input.string()?,
            with_oids: input.string()?,
            dependencies: read_dependencies(input)?,
            file_name: match format {
                Format::Custom => skip_offset(input, header)?,
                Format::Directory => read_file_name(input)?,
            },
        })
    }

    pub(super) fn write_directory(
        &self,
        writer: &mut impl Write,
        header: &Header,
    ) -> Result<(), ArchiveError> {
        if self.dump_id <= 0 {
            return Err(ArchiveError::Unwritable { what: "a dump id is not positive" });
        }
        put_int(writer, self.dump_id)?;
        put_int(writer, i32::from(self.had_dumper))?;
        put_decimal(writer, self.table_oid)?;
        put_decimal(writer, self.oid)?;
        put_string(writer, self.tag.as_deref())?;
        put_string(writer, self.desc.as_deref())?;
        put_int(writer, self.section.int())?;
        let texts =
            [&self.defn, &self.drop_stmt, &self.copy_stmt, &self.namespace, &self.tablespace];
        texts.into_iter().try_for_each(|text| put_string(writer, text.as_deref()))?;
        put_string(writer, self.table_am.as_deref())?;
        if has_relkind(header) {
            put_int(writer, self.relkind.unwrap_or(0))?;
        }
        put_string(writer, self.owner.as_deref())?;
        put_string(writer, self.with_oids.as_deref())?;
        self.dependencies.iter().try_for_each(|id| put_decimal(writer, id))?;
        put_string(writer, None)?;
        put_string(writer, Some(self.file_name.as_deref().unwrap_or_default()))
    }
}

fn has_relkind(header: &Header) -> bool {
    header.version >= ArchiveVersion::V1_16
}

fn read_dump_id(input: &mut Input<'_, impl Read>) -> Result<i32, ArchiveError> {
    match input.int()? {
        id if id > 0 => Ok(id),
        _ => Err(input.malformed("a dump id that is not positive")),
    }
}

fn read_flag(input: &mut Input<'_, impl Read>) -> Result<bool, ArchiveError> {
    match input.int()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(input.malformed("a flag that is neither 0 nor 1")),
    }
}

fn read_oid(input: &mut Input<'_, impl Read>) -> Result<u32, ArchiveError> {
    input.decimal()?.ok_or_else(|| input.malformed("an entry without an oid"))
}

fn read_section(input: &mut Input<'_, impl Read>) -> Result<Section, ArchiveError> {
    let section = input.int()?;
    Section::from_int(section).ok_or_else(|| input.malformed("an entry of an unknown section"))
}

fn read_dependencies(input: &mut Input<'_, impl Read>) -> Result<Vec<i32>, ArchiveError> {
    let mut dependencies = Vec::new();
    while let Some(id) = input.decimal()? {
        dependencies.push(id);
    }
    Ok(dependencies)
}

/// The state of an offset is 1 (not yet known), 2 (set) or 3 (no data): none tells us anything that the entry does not.
fn skip_offset(
    input: &mut Input<'_, impl Read>,
    header: &Header,
) -> Result<Option<Vec<u8>>, ArchiveError> {
    if !matches!(input.byte()?, 1..=3) {
        return Err(input.malformed("an offset of unknown state"));
    }
    for _ in 0..header.offset_bytes {
        input.byte()?;
    }
    Ok(None)
}

fn read_file_name(input: &mut Input<'_, impl Read>) -> Result<Option<Vec<u8>>, ArchiveError> {
    let name = input.string()?.ok_or_else(|| input.malformed("a null as a file name"))?;
    Ok((!name.is_empty()).then_some(name))
}
