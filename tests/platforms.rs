//! Platforms without files and without root: all configuration in environment variables, and nothing to write to.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

use crate::harness::{Database, Installation, User, must, run, said, script, server};

const SCRIPT: &str =
    "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 1000); SELECT lo_create(0)";

/// A file system without a place to write, with both programs and PostgreSQL's on it.
struct Jail(PathBuf);

impl Jail {
    fn build(installation: &Installation) -> Self {
        let jail = Self(installation.path("jail"));
        let (own, theirs) = (server("STONEKEEP_TEST_BIN"), server("STONEKEEP_TEST_PG_BINDIR"));
        let mut build = Command::new(script("jail.sh"));
        build.arg("build").arg(&jail.0);
        build.args(["stonekeepd", "stonekeep"].map(|name| format!("{own}/{name}")));
        build.args(["pg_dump", "pg_dumpall", "pg_restore"].map(|name| format!("{theirs}/{name}")));
        must(&mut build);
        jail
    }

    /// A command in it that has no variable yet.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(script("jail.sh"));
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.arg("run").arg(&self.0).arg(program);
        command
    }

    fn own(&self, name: &str) -> Command {
        self.command(&format!("{}/{name}", server("STONEKEEP_TEST_BIN")))
    }
}

/// The text of a configuration in which every file is a variable, and those variables.
struct Variables {
    config: String,
    texts: Vec<(&'static str, String)>,
}

impl Variables {
    /// Takes them from the files of `installation`: (name in the configuration, variable, file).
    fn of(
        installation: &Installation,
        config: &str,
        files: &[(&str, &'static str, PathBuf)],
    ) -> Self {
        let mut config = fs::read_to_string(installation.path(config)).expect("there");
        let mut texts = Vec::new();
        for (option, variable, file) in files {
            let text = fs::read_to_string(file).expect("there");
            // Some dashboards make this of what is pasted into them.
            texts.push((*variable, text.replace('\n', "\\n")));
            let named = format!("{option} = \"{}\"", file.display());
            assert!(config.contains(&named), "{named} is not in {config}");
            config = config.replace(&named, &format!("{option} = \"env:{variable}\""));
        }
        Self { config, texts }
    }

    fn give<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let texts = self.texts.iter().map(|(name, text)| (*name, text.as_str()));
        command.envs(texts).env("STONEKEEP_CONFIG", &self.config)
    }
}

fn credentials(user: User) -> String {
    let (id, secret) = user.keys();
    format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n")
}

/// The daemon's configuration with both servers by TLS, and a password and the access key in files.
fn configure(installation: &Installation, role: &str) {
    let (s3_ca, pg_ca) = (server("STONEKEEP_TEST_S3_CA"), server("STONEKEEP_TEST_PG_CA"));
    installation.write("s3-writer", &credentials(User::Writer));
    let key = installation.path("s3-writer");
    let password = installation.path("password");
    installation.configure(|text| {
        let access =
            format!("ca_file = \"{s3_ca}\"\ncredentials_file = \"{}\"\npath_style", key.display());
        let login = format!("password_file = \"{}\"", password.display());
        let tls = format!("{login}\ntls = \"verify-full\"\nca_file = \"{pg_ca}\"");
        let text = text.replacen("path_style", &access, 1).replace("tls = \"disable\"", &tls);
        text.replace("postgres@", &format!("{role}@"))
    });
}

fn daemon_variables(installation: &Installation) -> Variables {
    let file = |option, variable, name: &str| (option, variable, installation.path(name));
    Variables::of(
        installation,
        "stonekeepd.toml",
        &[
            file("signer_file", "SIGNER", "signer"),
            file("allowed_signers_file", "OWNER", "allowed_signers"),
            file("credentials_file", "S3_WRITER", "s3-writer"),
            file("password_file", "PASSWORD", "password"),
            ("ca_file", "S3_CA", server("STONEKEEP_TEST_S3_CA").into()),
            ("ca_file", "PG_CA", server("STONEKEEP_TEST_PG_CA").into()),
        ],
    )
}

/// An installation whose servers are reached by TLS, and a role that logs in so.
fn by_tls(source: &Database) -> (Installation, String) {
    let role = format!("{}_role", source.name);
    source.admin(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'hunter2' IN ROLE by_tls, pg_read_all_data"
    ));
    let installation = Installation::prepare_at(source, server("STONEKEEP_TEST_S3_TLS_ENDPOINT"));
    installation.write("password", "hunter2\n");
    configure(&installation, &role);
    let output = installation.init();
    assert!(output.status.success(), "init: {}", said(&output));
    (installation, role)
}

#[test]
fn a_snapshot_is_taken_where_nothing_can_be_written_and_everything_is_a_variable() {
    let source = Database::create("platform", SCRIPT);
    let (installation, role) = by_tls(&source);
    let jail = Jail::build(&installation);
    let variables = daemon_variables(&installation);

    let output = run(jail.command("/bin/sh").args(["-c", "echo x >/x || echo x >/dev/shm/x"]));
    assert!(!output.status.success() && said(&output).contains("Read-only"), "{}", said(&output));
    for command in ["check", "backup", "prove"] {
        let output = run(variables.give(jail.own("stonekeepd").arg(command)));
        assert!(output.status.success(), "{command}: {}", said(&output));
        for secret in ["hunter2", "writersecret", "BEGIN OPENSSH"] {
            assert!(!said(&output).contains(secret), "{command}: {secret}");
        }
    }

    let reader = Variables {
        config: fs::read_to_string(installation.path("stonekeep.toml"))
            .expect("there")
            .replace(&format!("{}", installation.path("allowed_signers").display()), "env:OWNER")
            .replace(&server("STONEKEEP_TEST_S3_CA"), "env:S3_CA")
            .replace("region", "credentials_file = \"env:S3_READER\"\nregion"),
        texts: [&variables.texts[..], &[("S3_READER", credentials(User::Reader))]].concat(),
    };
    let mut verify = jail.own("stonekeep");
    must(reader.give(verify.args(["verify", "latest", "--read-data"])));
    let target = Database::to_restore("platform");
    installation.restore(&target);
    assert_eq!(target.rows(), source.rows());
    source.admin(&format!("DROP ROLE {role}"));
}

#[test]
fn a_variable_that_is_not_there_ends_the_run_by_its_name() {
    let source = Database::create("platform_absent", SCRIPT);
    let (installation, role) = by_tls(&source);
    let variables = daemon_variables(&installation);
    for (absent, _) in &variables.texts {
        let mut command = Command::new(format!("{}/stonekeepd", server("STONEKEEP_TEST_BIN")));
        variables.give(command.env_clear().arg("backup")).env_remove(absent);
        let output = run(&mut command);
        assert_eq!(output.status.code(), Some(78), "{absent}: {}", said(&output));
        assert!(said(&output).contains(&format!("env:{absent}")), "{}", said(&output));
    }
    source.admin(&format!("DROP ROLE {role}"));
}

#[test]
fn a_configuration_on_the_command_line_comes_before_the_variable() {
    let source = Database::create("platform_config", "CREATE TABLE t ()");
    let installation = Installation::create(&source);
    let mut named = installation.daemon(&["check"]);
    must(named.env("STONEKEEP_CONFIG", "this is no TOML"));
    for program in ["stonekeepd", "stonekeep"] {
        let mut command = Command::new(format!("{}/{program}", server("STONEKEEP_TEST_BIN")));
        let command = command.env_clear().env("STONEKEEP_CONFIG", "a = 1\nthis is no TOML");
        let output = run(command.arg(if program == "stonekeep" { "list" } else { "check" }));
        assert_eq!(output.status.code(), Some(78), "{}", said(&output));
        assert!(said(&output).contains("STONEKEEP_CONFIG:2:6"), "{}", said(&output));
    }
}

#[test]
fn a_desk_makes_the_repository_with_the_public_key_alone() {
    let source = Database::create("platform_desk", "CREATE TABLE t ()");
    let installation = Installation::prepare(&source);
    let signer = installation.path("signer");
    installation.configure(|text| text.replace(&signer.display().to_string(), "env:SIGNER"));
    let (private, public) =
        (fs::read_to_string(&signer), fs::read_to_string(signer.with_extension("pub")));
    must(installation.init_of("vault").env("SIGNER_PUB", public.expect("there")));
    must(installation.daemon(&["backup"]).env("SIGNER", private.expect("there")));
}

#[test]
fn what_we_start_gets_none_of_our_secrets() {
    let source = Database::create("platform_children", SCRIPT);
    let (installation, role) = by_tls(&source);
    let (bin, seen) = (installation.path("bin"), installation.path("seen"));
    fs::create_dir(&bin).expect("made");
    let theirs = server("STONEKEEP_TEST_PG_BINDIR");
    for program in ["pg_dump", "pg_dumpall", "pg_restore"] {
        let text = format!(
            "#!/bin/sh\necho started {program} >>{0}\nenv >>{0}\nexec {theirs}/{program} \"$@\"\n",
            seen.display()
        );
        fs::write(bin.join(program), text).expect("written");
        fs::set_permissions(bin.join(program), fs::Permissions::from_mode(0o755)).expect("mode");
    }
    let variables = daemon_variables(&installation);
    let config = variables.config.replace(&theirs, &bin.display().to_string());
    let mut command = Command::new(format!("{}/stonekeepd", server("STONEKEEP_TEST_BIN")));
    variables.give(command.arg("backup")).env("STONEKEEP_CONFIG", config);
    command.env("AWS_SECRET_ACCESS_KEY", "canary-of-aws").env("PGSERVICE", "elsewhere");
    must(&mut command);

    let seen = fs::read_to_string(seen).expect("they were started");
    for program in ["pg_dump", "pg_dumpall", "pg_restore"] {
        assert!(seen.contains(&format!("started {program}\n")), "{seen}");
    }
    // They log in with it.
    assert!(seen.contains("PGPASSWORD=hunter2"), "{seen}");
    for secret in ["canary-of-aws", "writersecret", "BEGIN", "STONEKEEP_CONFIG", "elsewhere"] {
        assert!(!seen.contains(secret), "{secret}: {seen}");
    }
    source.admin(&format!("DROP ROLE {role}"));
}
