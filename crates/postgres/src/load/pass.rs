//! Running pg_restore over a list of entries.

use std::{
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use stonekeep_format::archive::Archive;
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
};

use super::{
    LoadError, Pass, PassMessage, Pins,
    list::pass_list,
    messages::{KILLED, Messages},
};
use crate::{connect::ConnectOptions, tools::ToolDirs};

/// The most bytes of one line of pg_restore's stderr that are looked at: 4 KiB. A failed command can be as long as a function.
const LINE_BYTES_MAX: usize = 4 << 10;

/// How a pass is run.
#[derive(Debug, Clone, Default)]
pub struct PassOptions {
    /// Connections of the last pass, which builds indexes and constraints; the others need an order and take one.
    pub jobs: usize,
    /// Leaves everything to the role that restores.
    pub no_owner: bool,
    /// Leaves out GRANT and REVOKE.
    pub no_privileges: bool,
    /// Puts everything into the database's own tablespace.
    pub no_tablespaces: bool,
    /// The role to become before anything is made.
    pub role: Option<String>,
    /// Settings of every session.
    pub pins: Pins,
}

/// What a pass that succeeded has to tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassOutcome {
    /// Errors that were expected; see the list in [`super::TOLERATED`].
    pub tolerated: Vec<PassMessage>,
}

/// Runs one pass of pg_restore into the database named in `target`.
///
/// `archive_dir` holds the `toc.dat` of `archive` and should be readable by nobody else; the list is written beside it.
/// pg_restore opens no other file there. Its password comes by its own environment only, and it never asks for one. When
/// the returned future is dropped, pg_restore is killed.
///
/// # Errors
/// [`LoadError::Restore`] when it met any error that is not tolerated; [`LoadError::Tool`], [`LoadError::Run`],
/// [`LoadError::Write`].
pub async fn run_pass(
    target: &ConnectOptions,
    tools: &ToolDirs,
    archive_dir: &Path,
    archive: &Archive,
    pass: Pass,
    options: &PassOptions,
) -> Result<PassOutcome, LoadError> {
    let list = pass_list(archive, pass);
    if list.is_empty() {
        return Ok(PassOutcome::default());
    }
    let list_file = archive_dir.join(format!("{}.list", pass.as_str()));
    std::fs::write(&list_file, list)
        .map_err(|source| LoadError::Write { path: list_file.clone(), source })?;
    let program =
        tools.find("pg_restore", restorer_major(archive, options.pins.server_version_num))?;
    let mut command = Command::new(&program);
    command.args(arguments(target, archive_dir, &list_file, pass, options));
    target.set_child_env(&mut command);
    command.env("LC_ALL", "C").env("PGOPTIONS", options.pins.as_options());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let run = |source| LoadError::Run { program: program.clone(), source };
    let mut child = command.spawn().map_err(run)?;
    let said = read_stderr(&mut child).await.map_err(run)?;
    let status = child.wait().await.map_err(run)?;
    judge(pass, said, status)
}

/// The major version to look for: the target's own, but not below the one that wrote the archive, which could not read it.
fn restorer_major(archive: &Archive, server_version_num: i32) -> u32 {
    let wrote = archive.header.dump_version.as_deref().map(String::from_utf8_lossy);
    let wrote =
        wrote.and_then(|text| text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    let target = u32::try_from(server_version_num / 10_000).unwrap_or(0);
    target.max(wrote.unwrap_or(0))
}

fn arguments(
    target: &ConnectOptions,
    archive_dir: &Path,
    list_file: &Path,
    pass: Pass,
    options: &PassOptions,
) -> Vec<std::ffi::OsString> {
    let mut arguments: Vec<std::ffi::OsString> = vec![
        "--format=directory".into(),
        "--no-password".into(),
        "--verbose".into(),
        option("--use-list=", list_file),
    ];
    arguments.push(format!("--dbname={}", connection_string(&target.database)).into());
    if pass == Pass::Rest && options.jobs > 1 {
        arguments.push(format!("--jobs={}", options.jobs).into());
    }
    let switches = [
        (options.no_owner, "--no-owner"),
        (options.no_privileges, "--no-privileges"),
        (options.no_tablespaces, "--no-tablespaces"),
    ];
    arguments.extend(switches.into_iter().filter(|(on, _)| *on).map(|(_, switch)| switch.into()));
    arguments.extend(options.role.as_ref().map(|role| format!("--role={role}").into()));
    arguments.push(archive_dir.into());
    arguments
}

fn option(name: &str, path: &Path) -> std::ffi::OsString {
    let mut option = std::ffi::OsString::from(name);
    option.push(path);
    option
}

/// A database's name alone could be taken for a connection string (`a=b`, `postgresql://…`); so it is made one.
fn connection_string(database: &str) -> String {
    format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Reads all that pg_restore says, to its end.
async fn read_stderr(child: &mut Child) -> std::io::Result<Messages> {
    let mut messages = Messages::default();
    let Some(mut pipe) = child.stderr.take() else { return Ok(messages) };
    let (mut buffer, mut line) = (vec![0; 64 << 10], Vec::new());
    loop {
        let read = pipe.read(&mut buffer).await?;
        if read == 0 {
            messages.line(&line);
            return Ok(messages);
        }
        for part in buffer[..read].split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_BYTES_MAX - line.len();
            line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                messages.line(line.trim_ascii_end());
                line.clear();
            }
        }
    }
}

/// Success is exit 0 without an error, or exit 1 at the end with tolerated errors only, all of them seen. (Workers write to
/// the same pipe and may garble a line; then the count is not met, and that is a failure.)
fn judge(pass: Pass, said: Messages, status: ExitStatus) -> Result<PassOutcome, LoadError> {
    let Messages { tolerated, tolerated_count, mut errors, errors_count, ignored, .. } = said;
    let ended = status.success() || (status.code() == Some(1) && ignored == Some(tolerated_count));
    if ended && errors_count == 0 {
        return Ok(PassOutcome { tolerated });
    }
    if errors.is_empty() {
        let message = match status.signal() {
            Some(signal) => format!("{KILLED} {signal} and named no error"),
            None => format!("pg_restore ended with {status} and named no error"),
        };
        errors.push(PassMessage { entry: None, message });
    }
    Err(LoadError::Restore { pass: pass.as_str(), count: errors_count.max(1), errors })
}

/// A directory for [`run_pass`] with the archive's `toc.dat`, readable by its owner only, removed when dropped.
#[derive(Debug)]
pub struct ArchiveDir {
    path: PathBuf,
}

impl ArchiveDir {
    /// Makes the directory `path`, which must not exist, with mode 0700, and writes the table of contents into it.
    ///
    /// # Errors
    /// [`LoadError::Write`], [`LoadError::Contents`].
    pub fn create(path: PathBuf, archive: &Archive) -> Result<Self, LoadError> {
        use std::os::unix::fs::DirBuilderExt as _;
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|source| LoadError::Write { path: path.clone(), source })?;
        let dir = Self { path };
        let toc = dir.path.join("toc.dat");
        let file = std::fs::File::create_new(&toc);
        let file = file.map_err(|source| LoadError::Write { path: toc.clone(), source })?;
        let mut writer = std::io::BufWriter::new(file);
        archive.write_directory(&mut writer)?;
        writer
            .into_inner()
            .map_err(|error| LoadError::Write { path: toc, source: error.into_error() })?;
        Ok(dir)
    }

    /// Returns the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ArchiveDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the directory with the table of contents; remove it by hand");
        }
    }
}

#[cfg(test)]
mod tests {
    use stonekeep_format::ErrorKind;

    use super::*;

    fn judged(stderr: &str, code: i32) -> Result<PassOutcome, LoadError> {
        let mut said = Messages::default();
        stderr.lines().for_each(|line| said.line(line.as_bytes()));
        judge(Pass::Schema, said, ExitStatus::from_raw(code << 8))
    }

    const PUBLIC: &str = "pg_restore: from TOC entry 3; 2615 2200 SCHEMA public postgres\n\
        pg_restore: error: could not execute query: ERROR:  schema \"public\" already exists\n";

    #[test]
    fn tolerated_errors_count_only_at_the_end_and_when_all_were_seen() {
        let ended = format!("{PUBLIC}pg_restore: warning: errors ignored on restore: 1\n");
        assert!(judged(&ended, 1).is_ok_and(|outcome| outcome.tolerated.len() == 1));
        assert!(judged(PUBLIC, 1).is_err(), "it broke off");
        let more = format!("{PUBLIC}pg_restore: warning: errors ignored on restore: 2\n");
        assert!(judged(&more, 1).is_err());
    }

    #[test]
    fn silent_failure_is_a_failure() {
        assert!(judged("", 1).is_err());
        assert!(judged("", 0).is_ok());
    }

    #[test]
    fn the_first_error_says_what_to_do_for_the_others_may_come_of_it() {
        let error = |said: &str| format!("pg_restore: error: could not execute query: {said}\n");
        let full = error("ERROR:  could not extend file \"a\": No space left on device");
        let missing = error("ERROR:  relation \"i\" does not exist");
        let kind = |stderr: &str| judged(stderr, 1).map_err(|error| error.kind()).err();
        assert_eq!(kind(&format!("{full}{missing}")), Some(ErrorKind::Unavailable));
        assert_eq!(kind(&format!("{missing}{full}")), Some(ErrorKind::Config));
        let killed = judge(Pass::Rest, Messages::default(), ExitStatus::from_raw(9));
        assert!(killed.is_err_and(|error| error.kind() == ErrorKind::Unavailable));
    }

    #[test]
    fn database_name_is_never_a_connection_string() {
        assert_eq!(connection_string("a=b"), "dbname='a=b'");
        assert_eq!(connection_string(r"o'b\"), r"dbname='o\'b\\'");
    }
}
