//! Real servers, started by `./test`, and an installation of Stonekeep against them: keys, bucket, policy, both binaries.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// Reads an address that `./test` exports. A missing server fails the test.
#[expect(clippy::disallowed_methods, reason = "./test hands the servers over in the environment")]
pub(crate) fn server(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run ./test"))
}

/// Whether `./test --slow` was asked for.
pub(crate) fn is_slow() -> bool {
    env::var_os("STONEKEEP_TEST_SLOW").is_some()
}

/// A name that no other test has, on any server of this run.
pub(crate) fn unique(hint: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{hint}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Runs a program to its end and returns what it said.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Runs a program that must succeed; returns its stdout.
pub(crate) fn must(command: &mut Command) -> String {
    let output = run(command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The same command as a user whom PostgreSQL's `initdb` takes, which root is not (and CI is root): as root the user
/// `postgres`, who is given `dir` with all that is in it; as anybody else the command as it is. `dir` is its home and temporary
/// directory. What the test itself writes into `dir` later is given at the next call.
pub(crate) fn unprivileged(command: &Command, dir: &Path) -> Command {
    let mut inner = vec![command.get_program().to_owned()];
    let is_root = must(Command::new("id").arg("-u")).trim() == "0";
    if is_root {
        must(Command::new("chown").args(["-R", "postgres:postgres"]).arg(dir));
        inner[0] = reachable(Path::new(&inner[0]), dir).into();
        inner.splice(0..0, AS_POSTGRES.map(Into::into));
    }
    let mut other = Command::new(&inner[0]);
    other.args(&inner[1..]).args(command.get_args());
    other.current_dir(command.get_current_dir().unwrap_or(dir));
    other.env("HOME", dir).env("TMPDIR", dir);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => other.env(name, value),
            None => other.env_remove(name),
        };
    }
    other
}

const AS_POSTGRES: [&str; 4] = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"];

/// The program, or a copy of it in `dir` if the user `postgres` has no way to where it is.
fn reachable(program: &Path, dir: &Path) -> PathBuf {
    let mut test = Command::new(AS_POSTGRES[0]);
    test.args(&AS_POSTGRES[1..]).args(["test", "-x"]).arg(program);
    if !program.is_absolute() || run(&mut test).status.success() {
        return program.to_owned();
    }
    let copy = dir.join(program.file_name().expect("a program"));
    if !copy.exists() {
        must(Command::new("cp").arg(program).arg(&copy));
    }
    copy
}

/// The script that starts and stops one kind of server.
pub(crate) fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("servers").join(name)
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Settings under which equal values print equally, whatever the database's own settings are.
const SAME_PRINT: &str = "-c statement_timeout=0 -c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=postgres -c extra_float_digits=3 -c bytea_output=hex -c search_path=public";

/// A database on one of the two servers, dropped at the end.
pub(crate) struct Database {
    pub(crate) url: String,
    pub(crate) name: String,
    admin: String,
}

impl Database {
    /// Makes a database on the source's server and runs a script in it.
    pub(crate) fn create(hint: &str, script: &str) -> Self {
        let database = Self::named("STONEKEEP_TEST_PG", &unique(hint).replace('-', "_"));
        database.admin(&format!("CREATE DATABASE {}", database.name));
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), script).expect("written");
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"]).arg(file.path()).arg(&database.url);
        psql.env("PGCLIENTENCODING", "UTF8").stdout(Stdio::null());
        must(&mut psql);
        database
    }

    /// Names a database on the other server, which a restore is to make.
    pub(crate) fn to_restore(hint: &str) -> Self {
        Self::named("STONEKEEP_TEST_PG2", &unique(hint).replace('-', "_"))
    }

    fn named(server_name: &str, name: &str) -> Self {
        let admin = server(server_name);
        let (base, _) = admin.rsplit_once('/').expect("a URL with a database");
        Self { url: format!("{base}/{name}"), name: name.to_owned(), admin: admin.clone() }
    }

    pub(crate) fn admin(&self, statement: &str) -> String {
        must(Command::new("psql").args([
            "-X",
            "-q",
            "-At",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            statement,
            &self.admin,
        ]))
    }

    pub(crate) fn query(&self, statement: &str) -> String {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-c", statement, &self.url]);
        must(psql.env("PGOPTIONS", SAME_PRINT).env("PGCLIENTENCODING", "UTF8"))
    }

    /// What pg_dump says of it, without the lines that differ from run to run, the rows of each table sorted.
    pub(crate) fn dump(&self) -> Vec<String> {
        let program = Path::new(&server("STONEKEEP_TEST_PG_BINDIR")).join("pg_dump");
        let text = must(
            Command::new(program).args(["-E", "UTF8", &self.url]).env("PGOPTIONS", SAME_PRINT),
        );
        let noise =
            |line: &&str| line.starts_with("\\restrict") || line.starts_with("\\unrestrict");
        let mut lines = Vec::new();
        // Slices are loaded side by side, so the rows of one COPY may come in another order.
        let mut rows: Option<Vec<String>> = None;
        for line in text.lines().filter(|line| !noise(line)) {
            match &mut rows {
                Some(block) if line == "\\." => {
                    block.sort_unstable();
                    lines.append(block);
                    lines.push(line.to_owned());
                    rows = None;
                }
                Some(block) => block.push(line.to_owned()),
                None => {
                    lines.push(line.to_owned());
                    rows = line.starts_with("COPY ").then(Vec::new);
                }
            }
        }
        lines
    }

    /// Per table (and for large objects): how many rows, and a digest of all of them in order, by the server.
    pub(crate) fn rows(&self) -> Vec<String> {
        let tables = self.query(
            "SELECT format('%I.%I', nspname, relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
             WHERE relkind IN ('r', 'm') AND (relkind = 'r' OR relispopulated) AND nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1",
        );
        let digest = |table: &str| {
            let sql = format!(
                "SELECT '{}', count(*), md5(string_agg(md5(t::text), '' ORDER BY md5(t::text))) FROM ONLY {table} t",
                table.replace('\'', "''")
            );
            self.query(&sql)
        };
        // A name with a newline in it is one table on two lines; psql's -At cannot tell, so tables here have none.
        let mut rows: Vec<String> = tables.lines().map(digest).collect();
        rows.push(
            self.query("SELECT oid, md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY oid"),
        );
        rows
    }

    /// The server's major version.
    pub(crate) fn major(&self) -> u32 {
        let number = self.query("SHOW server_version_num");
        number.trim().parse::<u32>().expect("a number") / 10_000
    }

    /// Relations, functions, types, constraints (with whether they are valid), indexes, triggers, by words that are
    /// the same in every major.
    pub(crate) fn objects(&self) -> String {
        self.query(
            "WITH own AS (SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema') \
             SELECT 'relation', oid::regclass::text, relkind::text, (relacl IS NULL)::text FROM pg_class \
               WHERE relnamespace IN (SELECT * FROM own) AND relkind <> 'i' AND relkind <> 'c' \
             UNION ALL SELECT 'index', indexrelid::regclass::text, pg_get_indexdef(indexrelid), indisvalid::text FROM pg_index JOIN pg_class c ON c.oid = indexrelid \
               WHERE relnamespace IN (SELECT * FROM own) \
             UNION ALL SELECT 'function', oid::regprocedure::text, prokind::text, '' FROM pg_proc p WHERE pronamespace IN (SELECT * FROM own) \
               AND proname !~ 'multirange' AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e') \
             UNION ALL SELECT 'type', oid::regtype::text, typtype::text, '' FROM pg_type WHERE typnamespace IN (SELECT * FROM own) AND typtype NOT IN ('c', 'm') AND typelem = 0 \
             UNION ALL SELECT 'constraint', conname, contype::text, convalidated::text FROM pg_constraint WHERE connamespace IN (SELECT * FROM own) AND contype <> 'n' \
             UNION ALL SELECT 'trigger', tgname, tgrelid::regclass::text, tgenabled::text FROM pg_trigger WHERE NOT tgisinternal \
             UNION ALL SELECT 'policy', polname, polrelid::regclass::text, '' FROM pg_policy \
             UNION ALL SELECT 'event trigger', evtname, evtevent, '' FROM pg_event_trigger \
             UNION ALL SELECT 'publication', pubname, puballtables::text, '' FROM pg_publication ORDER BY 1, 2, 3, 4",
        )
    }

    /// The sequences as they stand.
    pub(crate) fn sequences(&self) -> String {
        self.query("SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 1, 2")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        drop(run(Command::new("psql").args([
            "-X",
            "-q",
            "-c",
            &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name),
            &self.admin,
        ])));
    }
}

/// A user of the S3 server.
#[derive(Clone, Copy)]
pub(crate) enum User {
    Owner,
    Writer,
    Reader,
    Watcher,
}

impl User {
    pub(crate) fn keys(self) -> (String, String) {
        let name = match self {
            Self::Owner => "STONEKEEP_TEST_S3_OWNER",
            Self::Writer => "STONEKEEP_TEST_S3_WRITER",
            Self::Reader => "STONEKEEP_TEST_S3_READER",
            Self::Watcher => "STONEKEEP_TEST_S3_WATCHER",
        };
        let keys = server(name);
        let (id, secret) = keys.split_once(':').expect("KEY:SECRET");
        (id.to_owned(), secret.to_owned())
    }
}

/// An installation: a directory with keys and configuration, and a bucket of its own under the least-privilege policy.
pub(crate) struct Installation {
    dir: tempfile::TempDir,
    pub(crate) bucket: String,
    endpoint: String,
    /// Lines that replace `database = …`'s own in the daemon's configuration.
    pub(crate) database_url: String,
}

impl Installation {
    /// Makes keys and configuration for `database`, without a bucket.
    pub(crate) fn prepare(database: &Database) -> Self {
        Self::prepare_at(database, server("STONEKEEP_TEST_S3_ENDPOINT"))
    }

    /// The same for another S3 server, with the same users.
    pub(crate) fn prepare_at(database: &Database, endpoint: String) -> Self {
        let installation = Self {
            dir: tempfile::tempdir().expect("a directory"),
            bucket: unique("vault"),
            endpoint,
            database_url: database.url.clone(),
        };
        for key in ["owner", "signer"] {
            must(
                Command::new("ssh-keygen")
                    .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
                    .arg(installation.path(key)),
            );
        }
        for identity in ["identity1", "identity2", "stranger"] {
            must(Command::new("age-keygen").arg("-o").arg(installation.path(identity)));
        }
        installation.configure(|text| text);
        installation
    }

    /// The same with a repository in its bucket.
    pub(crate) fn create(database: &Database) -> Self {
        let installation = Self::prepare(database);
        let output = installation.init();
        assert!(output.status.success(), "init: {}", said(&output));
        installation
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).expect("mode");
    }

    /// The public half of an identity.
    pub(crate) fn recipient(&self, identity: &str) -> String {
        must(Command::new("age-keygen").arg("-y").arg(self.path(identity))).trim().to_owned()
    }

    /// Writes the daemon's configuration, changed by the test.
    pub(crate) fn configure(&self, change: impl FnOnce(String) -> String) {
        let dir = self.dir.path().display();
        let text = format!(
            "signer_file = \"{dir}/signer\"\npg_bindir = \"{}\"\nallowed_signers_file = \"{dir}/allowed_signers\"\nstate_dir = \"{dir}/state\"\n\
             [encryption]\nrecipients = [\"{}\", \"{}\"]\n\
             [[repository]]\nname = \"vault\"\nbucket = \"{}\"\nprefix = \"stonekeep\"\nregion = \"us-east-1\"\nendpoint = \"{}\"\npath_style = true\n\
             [[tier]]\nname = \"hourly\"\nevery = \"hour\"\nkeep = \"7d\"\n\
             [[database]]\nname = \"bookings\"\nurl = \"{}\"\ntls = \"disable\"\nschedule = \"15 * * * *\"\njobs = 2\nddl_wait_max = \"4s\"\n",
            server("STONEKEEP_TEST_PG_BINDIR"),
            self.recipient("identity1"),
            self.recipient("identity2"),
            self.bucket,
            self.endpoint,
            self.database_url,
        );
        self.write("stonekeepd.toml", &change(text));
    }

    pub(crate) fn init(&self) -> Output {
        run(&mut self.init_of("vault"))
    }

    /// Has the policies of a repository made for the users of the S3 server, and returns their directory.
    pub(crate) fn policies(&self, name: &str, options: &[&str]) -> PathBuf {
        let out = self.path("policies");
        drop(fs::remove_dir_all(&out));
        let mut command = self.binary("stonekeep", User::Owner);
        command.args(["--repository", name, "policy", "--provider", "ceph", "--daemon-config"]);
        command.arg(self.path("stonekeepd.toml")).arg("--out").arg(&out).args(options);
        command.args(["--writer", "writer", "--watcher", "watcher", "--watcher", "reader"]);
        // Where the configuration is wrong there are none, and `init` says what is wrong.
        drop(run(command.args(["--restorer", "reader", "--provisioner", "owner"])));
        out
    }

    /// The bucket's policy as `policies` has made it.
    pub(crate) fn policy(&self) -> String {
        let file = format!("policies/bucket-policy-{}.json", self.bucket);
        fs::read_to_string(self.path(&file)).expect("made")
    }

    /// Replaces the bucket's policy.
    pub(crate) fn put_policy(&self, policy: &str) {
        let (status, answer) = self.s3(User::Owner, "PUT", "?policy=", &[], policy);
        assert!(status < 300, "{status} {answer}");
    }

    /// Takes the statement out of the bucket's policy that lets nobody delete, not even the bucket's owner.
    pub(crate) fn let_the_owner_delete(&self) {
        let mut policy: serde_json::Value = serde_json::from_str(&self.policy()).expect("JSON");
        let statements = policy["Statement"].as_array_mut().expect("statements");
        statements.retain(|statement| statement["Sid"] != "NoDelete");
        self.put_policy(&policy.to_string());
    }

    /// Makes one repository of several.
    pub(crate) fn init_of(&self, name: &str) -> Command {
        self.init_with(name, &[])
    }

    /// The same with these options for its policies.
    pub(crate) fn init_with(&self, name: &str, options: &[&str]) -> Command {
        let policies = self.policies(name, options);
        let mut command = self.binary("stonekeep", User::Owner);
        command
            .args(["--repository", name, "init", "--daemon-config"])
            .arg(self.path("stonekeepd.toml"))
            .arg("--owner-key")
            .arg(self.path("owner"));
        command.arg("--policy").arg(policies);
        command
    }

    fn binary(&self, name: &str, user: User) -> Command {
        let (id, secret) = user.keys();
        let mut command = Command::new(Path::new(&server("STONEKEEP_TEST_BIN")).join(name));
        command
            .env("AWS_ACCESS_KEY_ID", id)
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            // What is asserted on is for people, although nobody sits here.
            .env("STONEKEEP_LOG_FORMAT", "text");
        command.current_dir(self.dir.path());
        command
    }

    pub(crate) fn daemon(&self, args: &[&str]) -> Command {
        let mut command = self.binary("stonekeepd", User::Writer);
        command.arg("--config").arg(self.path("stonekeepd.toml")).args(args);
        command
    }

    /// `stonekeep` without a configuration, told where the bucket is.
    pub(crate) fn bare(&self, args: &[&str]) -> Command {
        let mut command = self.binary("stonekeep", User::Reader);
        command.args(["--bucket", &self.bucket, "--endpoint", &self.endpoint, "--path-style"]);
        command.args(args);
        command
    }

    pub(crate) fn reader(&self, args: &[&str]) -> Command {
        // As init has written it, with the programs of the servers under test.
        let config = self.path("stonekeep.toml");
        let text = fs::read_to_string(config).expect("init has written it");
        let bindir = server("STONEKEEP_TEST_PG_BINDIR");
        self.write("reader.toml", &format!("pg_bindir = \"{bindir}\"\n{text}"));
        let mut command = self.binary("stonekeep", User::Reader);
        command.arg("--config").arg(self.path("reader.toml")).args(args);
        command
    }

    /// Takes a snapshot that must succeed, and returns what was said.
    pub(crate) fn backup(&self) -> String {
        let output = run(&mut self.daemon(&["backup"]));
        assert!(output.status.success(), "backup: {}", said(&output));
        said(&output)
    }

    /// Restores the newest snapshot; it must succeed.
    pub(crate) fn restore(&self, target: &Database) {
        let output = run(&mut self.reader(&[
            "restore",
            "latest",
            "--identity",
            "identity1",
            "--target",
            &target.url,
        ]));
        assert!(output.status.success(), "restore: {}", said(&output));
    }

    /// Sends a raw signed S3 request as `user`; returns the status and the body.
    pub(crate) fn s3(
        &self,
        user: User,
        method: &str,
        path_and_query: &str,
        headers: &[&str],
        body: &str,
    ) -> (u16, String) {
        let url = format!("{}/{}{path_and_query}", self.endpoint, self.bucket);
        send(user, method, &url, headers, body)
    }

    /// Configures another bucket than this installation's, as its owner.
    pub(crate) fn configure_bucket(&self, bucket: &str, query: &str, xml: &str) -> (u16, String) {
        send(User::Owner, "PUT", &format!("{}/{bucket}?{query}=", self.endpoint), &[], xml)
    }

    /// Every version in the bucket, as (key, version id), by the owner's own listing.
    pub(crate) fn versions(&self) -> Vec<(String, String)> {
        self.listed("VersionId")
    }

    /// The length of every version.
    pub(crate) fn sizes(&self) -> Vec<u64> {
        let sizes = self.listed("Size").into_iter();
        sizes.map(|(_, bytes)| bytes.parse().expect("a number")).collect()
    }

    /// A field of every version, beside its key.
    fn listed(&self, wanted: &str) -> Vec<(String, String)> {
        let (status, xml) = self.s3(User::Owner, "GET", "?versions=", &[], "");
        assert_eq!(status, 200, "{xml}");
        let field = |part: &str, name: &str| {
            let (_, rest) = part.split_once(&format!("<{name}>"))?;
            rest.split_once('<').map(|(value, _)| value.to_owned())
        };
        xml.split("<Version>")
            .skip(1)
            .filter_map(|part| Some((field(part, "Key")?, field(part, wanted)?)))
            .collect()
    }
}

fn send(user: User, method: &str, url: &str, headers: &[&str], body: &str) -> (u16, String) {
    let (id, secret) = user.keys();
    let mut curl = Command::new("curl");
    curl.args([
        "-s",
        "-w",
        "\n%{http_code}",
        "--aws-sigv4",
        "aws:amz:us-east-1:s3",
        "--user",
        &format!("{id}:{secret}"),
        "-X",
        method,
        "-H",
        "x-amz-content-sha256: UNSIGNED-PAYLOAD",
    ]);
    for header in headers {
        curl.args(["-H", header]);
    }
    if !body.is_empty() {
        curl.args(["--data-binary", body]);
    }
    let answer = must(curl.arg(url));
    let (body, status) = answer.rsplit_once('\n').expect("curl writes the status last");
    (status.parse().expect("a status"), body.to_owned())
}
