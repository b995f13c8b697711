//! A genuine pg_dump archive through the three passes and our own loading, against a real server.
//!
//! Equality is checked by pg_dump's own text of both sides and by queries written here.

mod load_harness;

use std::collections::BTreeMap;

use load_harness::{Restored, Scratch, restore};
use stonekeep_format::{
    catalog::DatabaseProperties,
    digest::{RowDigest, RowDigestKey},
};
use stonekeep_postgres::{
    compare::{Comparer, archive_sequences},
    load::{CopyStatement, LoadError, Loader, PassOptions, Step, steps},
    properties::PropertyOptions,
    target::{self, DatabaseState, Mark, Missing, Phase},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_ordinary_object_comes_back_equal() {
    let scratch = Scratch::new("ordinary").await;
    scratch.run_sql(include_str!("data/ordinary.sql"));
    scratch.run_sql(include_str!("data/hostile.sql"));
    let restored = restore(&scratch, &PassOptions::default()).await.expect("a restore");
    restored.assert_same_text();
    assert_same_rows(&scratch, &restored).await;
    assert_same_digests(&scratch, &restored).await;
    let tolerated: Vec<String> = restored.tolerated.iter().map(ToString::to_string).collect();
    assert!(tolerated.is_empty(), "{tolerated:?}");
    assert_eq!(restored.untold, Vec::<String>::new());
}

/// Counts and sorted text of every table, by SQL alone.
async fn assert_same_rows(scratch: &Scratch, restored: &Restored) {
    // Partitions by hash of an enum as one, for their rows may change places.
    let tables = "SELECT CASE c.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END || format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                  WHERE c.relkind IN ('r', 'm', 'p') AND c.relname !~ '^hashed_' AND c.relispopulated AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1";
    let (ours, theirs) = (restored.client().await, scratch.client().await);
    let names: Vec<String> =
        theirs.query(tables, &[]).await.expect("tables").iter().map(|row| row.get(0)).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        let rows = format!(
            "SELECT count(*), md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM {name} t"
        );
        let read = async |client: &tokio_postgres::Client| -> (i64, Option<String>) {
            let row = client.query_one(&rows, &[]).await.expect("a table");
            (row.get(0), row.get(1))
        };
        assert_eq!(read(&ours).await, read(&theirs).await, "{name}");
    }
    let objects = "SELECT md5(string_agg(oid || ':' || md5(lo_get(oid)), ',' ORDER BY oid)) FROM pg_largeobject_metadata";
    let read = async |client: &tokio_postgres::Client| -> Option<String> {
        client.query_one(objects, &[]).await.expect("large objects").get(0)
    };
    let large = read(&theirs).await;
    assert!(large.is_some());
    assert_eq!(read(&ours).await, large);
}

async fn assert_same_digests(scratch: &Scratch, restored: &Restored) {
    let key = RowDigestKey::from_bytes([7; 32]);
    let pins = scratch.pins().await;
    let mut ours =
        Comparer::connect(&restored.target, &restored.archive, &pins).await.expect("a session");
    let mut theirs =
        Comparer::connect(&scratch.source, &restored.archive, &pins).await.expect("a session");
    let mut digests: BTreeMap<Vec<u8>, [RowDigest; 2]> = BTreeMap::new();
    for entry in restored.archive.entries.iter().filter(|entry| entry.is_table_data()) {
        let table = CopyStatement::of(entry).expect("a COPY");
        let [left, right] = digests.entry(table.loaded_into().to_vec()).or_default();
        *left = left.merge(ours.digest_table(&table, None, &key).await.expect("rows"));
        *right = right.merge(theirs.digest_table(&table, None, &key).await.expect("their rows"));
    }
    for (name, [left, right]) in &digests {
        assert_eq!(left, right, "{}", String::from_utf8_lossy(name));
    }
    assert_eq!(digests.get(&b"shop.hashed"[..]).map(|[ours, _]| ours.rows), Some(90));
    let large = theirs.digest_large_objects(&key).await.expect("large objects of the source");
    assert_eq!((large.objects, large.bytes), (4, 305_017));
    assert_eq!(ours.digest_large_objects(&key).await.expect("large objects"), large);
    let mut set = archive_sequences(&restored.archive);
    let mut values = ours.sequence_values().await.expect("sequences");
    set.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    values.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    assert!(values.iter().any(|value| !value.is_called && value.last_value == 42), "{values:?}");
    assert_eq!(values, set);
    let states = ours.object_states().await.expect("states");
    assert_eq!(states.unvalidated_constraints.len(), 3, "{states:?}");
    assert_eq!(states.unpopulated_views, ["shop.unpopulated"]);
    assert_eq!(states, theirs.object_states().await.expect("states of the source"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_hostile_to_rows_do_not_reach_them() {
    let scratch = Scratch::new("pinned").await;
    scratch.run_sql(include_str!("data/ordinary.sql"));
    scratch.run_sql(include_str!("data/hostile.sql"));
    // The database being loaded has them from the beginning.
    scratch.make_target_hostile();
    let restored = restore(&scratch, &PassOptions::default()).await.expect("a restore");
    restored.assert_same_text();
    assert_same_rows(&scratch, &restored).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owner_without_the_right_to_insert_restores_his_own_table() {
    let mut scratch = Scratch::new("plain").await;
    scratch.run_sql(
        "CREATE TABLE public.mine (a integer); INSERT INTO public.mine SELECT generate_series(1, 100); \
         ALTER TABLE public.mine OWNER TO sk_plain; REVOKE INSERT ON public.mine FROM sk_plain; \
         ALTER SCHEMA public OWNER TO sk_plain; ALTER DATABASE :\"DBNAME\" OWNER TO sk_plain;",
    );
    scratch.become_role("sk_plain");
    let restored = restore(&scratch, &PassOptions::default()).await.expect("a restore");
    let ours = restored.client().await;
    let row = ours
        .query_one(
            "SELECT count(*), has_table_privilege('public.mine', 'INSERT') FROM public.mine",
            &[],
        )
        .await;
    let row = row.expect("a count");
    assert_eq!((row.get::<_, i64>(0), row.get::<_, bool>(1)), (100, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn database_in_latin1_with_names_outside_ascii_comes_back() {
    let scratch = Scratch::with_encoding("latin", "LATIN1").await;
    scratch.run_sql(
        "SET client_encoding TO 'UTF8'; CREATE TABLE \"café\" (\"größe\" text); INSERT INTO \"café\" VALUES ('naïve'), ('Ünder');",
    );
    let restored = restore(&scratch, &PassOptions::default()).await.expect("a restore");
    restored.assert_same_text();
    let row = restored
        .client()
        .await
        .query_one("SELECT max(\"größe\"), pg_client_encoding() FROM \"café\"", &[])
        .await;
    assert_eq!(row.expect("a row").get::<_, &str>(0), "Ünder");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_of_no_encoding_come_back_in_sql_ascii() {
    let scratch = Scratch::with_encoding("ascii", "SQL_ASCII").await;
    scratch.run_sql("SET client_encoding TO 'SQL_ASCII'; CREATE TABLE odd (a text); INSERT INTO odd VALUES (E'caf\\xe9 \\xff'), ('plain');");
    let restored = restore(&scratch, &PassOptions::default()).await.expect("a restore");
    let hex =
        "SELECT string_agg(encode(convert_to(a, 'SQL_ASCII'), 'hex'), ',' ORDER BY a) FROM odd";
    let row = restored.client().await.query_one(hex, &[]).await.expect("a row");
    assert!(row.get::<_, &str>(0).contains("636166e920ff"), "{row:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_entry_of_a_real_archive_has_one_step() {
    let scratch = Scratch::new("steps").await;
    scratch.run_sql(include_str!("data/ordinary.sql"));
    let archive = scratch.dump();
    let steps = steps(&archive);
    assert_eq!(steps.len(), archive.entries.len());
    for (entry, step) in archive.entries.iter().zip(&steps) {
        let (desc, tag) =
            (entry.desc.clone().unwrap_or_default(), entry.tag.clone().unwrap_or_default());
        let (desc, tag) = (String::from_utf8_lossy(&desc), String::from_utf8_lossy(&tag));
        let wanted = match desc.as_ref() {
            "ENCODING" | "STDSTRINGS" | "SEARCHPATH" => Step::Setting,
            "TABLE DATA" | "BLOBS" | "BLOB" => Step::Content,
            "SEQUENCE SET" => Step::AfterData,
            "COMMENT" if tag.contains("LARGE OBJECT") => Step::AfterData,
            "COMMENT" if tag.contains("INDEX") || tag.contains("CONSTRAINT") => Step::Rest,
            _ if tag.starts_with("DATABASE ") || desc.starts_with("DATABASE") => Step::Database,
            "ACL"
            | "DEFAULT ACL"
            | "MATERIALIZED VIEW DATA"
            | "EVENT TRIGGER"
            | "POLICY"
            | "TRIGGER"
            | "RULE"
            | "INDEX" => Step::Rest,
            "TABLE" | "COMMENT" | "SCHEMA" | "FUNCTION" | "TYPE" | "DOMAIN" | "VIEW"
            | "SEQUENCE" => Step::Schema,
            _ => continue,
        };
        assert_eq!(*step, wanted, "{desc} {tag}");
    }
}

#[tokio::test]
async fn refused_row_is_told_by_line_and_never_quoted() {
    let scratch = Scratch::new("quote").await;
    scratch.run_sql("CREATE TABLE t (a integer); CREATE TABLE u (a integer CHECK (a > 0))");
    let archive = scratch.dump();
    let mut loader =
        Loader::connect(&scratch.source, &archive, &scratch.pins().await).await.expect("a session");
    for (name, rows, state) in [("t", "1\nsecret\n", "22P02"), ("u", "1\n2\n-4711\n", "23514")] {
        let entry = archive
            .entries
            .iter()
            .find(|entry| entry.is_table_data() && entry.tag.as_deref() == Some(name.as_bytes()));
        let table = CopyStatement::of(entry.expect("an entry")).expect("a COPY");
        let mut copy = loader.copy_in(&table).await.expect("a COPY");
        copy.send(bytes::Bytes::from_static(rows.as_bytes())).await.expect("sent");
        let error = copy.finish().await.expect_err("a refusal");
        let told = format!("{error} {error:?}");
        assert!(
            told.contains(state)
                && told.contains("line ")
                && told.contains(&format!("public.{name}")),
            "{told}"
        );
        assert!(!told.contains("secret") && !told.contains("4711"), "{told}");
        assert_eq!(scratch.count(name).await, 0);
    }
}

#[tokio::test]
async fn rows_are_kept_only_by_finish() {
    let scratch = Scratch::new("abandon").await;
    scratch.run_sql("CREATE TABLE t (a integer)");
    let archive = scratch.dump();
    let mut loader =
        Loader::connect(&scratch.source, &archive, &scratch.pins().await).await.expect("a session");
    let entry = archive.entries.iter().find(|entry| entry.is_table_data()).expect("an entry");
    let table = CopyStatement::of(entry).expect("a COPY");
    let mut copy = loader.copy_in(&table).await.expect("a COPY");
    copy.send(bytes::Bytes::from("1\n".repeat(1_000_000))).await.expect("sent");
    drop(copy);
    // The same session goes on: what was dropped is rolled back by then.
    let mut copy = loader.copy_in(&table).await.expect("a second COPY");
    copy.send(bytes::Bytes::from_static(b"7\n8\n")).await.expect("sent");
    assert_eq!(copy.finish().await.expect("a count"), 2);
    assert_eq!(scratch.count("t").await, 2);
}

#[tokio::test]
async fn only_a_marked_database_is_emptied() {
    let scratch = Scratch::new("empty").await;
    scratch.run_sql("CREATE TABLE t (a integer); INSERT INTO t VALUES (1)");
    let archive = scratch.dump();
    let mut loader =
        Loader::connect(&scratch.source, &archive, &scratch.pins().await).await.expect("a session");
    let entry = archive.entries.iter().find(|entry| entry.is_table_data()).expect("an entry");
    let table = CopyStatement::of(entry).expect("a COPY");
    let error = loader.empty(&table).await.expect_err("no mark");
    assert!(matches!(error, LoadError::NotOurs { .. }), "{error}");
    assert_eq!(scratch.count("t").await, 1);
    let mark = Mark { snapshot: scratch.snapshot(), phase: Phase::Rows, drill: None };
    target::mark_database(&scratch.source, &scratch.source.database, &mark).await.expect("a mark");
    loader.empty(&table).await.expect("emptied");
    assert_eq!(scratch.count("t").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_pass_fails_the_restore_and_quotes_no_key() {
    let scratch = Scratch::new("duplicate").await;
    scratch.run_sql(
        "CREATE TABLE t (mail text PRIMARY KEY); INSERT INTO t VALUES ('secret@example.com')",
    );
    scratch.load_rows_twice();
    let error = restore(&scratch, &PassOptions::default()).await.err().expect("a failure");
    let told = format!("{error} {error:?}");
    assert!(told.contains("could not create unique index \"t_pkey\" (entry "), "{told}");
    assert!(!told.contains("secret"), "{told}");
    assert!(matches!(error, LoadError::Restore { count: 1, .. }), "{told}");
}

#[tokio::test]
async fn what_is_missing_is_listed_before_anything_changes() {
    let scratch = Scratch::new("missing").await;
    scratch.run_sql(
        "CREATE TABLE t (a integer); ALTER TABLE t OWNER TO sk_owner; ALTER TABLE t ENABLE ROW LEVEL SECURITY; \
         GRANT SELECT ON t TO \"sk Odd\"; CREATE POLICY p ON t TO sk_plain USING (true);",
    );
    let mut archive = scratch.dump();
    let extension = archive
        .entries
        .iter()
        .find(|entry| entry.desc.as_deref() == Some(b"TABLE"))
        .expect("a table")
        .clone();
    archive.entries.push(stonekeep_format::archive::Entry {
        desc: Some(b"EXTENSION".to_vec()),
        tag: Some(b"sk_no_such".to_vec()),
        tablespace: Some(b"fast".to_vec()),
        ..extension
    });
    let mut info = target::inspect(&scratch.source).await.expect("a target");
    assert!(info.superuser && info.system_identifier.is_some());
    assert!(
        matches!(info.database, DatabaseState::Occupied { relations: 1, .. }),
        "{:?}",
        info.database
    );
    info.roles.retain(|role| !role.starts_with("sk"));
    let properties =
        DatabaseProperties { collate: "xx_XX.UTF-8".to_owned(), ..DatabaseProperties::default() };
    let missing =
        target::missing_for(&scratch.source, &info, &archive, &properties).await.expect("a list");
    let wanted = Missing {
        label_providers: Vec::new(),
        roles: ["sk Odd", "sk_owner", "sk_plain"].map(str::to_owned).to_vec(),
        extensions: vec!["sk_no_such".to_owned()],
        tablespaces: vec!["fast".to_owned()],
        locales: vec!["xx_XX.UTF-8".to_owned()],
        collations: vec![],
    };
    assert_eq!(missing, wanted);
}

#[tokio::test]
async fn database_is_absent_then_empty_then_occupied() {
    let scratch = Scratch::new("states").await;
    let absent = scratch.source.with_database("sk_load_no_such_database");
    assert_eq!(target::inspect(&absent).await.expect("a target").database, DatabaseState::Absent);
    assert_eq!(
        target::database_state(&scratch.source).await.expect("a state"),
        DatabaseState::Empty { mark: None }
    );
    let mark = Mark { snapshot: scratch.snapshot(), phase: Phase::Schema, drill: None };
    target::mark_database(&scratch.source, &scratch.source.database, &mark).await.expect("a mark");
    let empty = DatabaseState::Empty { mark: Some(mark.clone()) };
    assert_eq!(target::database_state(&scratch.source).await.expect("a state"), empty);
    scratch
        .run_sql("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; SELECT lo_create(0)");
    let state = target::database_state(&scratch.source).await.expect("a state");
    let occupied =
        DatabaseState::Occupied { relations: 0, rows_estimate: 0, others: 2, mark: Some(mark) };
    assert_eq!(state, occupied);
}

#[tokio::test]
async fn database_that_exists_is_never_created_or_renamed_over() {
    let scratch = Scratch::new("conflict").await;
    let mark = Mark { snapshot: scratch.snapshot(), phase: Phase::Schema, drill: None };
    let (name, like) = (&scratch.source.database, DatabaseProperties::default());
    let error =
        target::create_database(&scratch.source, name, &like, &mark).await.expect_err("it exists");
    assert_eq!(error.kind(), stonekeep_format::ErrorKind::Conflict, "{error}");
    let error =
        target::rename_database(&scratch.source, "template1", name).await.expect_err("it exists");
    assert_eq!(error.kind(), stonekeep_format::ErrorKind::Conflict, "{error}");
}

#[tokio::test]
async fn rights_given_by_another_role_come_back() {
    let scratch = Scratch::new("rights").await;
    scratch.run_sql(
        "GRANT CREATE ON DATABASE :\"DBNAME\" TO \"sk Odd\" WITH GRANT OPTION; SET ROLE \"sk Odd\"; \
         GRANT CREATE ON DATABASE :\"DBNAME\" TO sk_owner;",
    );
    let properties = stonekeep_postgres::properties::read_properties(&scratch.client().await)
        .await
        .expect("properties");
    let other = scratch.another_database().await;
    let roles = target::inspect(&scratch.source).await.expect("a target").roles;
    let options = PropertyOptions { roles, ..PropertyOptions::default() };
    let untold =
        target::apply_database_properties(&scratch.source, &other.database, &properties, &options)
            .await;
    assert_eq!(untold.expect("applied"), Vec::<String>::new());
    let restored =
        stonekeep_postgres::properties::read_properties(&scratch.client_of(&other).await)
            .await
            .expect("properties");
    assert_eq!(restored, DatabaseProperties { name: other.database.as_str().into(), ..properties });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_ended_amid_a_copy_is_an_error_and_keeps_nothing() {
    let scratch = Scratch::new("ended").await;
    scratch.run_sql("CREATE TABLE t (a integer)");
    let archive = scratch.dump();
    let pins = scratch.pins().await;
    let mut loader = Loader::connect(&scratch.source, &archive, &pins).await.expect("a session");
    let entry = archive.entries.iter().find(|entry| entry.is_table_data()).expect("an entry");
    let table = CopyStatement::of(entry).expect("a COPY");
    let mut copy = loader.copy_in(&table).await.expect("a COPY");
    let rows = bytes::Bytes::from("1\n".repeat(100_000));
    copy.send(rows.clone()).await.expect("sent");
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE datname = current_database() AND query LIKE 'COPY%'";
    let ended = scratch.client().await.query_one(end, &[]).await.expect("an answer");
    assert_eq!(ended.get::<_, i64>(0), 1);
    let mut result = Ok(());
    for _ in 0..1000 {
        result = copy.send(rows.clone()).await;
        if result.is_err() {
            break;
        }
    }
    let error = match result {
        Err(error) => error,
        Ok(()) => copy.finish().await.expect_err("the session is gone"),
    };
    assert_eq!(error.kind(), stonekeep_format::ErrorKind::Unavailable, "{error:?}");
    assert_eq!(scratch.count("t").await, 0);
}
