//! What an archive expects of the cluster it is restored to: roles, extensions, tablespaces, locales, collations.
//!
//! Read from the table of contents alone, so that a restore can list what is missing before it changes anything.

use std::collections::BTreeSet;

use stonekeep_format::{
    archive::{Archive, Entry},
    catalog::{DatabaseProperties, Text},
};

use crate::sql::take_identifier;

/// What an archive expects. A name that is not UTF-8 is left out: pg_restore will speak of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Owners, grantees, and whoever a policy or a setting is for.
    pub roles: BTreeSet<String>,
    /// Extensions it creates.
    pub extensions: BTreeSet<String>,
    /// Tablespaces of its tables and indexes.
    pub tablespaces: BTreeSet<String>,
    /// Locales of the operating system, of the database and of its collations.
    pub locales: BTreeSet<String>,
    /// Providers of its security labels.
    pub label_providers: BTreeSet<String>,
    /// Collations of `pg_catalog` that its definitions name.
    pub collations: BTreeSet<String>,
}

impl Needs {
    /// Reads what the archive and the database's properties expect.
    #[must_use]
    pub fn of(archive: &Archive, properties: &DatabaseProperties) -> Self {
        let mut needs = Self::default();
        needs.add_properties(properties);
        archive.entries.iter().for_each(|entry| needs.add_entry(entry));
        needs
    }

    fn add_properties(&mut self, properties: &DatabaseProperties) {
        self.add_role(&properties.owner.0);
        properties
            .settings
            .iter()
            .filter_map(|(role, _)| role.as_ref())
            .for_each(|Text(role)| self.add_role(role));
        let names = [&properties.collate, &properties.ctype];
        self.locales.extend(names.into_iter().filter(|name| !is_everywhere(name)).cloned());
    }

    fn add_role(&mut self, role: &[u8]) {
        if !role.is_empty() {
            self.roles.extend(text(role));
        }
    }

    fn add_entry(&mut self, entry: &Entry) {
        self.add_role(entry.owner.as_deref().unwrap_or_default());
        let tablespace = entry.tablespace.as_deref().and_then(text);
        self.tablespaces.extend(tablespace.filter(|name| !name.is_empty() && name != "pg_default"));
        let defn = entry.defn.as_deref().unwrap_or_default();
        match entry.desc.as_deref().unwrap_or_default() {
            b"EXTENSION" => self.extensions.extend(entry.tag.as_deref().and_then(text)),
            b"ACL" | b"DEFAULT ACL" => grantees(defn).iter().for_each(|role| self.add_role(role)),
            b"POLICY" => policy_roles(defn).iter().for_each(|role| self.add_role(role)),
            b"USER MAPPING" => mapped_role(defn).iter().for_each(|role| self.add_role(role)),
            b"SECURITY LABEL" => self.label_providers.extend(label_providers(defn)),
            b"COLLATION" => self.locales.extend(libc_locales(defn)),
            _ => {}
        }
        self.collations.extend(collations(defn));
    }
}

/// Of each `SECURITY LABEL FOR provider ON …`: an entry holds those of the columns, too.
fn label_providers(defn: &[u8]) -> Vec<String> {
    let words = words(defn);
    let starts = words
        .windows(4)
        .filter(|four| four[0].is("SECURITY") && four[1].is("LABEL") && four[2].is("FOR"));
    starts.filter_map(|four| four[3].role().and_then(text)).collect()
}

fn is_everywhere(locale: &str) -> bool {
    matches!(locale, "" | "C" | "POSIX")
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

/// A word of a statement; literals and punctuation are words as well.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// An unquoted word. What follows it decides whether it is a keyword: pg_dump quotes every name that is reserved.
    Bare(Vec<u8>),
    /// A quoted identifier, without its quotes.
    Quoted(Vec<u8>),
    /// A string literal, without its quotes.
    Literal(Vec<u8>),
    /// Any other byte that is not space.
    Mark(u8),
}

impl Word {
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Bare(word) if word.eq_ignore_ascii_case(keyword.as_bytes()))
    }

    /// The role this word names; none for PUBLIC.
    pub(super) fn role(&self) -> Option<&[u8]> {
        match self {
            Self::Bare(word) if word.eq_ignore_ascii_case(b"public") => None,
            Self::Bare(word) | Self::Quoted(word) => Some(word),
            Self::Literal(_) | Self::Mark(_) => None,
        }
    }
}

pub(super) fn words(mut text: &[u8]) -> Vec<Word> {
    let mut words = Vec::new();
    loop {
        text = text.trim_ascii_start();
        let Some(first) = text.first() else { return words };
        let (word, rest) = match (first, take_identifier(text)) {
            (b'\'', _) => take_literal(text),
            (b'"', Some((name, rest))) => (Word::Quoted(name), rest),
            (_, Some((name, rest))) => (Word::Bare(name), rest),
            (mark, None) => (Word::Mark(*mark), &text[1..]),
        };
        words.push(word);
        text = rest;
    }
}

/// A quote within a literal is doubled, which reads as two literals; that is exact enough for finding keywords.
fn take_literal(text: &[u8]) -> (Word, &[u8]) {
    let body = &text[1..];
    let end = body.iter().position(|byte| *byte == b'\'').unwrap_or(body.len());
    (Word::Literal(body[..end].to_vec()), body.get(end + 1..).unwrap_or_default())
}

/// `GRANT … TO r`, `REVOKE … FROM r`, `FOR ROLE r`, `SET SESSION AUTHORIZATION r`.
fn grantees(defn: &[u8]) -> Vec<Vec<u8>> {
    let words = words(defn);
    let named = words
        .windows(2)
        .filter(|pair| ["to", "from", "role", "authorization"].iter().any(|key| pair[0].is(key)));
    named.filter_map(|pair| pair[1].role().map(<[u8]>::to_vec)).collect()
}

/// `CREATE POLICY p ON t FOR SELECT TO a, b USING (…)`: the names between TO and USING or WITH.
fn policy_roles(defn: &[u8]) -> Vec<Vec<u8>> {
    let words = words(defn);
    let head = words.iter().take_while(|word| !word.is("using") && !word.is("with"));
    let listed = head.skip_while(|word| !word.is("to")).skip(1);
    listed.filter_map(|word| word.role().map(<[u8]>::to_vec)).collect()
}

/// `CREATE USER MAPPING FOR r SERVER s …`.
fn mapped_role(defn: &[u8]) -> Option<Vec<u8>> {
    let words = words(defn);
    let at = words.iter().position(|word| word.is("for"))?;
    words.get(at + 1)?.role().map(<[u8]>::to_vec)
}

/// `CREATE COLLATION c (provider = libc, locale = 'de_DE.utf8')`: the locales, unless the provider is another.
fn libc_locales(defn: &[u8]) -> Vec<String> {
    let words = words(defn);
    let other = words.iter().any(|word| word.is("icu") || word.is("builtin"));
    let named = words.iter().filter_map(|word| match word {
        Word::Literal(locale) if !other => text(locale),
        _ => None,
    });
    named.filter(|locale| !is_everywhere(locale)).collect()
}

/// `COLLATE pg_catalog."de_DE.utf8"`.
fn collations(defn: &[u8]) -> Vec<String> {
    const MARK: &[u8] = b"COLLATE pg_catalog.";
    let starts = defn.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK);
    let names = starts
        .filter_map(|(at, _)| take_identifier(&defn[at + MARK.len()..]))
        .filter_map(|(name, _)| text(&name));
    names.filter(|name| name != "default" && !is_everywhere(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(roles: &[Vec<u8>]) -> Vec<String> {
        roles.iter().map(|role| String::from_utf8_lossy(role).into_owned()).collect()
    }

    #[test]
    fn grants_name_their_roles_and_not_public() {
        let defn = b"REVOKE ALL ON TABLE public.t FROM alice;\nGRANT SELECT(a) ON TABLE public.\"to\" TO \"Odd Bob\";\n\
                     GRANT ALL ON TABLE public.t TO PUBLIC;\nSET SESSION AUTHORIZATION carol;\n\
                     REVOKE GRANT OPTION FOR SELECT ON TABLE t FROM dave;\n";
        assert_eq!(named(&grantees(defn)), ["alice", "Odd Bob", "carol", "dave"]);
        let default =
            b"ALTER DEFAULT PRIVILEGES FOR ROLE erin IN SCHEMA s GRANT SELECT ON TABLES  TO frank;";
        assert_eq!(named(&grantees(default)), ["erin", "frank"]);
    }

    #[test]
    fn policies_name_roles_before_their_expression() {
        let defn =
            b"CREATE POLICY p ON public.t FOR SELECT TO alice, \"B\" USING ((x = 'to eve'::text));";
        assert_eq!(named(&policy_roles(defn)), ["alice", "B"]);
        assert!(
            policy_roles(b"CREATE POLICY p ON public.t USING ((to_char(a) = 'x'));").is_empty()
        );
    }

    #[test]
    fn locales_and_collations_are_found_in_definitions() {
        let libc = b"CREATE COLLATION public.g (provider = libc, locale = 'de_DE.utf8');";
        assert_eq!(libc_locales(libc), ["de_DE.utf8"]);
        assert!(
            libc_locales(b"CREATE COLLATION public.g (provider = icu, locale = 'de');").is_empty()
        );
        let table = b"CREATE TABLE t (a text COLLATE pg_catalog.\"de_DE.utf8\", b text COLLATE pg_catalog.\"C\");";
        assert_eq!(collations(table), ["de_DE.utf8"]);
    }

    #[test]
    fn mapped_role_is_found() {
        assert_eq!(
            mapped_role(b"CREATE USER MAPPING FOR bob SERVER s OPTIONS (user 'x');"),
            Some(b"bob".to_vec())
        );
        assert_eq!(mapped_role(b"CREATE USER MAPPING FOR PUBLIC SERVER s;"), None);
    }
}
