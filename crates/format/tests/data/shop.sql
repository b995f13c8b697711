CREATE SCHEMA "odd ""schema"" \ ünïcode";
COMMENT ON SCHEMA "odd ""schema"" \ ünïcode" IS 'line one
line two; DROP TABLE x; -- ''quoted''';
CREATE TABLE plain (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, note text);
INSERT INTO plain (name, note) SELECT 'n' || i, CASE WHEN i % 3 = 0 THEN NULL ELSE E'tab\there \\ back' END FROM generate_series(1, 20) i;
CREATE TABLE "odd ""schema"" \ ünïcode"."Täble
with a line break" ("Cölumn 1" int, "b;--" text DEFAULT 'x''y');
INSERT INTO "odd ""schema"" \ ünïcode"."Täble
with a line break" VALUES (1, 'one'), (2, E'two\nlines');
COMMENT ON TABLE plain IS '漢字 🦀';
COMMENT ON COLUMN plain.name IS 'a column';
CREATE TABLE empty (a int, b int, c int GENERATED ALWAYS AS (a + b) STORED);
CREATE TABLE none ();
CREATE TABLE parted (k int, v text) PARTITION BY RANGE (k);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE TABLE parted_2 PARTITION OF parted DEFAULT;
INSERT INTO parted SELECT i, 'v' || i FROM generate_series(1, 15) i;
CREATE INDEX ON parted (v);
CREATE UNLOGGED TABLE fleeting (x int); INSERT INTO fleeting VALUES (1);
CREATE SEQUENCE counter; SELECT nextval('counter') FROM generate_series(1, 41);
CREATE VIEW names AS SELECT id, name FROM plain;
CREATE MATERIALIZED VIEW total AS SELECT count(*) AS n FROM plain;
CREATE FUNCTION twice(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * i';
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE ROLE reader_of_shop; GRANT SELECT ON plain TO reader_of_shop;
ALTER TABLE empty ADD CONSTRAINT positive CHECK (a > 0);
SELECT lo_from_bytea(4294967295, 'the last oid'); SELECT lo_from_bytea(90001, '\x00ff00ff'); SELECT lo_create(90002);
COMMENT ON LARGE OBJECT 90001 IS 'a large object';
GRANT SELECT ON LARGE OBJECT 90001 TO reader_of_shop;
