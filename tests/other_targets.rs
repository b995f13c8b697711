//! A target that is not like the source: the same rows come back, wherever they belong there.

use crate::{
    harness::{Database, Installation, run, said},
    round_trip::interrupt,
};

const PARTITIONED: &str = "
    CREATE TABLE people (id int, name text, city text) PARTITION BY HASH (name);
    CREATE TABLE people_0 PARTITION OF people FOR VALUES WITH (MODULUS 3, REMAINDER 0);
    CREATE TABLE people_1 PARTITION OF people FOR VALUES WITH (MODULUS 3, REMAINDER 1);
    CREATE TABLE people_2 (city text, id int, name text);
    ALTER TABLE people ATTACH PARTITION people_2 FOR VALUES WITH (MODULUS 3, REMAINDER 2);
    INSERT INTO people SELECT i, 'Jürgen Müßig ' || i, E'Zürich\\t' || i FROM generate_series(1, 3000) i;

    CREATE TABLE words (id int, word text) PARTITION BY RANGE (word);
    CREATE TABLE words_low PARTITION OF words FOR VALUES FROM (MINVALUE) TO ('Z') PARTITION BY RANGE (id);
    CREATE TABLE words_low_old PARTITION OF words_low FOR VALUES FROM (MINVALUE) TO (1000);
    CREATE TABLE words_low_new PARTITION OF words_low FOR VALUES FROM (1000) TO (MAXVALUE);
    CREATE TABLE words_high PARTITION OF words FOR VALUES FROM ('Z') TO (MAXVALUE);
    INSERT INTO words SELECT i, CASE WHEN i % 2 = 0 THEN 'Wort ' ELSE 'wort ' END || i FROM generate_series(1, 3000) i;

    CREATE TABLE plain AS SELECT i AS id, 'Ärger ' || i AS note FROM generate_series(1, 500) i;";

#[test]
fn partitions_take_the_rows_that_belong_to_them_under_another_encoding_and_collation() {
    let source = Database::create("partitioned", PARTITIONED);
    let installation = Installation::create(&source);
    installation.backup();
    for (hint, made_with) in [
        ("latin1", "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"),
        ("icu", "ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'de' LOCALE 'C'"),
    ] {
        let target = Database::to_restore(hint);
        target.admin(&format!("CREATE DATABASE {} TEMPLATE template0 {made_with}", target.name));
        let url = target.url.as_str();
        let restore = ["restore", "latest", "--identity", "identity1", "--target", url];
        let restore = || {
            let output = run(&mut installation.reader(&restore));
            assert!(output.status.success(), "{}", said(&output));
            said(&output)
        };
        let told = restore();
        let family = if hint == "latin1" { "people" } else { "words" };
        let moved = format!("rows of public.{family}_");
        assert!(told.contains(&moved), "{told}");
        // What an interrupted one left is gone on with.
        interrupt(
            &installation,
            &target,
            "DELETE FROM people WHERE id % 7 = 0; DELETE FROM words_high WHERE id = 3",
        );
        restore();
        for rows in [
            "SELECT id, name, city FROM people ORDER BY id",
            "SELECT id, word FROM words ORDER BY id",
            "SELECT id, note FROM plain ORDER BY id",
        ] {
            assert!(source.query(rows) == target.query(rows), "{hint}: {rows}");
        }
        let places =
            format!("SELECT tableoid::regclass, count(*) FROM {family} GROUP BY 1 ORDER BY 1");
        assert_ne!(source.query(&places), target.query(&places), "{hint}: no row moved");
    }
}
