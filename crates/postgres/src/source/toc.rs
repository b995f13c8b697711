//! pg_dump and pg_dumpall as children: what a database is made of, in pg_dump's own words.

use std::{io::BufReader, process::Stdio, time::Duration};

use stonekeep_format::archive::{Archive, ArchiveError};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    task::JoinHandle,
};
use tokio_util::io::SyncIoBridge;

use super::{DumpError, SourceInfo, SourceOptions};

/// How long pg_dump may take for its table of contents (30 min): 20 000 tables take some seconds.
const TOC_DURATION_MAX: Duration = Duration::from_secs(1800);
/// How long an ended program's stderr may stay open (10 s): a program that it left behind may hold it.
const STDERR_DURATION_MAX: Duration = Duration::from_secs(10);
/// The longest stderr that is kept (64 KiB), and the longest output of pg_dumpall (64 MiB).
const STDERR_BYTES_MAX: u64 = 64 << 10;
const GLOBALS_BYTES_MAX: u64 = 64 << 20;
/// What tar is made of, in bytes.
const TAR_BLOCK: usize = 512;

/// pg_dump's table of contents and what it warned of.
#[derive(Debug)]
pub(super) struct Toc {
    pub(super) archive: Archive,
    pub(super) warnings: Vec<String>,
}

/// Starts pg_dump under the snapshot, reads its table of contents from the pipe, and stops it before it sends data.
pub(super) async fn read(
    options: &SourceOptions,
    info: &SourceInfo,
    snapshot: &str,
) -> Result<Toc, DumpError> {
    let mut command = tool(options, info, "pg_dump")?;
    command.args(["-Fc", "-Z0", "--no-password", "--lock-wait-timeout=300ms"]);
    command.arg(format!("--snapshot={snapshot}")).arg(format!("--encoding={}", info.encoding));
    let mut child = spawn(command, "pg_dump")?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let stderr = tokio::spawn(read_bounded(stderr, STDERR_BYTES_MAX));
    let Some(stdout) = stdout else { return Err(lost_pipe("pg_dump")) };
    let reading = tokio::task::spawn_blocking(move || {
        Archive::read_custom(&mut BufReader::new(SyncIoBridge::new(stdout)))
    });
    let archive =
        tokio::time::timeout(TOC_DURATION_MAX, reading).await.map_err(|_| DumpError::Silent)?;
    match archive.map_err(DumpError::Task)? {
        Ok(archive) => {
            stop(&mut child).await;
            Ok(Toc { archive, warnings: lines(&ended(stderr).await) })
        }
        Err(error) => Err(failure(child, ended(stderr).await, error).await),
    }
}

/// What an ended program said.
async fn ended(stderr: JoinHandle<Vec<u8>>) -> Vec<u8> {
    let abort = stderr.abort_handle();
    let said = tokio::time::timeout(STDERR_DURATION_MAX, stderr).await;
    abort.abort();
    said.ok().and_then(Result::ok).unwrap_or_default()
}

/// The table of contents is complete: pg_dump may have ended, or is blocked in its first COPY.
async fn stop(child: &mut Child) {
    // An error here means that it has ended already.
    drop(child.start_kill());
    drop(child.wait().await);
}

/// A pg_dump that failed says why on stderr; one that ended well wrote something we cannot read.
async fn failure(mut child: Child, said: Vec<u8>, error: ArchiveError) -> DumpError {
    let waited = tokio::time::timeout(Duration::from_secs(10), child.wait()).await;
    match waited {
        Ok(Ok(status)) if !status.success() => DumpError::Child {
            tool: "pg_dump",
            status: status.to_string(),
            stderr: lines(&said).join("; "),
        },
        _ => DumpError::Archive(error),
    }
}

/// Runs `pg_dumpall --globals-only`, without passwords where the role may not read them.
pub(super) async fn globals(
    options: &SourceOptions,
    info: &SourceInfo,
) -> Result<(Vec<u8>, Vec<String>), DumpError> {
    let mut command = tool(options, info, "pg_dumpall")?;
    command.args(["--globals-only", "--no-password"]).arg(format!("--database={}", info.database));
    if !info.reads_passwords {
        command.arg("--no-role-passwords");
    }
    let mut child = spawn(command, "pg_dumpall")?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let both = async {
        tokio::join!(
            read_bounded(stdout, GLOBALS_BYTES_MAX + 1),
            read_bounded(stderr, STDERR_BYTES_MAX)
        )
    };
    let (globals, said) =
        tokio::time::timeout(TOC_DURATION_MAX, both).await.map_err(|_| DumpError::Silent)?;
    let status =
        child.wait().await.map_err(|source| DumpError::Spawn { tool: "pg_dumpall", source })?;
    if globals.len() as u64 > GLOBALS_BYTES_MAX {
        return Err(DumpError::GlobalsTooLong { bytes_max: GLOBALS_BYTES_MAX });
    }
    if status.success() {
        return Ok((globals, lines(&said)));
    }
    Err(DumpError::Child {
        tool: "pg_dumpall",
        status: status.to_string(),
        stderr: lines(&said).join("; "),
    })
}

/// Asks pg_dump for its version.
pub(super) async fn version(
    options: &SourceOptions,
    info: &SourceInfo,
) -> Result<String, DumpError> {
    let mut command = tool(options, info, "pg_dump")?;
    let output = command.arg("--version").output().await;
    let output = output.map_err(|source| DumpError::Spawn { tool: "pg_dump", source })?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.trim().trim_start_matches("pg_dump (PostgreSQL) ").to_owned())
}

fn tool(
    options: &SourceOptions,
    info: &SourceInfo,
    name: &'static str,
) -> Result<Command, DumpError> {
    let mut command = Command::new(options.tools.find(name, info.major())?);
    options.connect.set_child_env(&mut command);
    command.env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    Ok(command)
}

fn spawn(mut command: Command, tool: &'static str) -> Result<Child, DumpError> {
    command.spawn().map_err(|source| DumpError::Spawn { tool, source })
}

fn lost_pipe(tool: &'static str) -> DumpError {
    DumpError::Spawn { tool, source: std::io::Error::other("its output is not a pipe") }
}

/// Reads to the end, keeping the first `bytes_max` bytes.
async fn read_bounded(reader: Option<impl AsyncRead + Unpin>, bytes_max: u64) -> Vec<u8> {
    let Some(mut reader) = reader else { return Vec::new() };
    let mut kept = Vec::new();
    // What cannot be read is missing from a message, no more; the exit status decides.
    drop((&mut reader).take(bytes_max).read_to_end(&mut kept).await);
    drop(tokio::io::copy(&mut reader, &mut tokio::io::sink()).await);
    kept
}

fn lines(said: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(said)
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Has `pg_restore --list` read the `toc.dat` of `archive`: what it cannot read must not become a snapshot.
///
/// It comes as the only member of a tar archive on pg_restore's standard input: pg_dump writes the same `toc.dat` into a
/// directory and into a tar archive. So this needs no place to write.
///
/// # Errors
/// [`DumpError`] if pg_restore does not read it.
pub async fn check_readable(
    options: &SourceOptions,
    info: &SourceInfo,
    archive: &Archive,
) -> Result<(), DumpError> {
    let failed = |source| DumpError::Spawn { tool: "pg_restore", source };
    let contents = in_tar(archive)?;
    let mut command = tool(options, info, "pg_restore")?;
    command.args(["--format=tar", "--list"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = spawn(command, "pg_restore")?;
    let stdin = child.stdin.take();
    let writing = tokio::spawn(async move {
        // What it does not take, it tells by its exit code.
        if let Some(mut stdin) = stdin {
            drop(stdin.write_all(&contents).await);
        }
    });
    let output = tokio::time::timeout(TOC_DURATION_MAX, child.wait_with_output())
        .await
        .map_err(|_| DumpError::Silent)?;
    writing.abort();
    let output = output.map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = lines(&output.stderr).join("; ");
    Err(DumpError::Child { tool: "pg_restore", status: output.status.to_string(), stderr })
}

/// A tar archive: a header, the member, zeros to the end of its block, two blocks of zeros.
fn in_tar(archive: &Archive) -> Result<Vec<u8>, DumpError> {
    let mut tar = vec![0; TAR_BLOCK];
    archive.write_directory(&mut tar).map_err(DumpError::Archive)?;
    let mut header = tar::Header::new_ustar();
    let named = header.set_path("toc.dat");
    named.map_err(|source| DumpError::Spawn { tool: "pg_restore", source })?;
    header.set_size((tar.len() - TAR_BLOCK) as u64);
    header.set_mode(0o600);
    header.set_cksum();
    tar[..TAR_BLOCK].copy_from_slice(header.as_bytes());
    tar.resize(tar.len().next_multiple_of(TAR_BLOCK) + 2 * TAR_BLOCK, 0);
    Ok(tar)
}
