//! What a database has beyond its contents: encoding and locale, limit, comment, rights, settings.
//!
//! pg_dump's archive carries these only for `pg_restore -C`, which insists on the original name; so they are read into the
//! catalog and written again here, both in one file. Reading is one query in the exported snapshot; writing is a list of
//! statements that changes the named database only and drops nothing.

use stonekeep_format::catalog::{DatabaseProperties, Text};
use tokio_postgres::Client;

use crate::{
    refusal::Refusal,
    sql::{identifier, literal},
};

/// Reads the properties of the database `client` is connected to.
///
/// Texts come as UTF-8 whatever the session's `client_encoding`, since the names of databases and roles belong to the whole
/// cluster; only from a database in SQL_ASCII, whose bytes have no meaning, do they come as they are.
///
/// # Errors
/// The server's refusal; it can hold no row.
pub async fn read_properties(client: &Client) -> Result<DatabaseProperties, Refusal> {
    let told = |error: tokio_postgres::Error| Refusal::told(&error);
    let version = client
        .query_one("SELECT current_setting('server_version_num')::int4", &[])
        .await
        .map_err(told)?;
    let row = client.query_one(&database_query(version.get(0)), &[]).await.map_err(told)?;
    let settings = client.query(&settings_query(), &[]).await.map_err(told)?;
    let text = |column: usize| row.get::<_, Option<Vec<u8>>>(column).map(Text);
    let ascii = |column: usize| text(column).map(|text| text.to_string());
    Ok(DatabaseProperties {
        name: text(0).unwrap_or_default(),
        owner: text(1).unwrap_or_default(),
        encoding: ascii(2).unwrap_or_default(),
        collate: ascii(3).unwrap_or_default(),
        ctype: ascii(4).unwrap_or_default(),
        provider: ascii(5),
        locale: ascii(6),
        icu_rules: ascii(7),
        collation_version: ascii(8),
        connection_limit: row.get(9),
        is_template: row.get(10),
        comment: text(11),
        acl: row.get::<_, Option<Vec<Vec<u8>>>>(12).map(texts),
        settings: settings
            .iter()
            .map(|row| (row.get::<_, Option<Vec<u8>>>(0).map(Text), texts(row.get(1))))
            .collect(),
    })
}

fn texts(bytes: Vec<Vec<u8>>) -> Vec<Text> {
    bytes.into_iter().map(Text).collect()
}

/// An expression for the bytes of a text: UTF-8, or as they are in SQL_ASCII.
fn bytes_of(expression: &str) -> String {
    format!(
        "pg_catalog.convert_to(({expression})::text, \
         CASE pg_catalog.getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END)"
    )
}

/// Columns that came with a later major version read as NULL before it.
fn database_query(version: i32) -> String {
    let since = |first: i32, column: &'static str| if version >= first { column } else { "NULL" };
    let locale = if version >= 170_000 { "d.datlocale" } else { since(150_000, "d.daticulocale") };
    let columns = [
        "d.datname",
        "pg_catalog.pg_get_userbyid(d.datdba)",
        "pg_catalog.pg_encoding_to_char(d.encoding)",
        "d.datcollate",
        "d.datctype",
        since(150_000, "d.datlocprovider"),
        locale,
        since(160_000, "d.daticurules"),
        since(150_000, "d.datcollversion"),
    ]
    .map(bytes_of)
    .join(", ");
    format!(
        "SELECT {columns}, d.datconnlimit, d.datistemplate, {comment}, \
         CASE WHEN d.datacl IS NOT NULL THEN ARRAY(SELECT {item} FROM pg_catalog.unnest(d.datacl) AS a(item)) END \
         FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()",
        comment = bytes_of("pg_catalog.shobj_description(d.oid, 'pg_database')"),
        item = bytes_of("a.item"),
    )
}

fn settings_query() -> String {
    format!(
        "SELECT {role}, ARRAY(SELECT {item} FROM pg_catalog.unnest(s.setconfig) AS c(item)) \
         FROM pg_catalog.pg_db_role_setting s LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole \
         WHERE s.setdatabase = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) \
         AND (s.setrole = 0 OR r.oid IS NOT NULL) ORDER BY r.rolname NULLS FIRST",
        role = bytes_of("r.rolname"),
        item = bytes_of("c.item"),
    )
}

/// What of the properties is to be written, and for whom.
#[derive(Debug, Clone, Default)]
pub struct PropertyOptions {
    /// The target's roles: what is meant for any other role is left out and told.
    pub roles: Vec<String>,
    /// Leaves the owner as it is.
    pub no_owner: bool,
    /// Leaves the rights as they are.
    pub no_privileges: bool,
}

/// One statement, with words for the person who must be told that it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertyStatement {
    /// What it gives the database: `setting DateStyle`.
    pub what: String,
    /// The statement, in UTF-8.
    pub sql: String,
}

/// Returns the statements that give database `name` the properties, in an order that works, and what had to be left out
/// because its role is missing or its bytes are not UTF-8.
#[must_use]
pub fn property_statements(
    name: &str,
    properties: &DatabaseProperties,
    options: &PropertyOptions,
) -> (Vec<PropertyStatement>, Vec<String>) {
    let mut writer =
        Writer { database: identifier(name), options, out: Vec::new(), left_out: Vec::new() };
    writer.owner(properties);
    writer.limits(properties);
    for (role, settings) in &properties.settings {
        settings.iter().for_each(|setting| writer.setting(role.as_ref(), setting));
    }
    if let (Some(acl), false) = (&properties.acl, options.no_privileges) {
        writer.rights(acl, &properties.owner);
    }
    writer.comment(properties.comment.as_ref());
    (writer.out, writer.left_out)
}

struct Writer<'a> {
    database: String,
    options: &'a PropertyOptions,
    out: Vec<PropertyStatement>,
    left_out: Vec<String>,
}

impl Writer<'_> {
    fn push(&mut self, what: impl Into<String>, sql: String) {
        self.out.push(PropertyStatement { what: what.into(), sql });
    }

    fn role<'r>(&mut self, role: &'r Text, what: &str) -> Option<&'r str> {
        let found =
            role.as_utf8().filter(|role| self.options.roles.iter().any(|known| known == role));
        if found.is_none() {
            self.left_out.push(format!("{what}: there is no role {role} on the target"));
        }
        found
    }

    fn owner(&mut self, properties: &DatabaseProperties) {
        if self.options.no_owner {
            return;
        }
        if let Some(owner) = self.role(&properties.owner, "owner of the database") {
            self.push(
                "owner",
                format!("ALTER DATABASE {} OWNER TO {}", self.database, identifier(owner)),
            );
        }
    }

    fn limits(&mut self, properties: &DatabaseProperties) {
        if properties.connection_limit != -1 {
            let limit = properties.connection_limit;
            self.push(
                "connection limit",
                format!("ALTER DATABASE {} CONNECTION LIMIT {limit}", self.database),
            );
        }
        if properties.is_template {
            self.push(
                "template mark",
                format!("ALTER DATABASE {} IS_TEMPLATE true", self.database),
            );
        }
    }

    fn setting(&mut self, role: Option<&Text>, setting: &Text) {
        let Some((name, value)) = setting.as_utf8().and_then(|text| text.split_once('=')) else {
            self.left_out.push("a setting whose bytes are not UTF-8".to_owned());
            return;
        };
        let what = format!("setting {name}");
        let whose = match role {
            None => format!("ALTER DATABASE {}", self.database),
            Some(role) => match self.role(role, &what) {
                Some(role) => {
                    format!("ALTER ROLE {} IN DATABASE {}", identifier(role), self.database)
                }
                None => return,
            },
        };
        self.push(
            what,
            format!("{whose} SET {} TO {}", setting_name(name), setting_value(name, value)),
        );
    }

    /// The comment is always written, since a database being restored bears our mark in its place.
    fn comment(&mut self, comment: Option<&Text>) {
        let text = match comment.map(|comment| comment.as_utf8().ok_or(())) {
            None => "NULL".to_owned(),
            Some(Ok(text)) => literal(text),
            Some(Err(())) => {
                self.left_out.push("the comment, whose bytes are not UTF-8".to_owned());
                "NULL".to_owned()
            }
        };
        self.push("comment", format!("COMMENT ON DATABASE {} IS {text}", self.database));
    }

    fn rights(&mut self, acl: &[Text], owner: &Text) {
        self.push("rights", format!("REVOKE ALL ON DATABASE {} FROM PUBLIC", self.database));
        if let Some(owner) = self.role(owner, "rights of the owner") {
            self.push(
                "rights",
                format!("REVOKE ALL ON DATABASE {} FROM {}", self.database, identifier(owner)),
            );
        }
        for item in acl {
            match item.as_utf8().and_then(AclItem::parse) {
                Some(item) => self.grant(&item, owner),
                None => self.left_out.push(format!("a right that cannot be read: {item}")),
            }
        }
    }

    fn grant(&mut self, item: &AclItem, owner: &Text) {
        let grantee = match item.grantee.as_str() {
            "" => "PUBLIC".to_owned(),
            role => match self.role(&Text::from(role), "a right") {
                Some(role) => identifier(role),
                None => return,
            },
        };
        // Only the owner's grants, made as owner or superuser, need no change of who speaks.
        let speaks = if owner.as_utf8() == Some(&item.grantor) || self.options.no_owner {
            None
        } else {
            match self.role(&Text::from(item.grantor.as_str()), "a right given by another role") {
                Some(role) => Some(identifier(role)),
                None => return,
            }
        };
        for (privileges, option) in [(&item.plain, ""), (&item.grantable, " WITH GRANT OPTION")] {
            if !privileges.is_empty() {
                let grant = format!(
                    "GRANT {} ON DATABASE {} TO {grantee}{option}",
                    privileges.join(", "),
                    self.database
                );
                self.push("rights", spoken(speaks.as_deref(), &grant));
            }
        }
    }
}

fn spoken(role: Option<&str>, sql: &str) -> String {
    match role {
        None => sql.to_owned(),
        // One message is one transaction, so a refused GRANT takes the change of role back with it.
        Some(role) => {
            format!("SET LOCAL SESSION AUTHORIZATION {role}; {sql}; RESET SESSION AUTHORIZATION")
        }
    }
}

/// `name` or `extension.name`, each part quoted.
fn setting_name(name: &str) -> String {
    name.split('.').map(identifier).collect::<Vec<_>>().join(".")
}

/// The settings marked GUC_LIST_QUOTE in PostgreSQL: their stored value is a list of quoted names that SET takes as
/// separate texts. The same list as pg_dump's `variable_is_guc_list_quote` (PostgreSQL 10 to 18); an extension cannot add one.
const LIST_SETTINGS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

fn setting_value(name: &str, value: &str) -> String {
    if !LIST_SETTINGS.iter().any(|list| list.eq_ignore_ascii_case(name)) {
        return literal(value);
    }
    match split_list(value) {
        Some(names) if names.is_empty() => "''".to_owned(),
        Some(names) => names.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", "),
        None => literal(value),
    }
}

/// `"$user", public` → its names; none if it is not such a list. Like PostgreSQL's `SplitGUCList`: no folding of case.
fn split_list(value: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = value.trim_start();
    while !rest.is_empty() {
        let (name, after) = take_list_item(rest)?;
        names.push(name);
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(more) if !more.trim_start().is_empty() => rest = more.trim_start(),
            None if rest.is_empty() => {}
            _ => return None,
        }
    }
    Some(names)
}

fn take_list_item(text: &str) -> Option<(String, &str)> {
    if text.starts_with('"') {
        let (name, after) = crate::sql::take_identifier(text.as_bytes())?;
        return Some((String::from_utf8(name).ok()?, &text[text.len() - after.len()..]));
    }
    let end = text.find(|c: char| c == ',' || c.is_ascii_whitespace()).unwrap_or(text.len());
    (end > 0).then(|| (text[..end].to_owned(), &text[end..]))
}

/// One `aclitem` of a database: `grantee=CTc*/grantor`, an empty grantee being PUBLIC.
#[derive(Debug, PartialEq, Eq)]
struct AclItem {
    grantee: String,
    grantor: String,
    plain: Vec<&'static str>,
    grantable: Vec<&'static str>,
}

impl AclItem {
    fn parse(text: &str) -> Option<Self> {
        let (grantee, rest) =
            if text.starts_with('=') { (String::new(), text) } else { take_acl_name(text)? };
        let (letters, grantor) = rest.strip_prefix('=')?.split_once('/')?;
        let (grantor, "") = take_acl_name(grantor)? else { return None };
        let (mut plain, mut grantable) = (Vec::new(), Vec::new());
        let mut letters = letters.chars().peekable();
        while let Some(letter) = letters.next() {
            let privilege = match letter {
                'C' => "CREATE",
                'T' => "TEMPORARY",
                'c' => "CONNECT",
                _ => return None,
            };
            if letters.next_if_eq(&'*').is_some() {
                grantable.push(privilege);
            } else {
                plain.push(privilege);
            }
        }
        Some(Self { grantee, grantor, plain, grantable })
    }
}

/// PostgreSQL's `putid` leaves letters, digits and underscores bare (other bytes quoted, in newer versions also non-ASCII).
fn take_acl_name(text: &str) -> Option<(String, &str)> {
    let (name, after) = crate::sql::take_identifier(text.as_bytes())?;
    Some((String::from_utf8(name).ok()?, &text[text.len() - after.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(properties: &DatabaseProperties, roles: &[&str]) -> (Vec<String>, Vec<String>) {
        let roles = roles.iter().map(|&role| role.to_owned()).collect();
        let options = PropertyOptions { roles, ..PropertyOptions::default() };
        let (statements, left_out) = property_statements("d\"b", properties, &options);
        (statements.into_iter().map(|statement| statement.sql).collect(), left_out)
    }

    fn properties() -> DatabaseProperties {
        DatabaseProperties {
            owner: "boss".into(),
            connection_limit: -1,
            ..DatabaseProperties::default()
        }
    }

    #[test]
    fn list_settings_become_separate_texts() {
        assert_eq!(setting_value("search_path", "\"$user\", public"), "'$user', 'public'");
        assert_eq!(setting_value("search_path", "\"a, b\", \"Ä\"\"x\""), "'a, b', 'Ä\"x'");
        assert_eq!(setting_value("search_path", ""), "''");
        assert_eq!(setting_value("search_path", "\"\""), "''");
        assert_eq!(setting_value("DateStyle", "SQL, DMY"), "'SQL, DMY'");
        assert_eq!(setting_name("plperl.on_init"), "\"plperl\".\"on_init\"");
    }

    #[test]
    fn acl_items_are_read_with_quotes_and_grant_options() {
        let item = AclItem::parse("\"odd \"\"role\"=C*T/boss").expect("an aclitem");
        assert_eq!((item.grantee.as_str(), item.grantor.as_str()), ("odd \"role", "boss"));
        assert_eq!((item.plain, item.grantable), (vec!["TEMPORARY"], vec!["CREATE"]));
        assert_eq!(
            AclItem::parse("=Tc/boss").map(|item| item.plain),
            Some(vec!["TEMPORARY", "CONNECT"])
        );
        for bad in ["", "x", "a=c", "a=z/b", "a=c/b c", "\"a=c/b"] {
            assert_eq!(AclItem::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn settings_of_a_missing_role_are_left_out_and_told() {
        let settings = vec![
            (Some("ghost".into()), vec!["work_mem=1MB".into()]),
            (None, vec!["work_mem=2MB".into()]),
        ];
        let (sql, left_out) =
            statements(&DatabaseProperties { settings, ..properties() }, &["boss"]);
        assert!(
            sql.contains(&"ALTER DATABASE \"d\"\"b\" SET \"work_mem\" TO '2MB'".to_owned()),
            "{sql:?}"
        );
        assert!(!sql.iter().any(|sql| sql.contains("1MB")), "{sql:?}");
        assert_eq!(left_out, ["setting work_mem: there is no role ghost on the target"]);
    }

    #[test]
    fn nothing_is_ever_dropped() {
        let acl = Some(vec!["boss=CTc/boss".into(), "=c/boss".into()]);
        let full =
            DatabaseProperties { acl, is_template: true, connection_limit: 5, ..properties() };
        let (sql, _) = statements(&full, &["boss"]);
        assert!(sql.iter().all(|sql| !sql.contains("DROP")), "{sql:?}");
        assert!(sql.iter().any(|sql| sql == "COMMENT ON DATABASE \"d\"\"b\" IS NULL"));
    }
}
