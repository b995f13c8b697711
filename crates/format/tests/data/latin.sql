CREATE TABLE "Größe" ("Straße" text);
INSERT INTO "Größe" VALUES ('Käse'), ('Öl');
COMMENT ON TABLE "Größe" IS 'für die Prüfung';
