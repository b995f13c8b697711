-- Tables and a sequence that belong to an extension and are dumped all the same, in part or whole: what pg_dump calls
-- configuration. The second table cannot be loaded before the first.
CREATE TABLE keeper.kinds (id serial PRIMARY KEY, name text NOT NULL, built_in bool NOT NULL DEFAULT false);
INSERT INTO keeper.kinds (name, built_in) VALUES ('shipped', true);
CREATE TABLE keeper.a_rules (kind int NOT NULL REFERENCES keeper.kinds, rule text);
CREATE TABLE keeper.private (n int);
SELECT pg_catalog.pg_extension_config_dump('keeper.kinds', 'WHERE NOT built_in');
SELECT pg_catalog.pg_extension_config_dump('keeper.kinds_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('keeper.a_rules', '');
