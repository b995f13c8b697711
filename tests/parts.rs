//! Restoring a part of a snapshot: a table, a schema, all but something, the schema without rows.

use std::process::Output;

use crate::{
    guard::at_a_terminal,
    harness::{Database, Installation, run, said},
};

const SHOP: &str = "
CREATE SCHEMA shop; CREATE SCHEMA other;
CREATE TYPE shop.mood AS ENUM ('good', 'bad');
CREATE FUNCTION shop.stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TABLE shop.customers (id int PRIMARY KEY, name text); INSERT INTO shop.customers SELECT i, 'c' || i FROM generate_series(1, 100) i;
CREATE TABLE shop.orders (id serial PRIMARY KEY, no int GENERATED ALWAYS AS IDENTITY, customer int REFERENCES shop.customers, mood shop.mood, at date DEFAULT '2026-01-01');
INSERT INTO shop.orders (customer, mood) SELECT i, 'bad' FROM generate_series(1, 100) i;
CREATE INDEX orders_at ON shop.orders (at); CREATE TRIGGER stamp BEFORE INSERT ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.stamp();
COMMENT ON TABLE shop.orders IS 'what was ordered';
CREATE VIEW shop.both AS SELECT o.id, name FROM shop.orders o JOIN shop.customers c ON c.id = customer;
CREATE TABLE other.log (at date, t text) PARTITION BY RANGE (at); CREATE INDEX ON other.log (at);
CREATE TABLE other.log_25 PARTITION OF other.log FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE other.log_26 PARTITION OF other.log FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO other.log SELECT date '2025-07-01' + i, 'l' || i FROM generate_series(1, 300) i;
CREATE MATERIALIZED VIEW other.sums AS SELECT count(*) FROM other.log;
CREATE TABLE houses (id int PRIMARY KEY); INSERT INTO houses SELECT generate_series(1, 30);
CREATE TABLE rooms (house int REFERENCES houses); INSERT INTO rooms SELECT id FROM houses;
SELECT lo_from_bytea(77, 'large');";

fn restore(installation: &Installation, target: &Database, part: &[&str]) -> Output {
    let whole = ["restore", "latest", "--identity", "identity1", "--target", &target.url];
    run(&mut installation.reader(&[&whole, part].concat()))
}

/// What there is in the database, each with its rows.
fn contents(database: &Database) -> String {
    let relations = database.query(
        "SELECT c.oid::regclass, relkind FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname IN ('shop', 'other') ORDER BY 1",
    );
    let rows = database.rows().into_iter().filter(|line| !line.trim().is_empty());
    format!("{relations}\n{}", rows.collect::<Vec<_>>().join(""))
}

#[test]
fn a_part_of_a_snapshot_comes_back_with_what_it_needs() {
    let source = Database::create("shop", SHOP);
    let installation = Installation::create(&source);
    installation.backup();
    let part = |args: &[&str]| {
        let target = Database::to_restore("part");
        let output = restore(&installation, &target, args);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        (target, said(&output))
    };

    let (orders, told) = part(&["--table", "shop.orders"]);
    assert_eq!(orders.query("SELECT count(*) FROM shop.orders WHERE mood = 'bad'").trim(), "100");
    assert!(told.contains("orders_customer_fkey") && told.contains("left out"), "{told}");
    let there = contents(&orders);
    for name in ["shop.orders|r", "shop.orders_at|i", "shop.orders_pkey|i", "shop.orders_id_seq|S"]
    {
        assert!(there.contains(name), "{name} is not in {there}");
    }
    assert!(!there.contains("customers") && !there.contains("other"), "{there}");
    let next = "INSERT INTO shop.orders (mood) VALUES ('good') RETURNING id, no";
    assert!(orders.query(next).starts_with("101|101"), "sequences go on");
    assert_eq!(orders.query("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal").trim(), "1");

    let (both, told) = part(&["--table", "orders", "--table", "customers", "--table", "both"]);
    assert!(!told.contains("left out"), "{told}");
    assert_eq!(both.query("SELECT count(*) FROM shop.both").trim(), "100");

    let (log, _) = part(&["--table", "other.log"]);
    assert_eq!(log.query("SELECT count(*) FROM other.log").trim(), "300");
    assert!(contents(&log).contains("other.log_26_at_idx"));

    let (schema, _) = part(&["--schema", "other"]);
    assert_eq!(schema.query("SELECT * FROM other.sums").trim(), "300");
    assert!(!contents(&schema).contains("shop"));

    let (without, told) = part(&["--exclude-table", "shop.customers", "--exclude-schema", "other"]);
    assert!(told.contains("view shop.both is left out"), "{told}");
    let there = contents(&without);
    assert!(there.contains("shop.orders|r") && !there.contains("log"), "{there}");
    assert_eq!(without.query("SELECT lo_get(77)").trim(), "\\x6c61726765");

    let (empty, _) = part(&["--schema-only"]);
    assert_eq!(empty.query("SELECT count(*) FROM shop.orders").trim(), "0");
    assert_eq!(empty.query("SELECT count(*) FROM pg_largeobject_metadata").trim(), "0");
    let names = |database: &Database| {
        let there = contents(database);
        let relations = there.lines().filter(|line| line.matches('|').count() == 1);
        relations
            .filter(|line| !line.starts_with("77"))
            .map(str::to_owned)
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(names(&empty), names(&source));

    let nowhere = Database::to_restore("part");
    let output = restore(&installation, &nowhere, &["--table", "shop.order"]);
    assert_eq!(output.status.code(), Some(64), "{}", said(&output));
    assert!(said(&output).contains("has no table shop.order"), "{}", said(&output));
}

#[test]
fn rows_alone_go_into_empty_tables_that_are_there_when_a_person_says_so() {
    let source = Database::create("rows", SHOP);
    let installation = Installation::create(&source);
    installation.backup();
    let refused = |target: &Database, part: &[&str], words: &str| {
        let output = restore(&installation, target, part);
        assert_eq!(output.status.code(), Some(73), "{}", said(&output));
        assert!(said(&output).contains(words), "{words}: {}", said(&output));
    };
    let nowhere = Database::to_restore("rows");
    refused(&nowhere, &["--data-only"], "it does not exist");

    let target = Database::to_restore("rows");
    let output = restore(&installation, &target, &["--schema-only"]);
    assert!(output.status.success(), "{}", said(&output));
    let part = ["--data-only", "--table", "shop.orders"];
    refused(&target, &part, "orders_customer_fkey of shop.orders references shop.customers");
    refused(&target, &["--data-only"], "takes a person");
    target.query("ALTER TABLE shop.orders DROP COLUMN at; INSERT INTO shop.customers VALUES (1)");
    refused(&target, &["--data-only"], "table shop.orders has no column at");
    refused(&target, &["--data-only"], "table shop.customers is not empty");

    let target = Database::to_restore("rows");
    let output = restore(&installation, &target, &["--schema-only"]);
    assert!(output.status.success(), "{}", said(&output));
    target.query("ALTER TABLE rooms ADD again int REFERENCES houses");
    refused(
        &target,
        &["--data-only"],
        "rooms_again_fkey of public.rooms is a key that the snapshot has not",
    );
    target.query("ALTER TABLE rooms DROP COLUMN again; SELECT lo_create(5)");
    refused(&target, &["--data-only"], "it holds large objects");
    refused(&target, &["--data-only", "--table", "shop.customers"], "takes a person");
    target.query(
        "SELECT lo_unlink(5); CREATE TABLE other.fired (n int); CREATE FUNCTION other.fire() RETURNS trigger LANGUAGE plpgsql
         AS $$ BEGIN INSERT INTO other.fired VALUES (1); RETURN NEW; END $$;
         CREATE TRIGGER fire AFTER INSERT ON shop.orders FOR EACH ROW EXECUTE FUNCTION other.fire()",
    );
    let words = ["restore", "latest", "--identity", "identity1", "--data-only", "--target"];
    let words = [&words[..], &[&target.url]].concat();
    let (code, shown) = at_a_terminal(&installation.reader(&words), &target.name);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("6 of its tables, which are empty, will be filled"), "{shown}");
    let fired = target.query("SELECT count(*) FROM other.fired");
    assert_eq!(fired.trim(), "0", "triggers are the source's business");
    target.query("DROP TABLE other.fired; DROP FUNCTION other.fire CASCADE");
    assert_eq!(target.rows(), source.rows());
    assert_eq!(target.query("SELECT lo_get(77)").trim(), "\\x6c61726765");
    let next = "INSERT INTO shop.orders (mood) VALUES ('good') RETURNING id, no";
    assert_eq!(target.query(next), source.query(next));
}

#[test]
fn a_plan_says_what_would_happen_and_changes_nothing() {
    let source = Database::create("planned", SHOP);
    let installation = Installation::create(&source);
    installation.backup();
    let target = Database::to_restore("planned");
    let output = restore(&installation, &target, &["--plan", "--table", "shop.orders"]);
    assert!(output.status.success(), "{}", said(&output));
    let plan = String::from_utf8_lossy(&output.stdout);
    for words in [target.name.as_str(), "1 table", "100 rows", "orders_customer_fkey"] {
        assert!(plan.contains(words), "{words:?} is not in {plan}");
    }
    let databases = target.admin("SELECT datname FROM pg_database");
    assert!(!databases.contains(&target.name), "{databases}");
}

#[test]
fn roles_that_the_server_lacks_are_made_when_asked_for() {
    let source = Database::create("roled", "CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
    let (owner, member) = (format!("{}_Owner", source.name), format!("{}_member", source.name));
    source.admin(&format!("CREATE ROLE \"{owner}\" NOLOGIN CONNECTION LIMIT 7"));
    source.admin(&format!("CREATE ROLE {member} LOGIN PASSWORD 'se''cret' IN ROLE \"{owner}\""));
    source.admin(&format!("ALTER ROLE {member} SET search_path = shop, public"));
    source.query(&format!("ALTER TABLE t OWNER TO \"{owner}\"; GRANT SELECT ON t TO {member}"));
    let installation = Installation::create(&source);
    installation.backup();
    let target = Database::to_restore("roled");
    let output = restore(&installation, &target, &[]);
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    assert!(said(&output).contains("--create-roles"), "{}", said(&output));
    let plan = restore(&installation, &target, &["--create-roles", "--plan"]);
    assert!(String::from_utf8_lossy(&plan.stdout).contains(&format!("role {member} is made")));

    let output = restore(&installation, &target, &["--create-roles"]);
    assert!(output.status.success(), "{}", said(&output));
    let roles = format!(
        "SELECT r.rolname, r.rolcanlogin, r.rolconnlimit, a.rolpassword, r.rolconfig, \
         ARRAY(SELECT m.roleid::regrole FROM pg_auth_members m WHERE m.member = r.oid) \
         FROM pg_roles r JOIN pg_authid a USING (rolname) WHERE rolname IN ('{owner}', '{member}') ORDER BY 1"
    );
    assert_eq!(source.admin(&roles), target.admin(&roles));
    assert_eq!(
        target.query("SELECT relowner::regrole FROM pg_class WHERE relname = 't'").trim(),
        format!("\"{owner}\"")
    );
    for database in [&source, &target] {
        database.query(&format!("ALTER TABLE t OWNER TO postgres; REVOKE ALL ON t FROM {member}"));
        database.admin(&format!("DROP ROLE {member}, \"{owner}\""));
    }
}
