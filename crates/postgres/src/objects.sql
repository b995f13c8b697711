-- Every object of a database that a dump is to bring back. Plain catalogs only: what goes through the server's caches
-- (pg_get_indexdef, format_type, regclass to text) does not follow an exported snapshot. Names are not quoted: which words need
-- quotes differs from one major to another.
-- $1: the encoding of the names. $2: whether to list only what a restore must bring back.
WITH member AS MATERIALIZED (
  SELECT classid, objid FROM pg_catalog.pg_depend WHERE deptype = 'e' AND refclassid = 'pg_catalog.pg_extension'::regclass
), space AS MATERIALIZED (
  SELECT oid, nspname::text AS name, nspowner FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
), relation AS MATERIALIZED (
  SELECT c.oid, c.relkind, s.name || '.' || c.relname AS name, c.relowner, c.relispopulated, c.relrowsecurity
  FROM pg_catalog.pg_class c JOIN space s ON s.oid = c.relnamespace
  WHERE c.relpersistence <> 't' AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_catalog.pg_class'::regclass AND m.objid = c.oid)
), own_type AS MATERIALIZED (
  SELECT t.oid, t.typtype, s.name || '.' || t.typname AS name, t.typowner
  FROM pg_catalog.pg_type t JOIN space s ON s.oid = t.typnamespace
  WHERE t.typisdefined AND (t.typtype IN ('b', 'd', 'e', 'r') OR EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.oid = t.typelem AND e.typarray = t.oid)
    AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_catalog.pg_type'::regclass AND m.objid = t.oid)
), type_name AS NOT MATERIALIZED (
  -- The server names an array's type as it likes: it is named after its elements.
  SELECT y.oid, CASE n.nspname WHEN 'pg_catalog' THEN '' ELSE n.nspname || '.' END || coalesce(e.typname, y.typname) || CASE WHEN e.oid IS NULL THEN '' ELSE '[]' END AS name
  FROM pg_catalog.pg_type y LEFT JOIN pg_catalog.pg_type e ON e.oid = y.typelem AND e.typarray = y.oid
  JOIN pg_catalog.pg_namespace n ON n.oid = coalesce(e.typnamespace, y.typnamespace)
), constraint_index AS MATERIALIZED (
  SELECT conindid AS oid FROM pg_catalog.pg_constraint WHERE contype IN ('p', 'u', 'x')
), object (kind, name, class, oid, owner, version, unfinished, demanded) AS (
  SELECT 'schema', name, 'pg_catalog.pg_namespace'::regclass::oid, oid, nspowner, NULL::text, false, true FROM space WHERE name <> 'public'
  UNION ALL
  SELECT CASE relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table' WHEN 'v' THEN 'view'
      WHEN 'm' THEN 'materialized view' ELSE 'sequence' END, name, 0, oid, relowner, NULL, relkind = 'm' AND NOT relispopulated, true
    FROM relation WHERE relkind IN ('r', 'p', 'f', 'v', 'm', 'S')
  UNION ALL
  -- pg_dump leaves out an index that is not valid, unless it is a partitioned one.
  SELECT 'index', x.name, 0, x.oid, NULL, NULL, NOT (i.indisvalid AND i.indisready),
      (x.relkind = 'I' OR (i.indisvalid AND i.indisready)) AND NOT EXISTS (SELECT FROM constraint_index k WHERE k.oid = x.oid)
    FROM pg_catalog.pg_index i JOIN relation x ON x.oid = i.indexrelid JOIN relation t ON t.oid = i.indrelid
  UNION ALL
  -- Those that a table has of its parent come with the parent; the server names such foreign keys itself.
  SELECT 'constraint', k.conname || ' ON ' || t.name, 0, k.oid, NULL, NULL, NOT k.convalidated OR NOT coalesce(i.indisvalid, true),
      CASE k.contype WHEN 'c' THEN k.conislocal WHEN 'f' THEN k.conparentid = 0 ELSE coalesce(i.indisvalid, false) OR t.relkind = 'p' END
    FROM pg_catalog.pg_constraint k JOIN relation t ON t.oid = k.conrelid
    LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = k.conindid AND k.contype IN ('p', 'u', 'x')
    WHERE k.contype IN ('c', 'f', 'p', 'u', 'x')
  UNION ALL
  SELECT 'constraint', k.conname || ' ON ' || t.name, 0, k.oid, NULL, NULL, NOT k.convalidated, true
    FROM pg_catalog.pg_constraint k JOIN own_type t ON t.oid = k.contypid WHERE k.contype = 'c'
  UNION ALL
  SELECT 'trigger', g.tgname || ' ON ' || t.name, 0, g.oid, NULL, NULL, false, g.tgparentid = 0
    FROM pg_catalog.pg_trigger g JOIN relation t ON t.oid = g.tgrelid WHERE NOT g.tgisinternal
  UNION ALL
  SELECT 'rule', w.rulename || ' ON ' || t.name, 0, w.oid, NULL, NULL, false, true
    FROM pg_catalog.pg_rewrite w JOIN relation t ON t.oid = w.ev_class WHERE w.rulename <> '_RETURN'
  UNION ALL
  SELECT 'policy', p.polname || ' ON ' || t.name, 0, p.oid, NULL, NULL, false, true
    FROM pg_catalog.pg_policy p JOIN relation t ON t.oid = p.polrelid
  UNION ALL
  SELECT 'row security', name, 0, oid, NULL, NULL, false, true FROM relation WHERE relrowsecurity
  UNION ALL
  -- A default of NULL may be as good as none to the server that restores it.
  SELECT 'default', t.name || '.' || a.attname, 0, d.oid, NULL, NULL, false, d.adbin::text !~ ':constisnull true'
    FROM pg_catalog.pg_attrdef d JOIN relation t ON t.oid = d.adrelid
    JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum AND NOT a.attisdropped
  UNION ALL
  SELECT 'inheritance', c.name || ' OF ' || p.name, 0, c.oid, NULL, NULL, false, true
    FROM pg_catalog.pg_inherits i JOIN relation c ON c.oid = i.inhrelid AND c.relkind IN ('r', 'p', 'f') JOIN relation p ON p.oid = i.inhparent
  UNION ALL
  SELECT CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END,
      s.name || '.' || p.proname || '(' || coalesce(args.names, '') || ')', 'pg_catalog.pg_proc'::regclass::oid, p.oid, p.proowner, NULL, false, true
    FROM pg_catalog.pg_proc p JOIN space s ON s.oid = p.pronamespace
    LEFT JOIN LATERAL (SELECT pg_catalog.string_agg(y.name, ', ' ORDER BY a.at) AS names
      FROM pg_catalog.unnest(p.proargtypes::oid[]) WITH ORDINALITY a(type, at) JOIN type_name y ON y.oid = a.type) args ON true
    -- The constructors of range types.
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i')
  UNION ALL
  SELECT CASE typtype WHEN 'd' THEN 'domain' ELSE 'type' END, name, 0, oid, typowner, NULL, false, true FROM own_type
  UNION ALL
  SELECT 'operator', s.name || '.' || o.oprname || '(' || coalesce(l.name || ', ', '') || coalesce(r.name, '') || ')', 'pg_catalog.pg_operator'::regclass::oid, o.oid, NULL, NULL, false, true
    FROM pg_catalog.pg_operator o JOIN space s ON s.oid = o.oprnamespace
    LEFT JOIN type_name l ON l.oid = o.oprleft LEFT JOIN type_name r ON r.oid = o.oprright WHERE o.oprcode <> 0
  UNION ALL
  SELECT 'operator class', s.name || '.' || o.opcname || ' USING ' || a.amname, 'pg_catalog.pg_opclass'::regclass::oid, o.oid, NULL, NULL, false, true
    FROM pg_catalog.pg_opclass o JOIN space s ON s.oid = o.opcnamespace JOIN pg_catalog.pg_am a ON a.oid = o.opcmethod
  UNION ALL
  SELECT 'operator family', s.name || '.' || o.opfname || ' USING ' || a.amname, 'pg_catalog.pg_opfamily'::regclass::oid, o.oid, NULL, NULL, false, true
    FROM pg_catalog.pg_opfamily o JOIN space s ON s.oid = o.opfnamespace JOIN pg_catalog.pg_am a ON a.oid = o.opfmethod
  UNION ALL
  SELECT 'collation', s.name || '.' || o.collname, 'pg_catalog.pg_collation'::regclass::oid, o.oid, NULL, o.collversion, false, true
    FROM pg_catalog.pg_collation o JOIN space s ON s.oid = o.collnamespace
  UNION ALL
  SELECT 'conversion', s.name || '.' || o.conname, 'pg_catalog.pg_conversion'::regclass::oid, o.oid, NULL, NULL, false, true
    FROM pg_catalog.pg_conversion o JOIN space s ON s.oid = o.connamespace
  UNION ALL
  SELECT 'text search configuration', s.name || '.' || o.cfgname, 'pg_catalog.pg_ts_config'::regclass::oid, o.oid, NULL, NULL, false, true
    FROM pg_catalog.pg_ts_config o JOIN space s ON s.oid = o.cfgnamespace
  UNION ALL
  SELECT 'text search dictionary', s.name || '.' || o.dictname, 'pg_catalog.pg_ts_dict'::regclass::oid, o.oid, NULL, NULL, false, true
    FROM pg_catalog.pg_ts_dict o JOIN space s ON s.oid = o.dictnamespace
  UNION ALL
  SELECT 'text search parser', s.name || '.' || o.prsname, 'pg_catalog.pg_ts_parser'::regclass::oid, o.oid, NULL, NULL, false, true
    FROM pg_catalog.pg_ts_parser o JOIN space s ON s.oid = o.prsnamespace
  UNION ALL
  SELECT 'text search template', s.name || '.' || o.tmplname, 'pg_catalog.pg_ts_template'::regclass::oid, o.oid, NULL, NULL, false, true
    FROM pg_catalog.pg_ts_template o JOIN space s ON s.oid = o.tmplnamespace
  UNION ALL
  SELECT 'statistics', s.name || '.' || o.stxname, 'pg_catalog.pg_statistic_ext'::regclass::oid, o.oid, NULL, NULL, false, true
    FROM pg_catalog.pg_statistic_ext o JOIN space s ON s.oid = o.stxnamespace JOIN relation t ON t.oid = o.stxrelid
  UNION ALL
  SELECT 'cast', f.name || ' AS ' || t.name, 'pg_catalog.pg_cast'::regclass::oid, o.oid, NULL, NULL, false, true
    FROM pg_catalog.pg_cast o JOIN type_name f ON f.oid = o.castsource JOIN type_name t ON t.oid = o.casttarget
    -- The casts from ranges to their multiranges.
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_cast'::regclass AND d.objid = o.oid AND d.deptype = 'i')
  UNION ALL
  SELECT 'event trigger', o.evtname, 'pg_catalog.pg_event_trigger'::regclass::oid, o.oid, NULL, NULL, false, true FROM pg_catalog.pg_event_trigger o
  UNION ALL
  SELECT 'publication', o.pubname, 'pg_catalog.pg_publication'::regclass::oid, o.oid, NULL, NULL, false, true FROM pg_catalog.pg_publication o
  UNION ALL
  SELECT 'foreign server', o.srvname, 'pg_catalog.pg_foreign_server'::regclass::oid, o.oid, NULL, NULL, false, true FROM pg_catalog.pg_foreign_server o
  UNION ALL
  SELECT 'foreign data wrapper', o.fdwname, 'pg_catalog.pg_foreign_data_wrapper'::regclass::oid, o.oid, NULL, NULL, false, true FROM pg_catalog.pg_foreign_data_wrapper o
  UNION ALL
  SELECT 'language', o.lanname, 'pg_catalog.pg_language'::regclass::oid, o.oid, NULL, NULL, false, true FROM pg_catalog.pg_language o WHERE o.lanispl
  UNION ALL
  SELECT 'access method', o.amname, 'pg_catalog.pg_am'::regclass::oid, o.oid, NULL, NULL, false, true FROM pg_catalog.pg_am o
  UNION ALL
  SELECT 'extension', o.extname, 0, o.oid, NULL, o.extversion, false, true FROM pg_catalog.pg_extension o
  UNION ALL
  -- The roles that own something or were granted something, but for the one that initdb has made.
  SELECT 'role', r.rolname, 0, r.oid, NULL, NULL, false, true FROM pg_catalog.pg_roles r WHERE r.rolname !~ '^pg_' AND EXISTS (
    SELECT FROM pg_catalog.pg_shdepend h WHERE h.refclassid = 'pg_catalog.pg_authid'::regclass AND h.refobjid = r.oid AND h.deptype IN ('o', 'a', 'r')
      AND h.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
      AND CASE WHEN h.classid = 'pg_catalog.pg_class'::regclass THEN h.objid IN (SELECT oid FROM relation)
        ELSE h.classid IN ('pg_catalog.pg_namespace'::regclass, 'pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_policy'::regclass)
          AND NOT EXISTS (SELECT FROM member m WHERE m.classid = h.classid AND m.objid = h.objid) END)
)
SELECT DISTINCT o.kind, pg_catalog.convert_to(o.name::text, $1::text::name), pg_catalog.convert_to(r.rolname::text, $1::text::name), o.version, o.unfinished, o.demanded
FROM object o LEFT JOIN pg_catalog.pg_roles r ON r.oid = o.owner
WHERE (o.demanded OR NOT $2)
  -- What initdb has made is everywhere.
  AND o.oid >= 16384
  -- Of an extension that which its script makes.
  AND NOT EXISTS (SELECT FROM member m WHERE m.classid = o.class AND m.objid = o.oid)
ORDER BY 1, 2
