//! One connection to one PostgreSQL server, and the same address for its own client programs.

use std::{ffi::OsString, fmt, ops::Deref, str::FromStr, sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use stonekeep_format::ErrorKind;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls, config::Host, config::SslMode, error::SqlState};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    pem::Pem,
    tls::{self, TlsError},
};

/// How long a server may take to answer (10 s).
const CONNECT_DURATION_MAX: Duration = Duration::from_secs(10);
/// When an idle connection is first probed (60 s): below the idle limits of common firewalls and NAT gateways (350 s on AWS).
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// What a child gets of our environment: where programs and libraries are, and settings of the host for TLS and time.
const HANDED_ON: &[&str] = &[
    "PATH",
    "LD_LIBRARY_PATH",
    "HOME",
    "TMPDIR",
    "TZ",
    "OPENSSL_CONF",
    "OPENSSL_MODULES",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];
const APPLICATION_NAME: &str = "stonekeep";

/// How a connection is protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Not at all.
    Disable,
    /// Encrypted; the server's certificate is checked only if a `ca_file` is given (as libpq's `require`).
    Require,
    /// Encrypted; the certificate is checked against `ca_file` or the system's roots, and names the host.
    #[default]
    VerifyFull,
}

/// How a connection is protected, with the files it takes.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// How far.
    pub mode: TlsMode,
    /// Certificates of the authorities that are believed.
    pub authorities: Option<Pem>,
    /// Our certificate.
    pub client_cert: Option<Pem>,
    /// Its private key.
    pub client_key: Option<Pem>,
}

/// The address of a database, and how to log in.
#[derive(Clone)]
pub struct ConnectOptions {
    /// Host name, address, or the directory of a Unix socket (it begins with `/`).
    pub host: String,
    /// Port; 5432 unless given.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    password: Option<SecretString>,
    tls: TlsOptions,
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}/{}", self.user, self.host, self.port, self.database)
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL cannot be used.
    #[error(
        "the database URL cannot be used ({why}): write it as postgres://ROLE@HOST:PORT/DATABASE"
    )]
    Url {
        /// What is wrong with it.
        why: String,
    },
    /// Nobody answers.
    #[error("cannot reach PostgreSQL at {address}: check host, port and firewall")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What happened.
        #[source]
        source: tokio_postgres::Error,
    },
    /// It took longer than 10 s.
    #[error("PostgreSQL at {address} did not answer within 10 s")]
    TimedOut {
        /// Host and port.
        address: String,
    },
    /// The server asks for a password and none is configured.
    #[error(
        "PostgreSQL at {address} asks for a password for {user:?} and none is configured: set password_file, PGPASSFILE or PGPASSWORD"
    )]
    NoPassword {
        /// Host and port.
        address: String,
        /// The role.
        user: String,
    },
    /// Wrong password, no such role, or no line in `pg_hba.conf`.
    #[error(
        "PostgreSQL at {address} does not let {user:?} in (SQLSTATE {sqlstate}): check the role, its password and pg_hba.conf"
    )]
    Denied {
        /// Host and port.
        address: String,
        /// The role.
        user: String,
        /// The server's code.
        sqlstate: String,
    },
    /// There is no such database.
    #[error("there is no database {database:?} on {address}")]
    NoSuchDatabase {
        /// Its name.
        database: String,
        /// Host and port.
        address: String,
    },
    /// TLS cannot be set up from the configured files.
    #[error("cannot set up TLS")]
    Tls(#[from] TlsError),
    /// TLS failed on the wire.
    #[error(
        "cannot establish TLS with {address}: check the server's certificate, ca_file and the tls setting"
    )]
    Handshake {
        /// Host and port.
        address: String,
        /// What happened.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server is starting, stopping or full.
    #[error(
        "PostgreSQL at {address} takes no connection now (SQLSTATE {sqlstate}): it is full, starting or stopping; try again"
    )]
    Busy {
        /// Host and port.
        address: String,
        /// The server's code.
        sqlstate: String,
    },
    /// Anything else the server said.
    #[error("PostgreSQL at {address} refused the connection")]
    Refused {
        /// Host and port.
        address: String,
        /// What it said.
        #[source]
        source: tokio_postgres::Error,
    },
}

impl ConnectError {
    /// Returns what to do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Url { .. }
            | Self::NoSuchDatabase { .. }
            | Self::Tls(_)
            | Self::Handshake { .. } => ErrorKind::Config,
            Self::Unreachable { .. } | Self::TimedOut { .. } => ErrorKind::Unreachable,
            Self::Denied { .. } | Self::NoPassword { .. } => ErrorKind::Denied,
            Self::Busy { .. } | Self::Refused { .. } => ErrorKind::Unavailable,
        }
    }
}

impl ConnectOptions {
    /// Reads a `postgres://` URL with exactly one host.
    ///
    /// # Errors
    /// [`ConnectError::Url`].
    pub fn parse(url: &str) -> Result<Self, ConnectError> {
        let bad = |why: &str| ConnectError::Url { why: why.to_owned() };
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(bad("it does not begin with postgres://"));
        }
        // The driver's message may quote the URL, which may hold a password.
        let config = Config::from_str(url)
            .map_err(|_| bad("it is not well formed, or has a parameter that is set elsewhere"))?;
        let host = match config.get_hosts() {
            [Host::Tcp(name)] => name.clone(),
            [Host::Unix(path)] => path.to_string_lossy().into_owned(),
            [] => return Err(bad("it names no host")),
            _ => {
                return Err(bad(
                    "it names more than one host; all sessions must reach the same server",
                ));
            }
        };
        let user = config.get_user().ok_or_else(|| bad("it names no role"))?.to_owned();
        let database = config.get_dbname().ok_or_else(|| bad("it names no database"))?.to_owned();
        let port = config.get_ports().first().copied().unwrap_or(5432);
        Ok(Self {
            host,
            port,
            user,
            database,
            password: None,
            tls: TlsOptions { mode: TlsMode::Disable, ..TlsOptions::default() },
        })
    }

    /// The same with a password.
    #[must_use]
    pub fn with_password(mut self, password: Option<SecretString>) -> Self {
        self.password = password;
        self
    }

    /// The same with another protection.
    #[must_use]
    pub fn with_tls(mut self, tls: TlsOptions) -> Self {
        self.tls = tls;
        self
    }

    /// The same server and role, another database.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Self {
        Self { database: database.to_owned(), ..self.clone() }
    }

    /// Returns host and port as a person writes them.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The superuser of a cluster whose socket is in `dir`, in the database `postgres`.
    pub(crate) fn by_socket(dir: &str) -> Self {
        let name = "postgres".to_owned();
        Self {
            host: dir.to_owned(),
            port: 5432,
            user: name.clone(),
            database: name,
            password: None,
            tls: TlsOptions { mode: TlsMode::Disable, ..TlsOptions::default() },
        }
    }

    /// Gives a child process the environment from which libpq makes the same connection. It holds the password, which so
    /// never is in an argument, and of our own environment only what is in `HANDED_ON`: neither a variable of libpq that leads
    /// elsewhere nor a secret that is none of the child's business.
    pub fn set_child_env(&self, child: &mut tokio::process::Command) {
        clear_child_env(child);
        let mode = match self.tls.mode {
            TlsMode::Disable => "disable",
            TlsMode::Require if self.tls.authorities.is_some() => "verify-ca",
            TlsMode::Require => "require",
            TlsMode::VerifyFull => "verify-full",
        };
        let system_roots = (self.tls.mode == TlsMode::VerifyFull).then(tls::system_roots_file);
        let files = [
            ("PGSSLROOTCERT", self.tls.authorities.as_ref().map(Pem::child_path).or(system_roots)),
            ("PGSSLCERT", self.tls.client_cert.as_ref().map(Pem::child_path)),
            ("PGSSLKEY", self.tls.client_key.as_ref().map(Pem::child_path)),
        ];
        child
            .env("PGHOST", &self.host)
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", &self.user)
            .env("PGDATABASE", &self.database)
            .env("PGSSLMODE", mode)
            .env("PGAPPNAME", APPLICATION_NAME)
            .env("PGCONNECT_TIMEOUT", CONNECT_DURATION_MAX.as_secs().to_string())
            // A path that cannot be: of one that is no plain file, libpq warns.
            .env("PGPASSFILE", "/dev/null/none")
            .envs(files.into_iter().filter_map(|(name, file)| Some((name, file?))));
        if let Some(password) = &self.password {
            child.env("PGPASSWORD", password.expose_secret());
        }
    }

    fn config(&self) -> Config {
        let mut config = Config::new();
        config
            .host(&self.host)
            .port(self.port)
            .user(&self.user)
            .dbname(&self.database)
            .application_name(APPLICATION_NAME)
            .connect_timeout(CONNECT_DURATION_MAX)
            .keepalives_idle(KEEPALIVE_IDLE)
            .ssl_mode(if self.tls.mode == TlsMode::Disable {
                SslMode::Disable
            } else {
                SslMode::Require
            });
        if let Some(password) = &self.password {
            config.password(password.expose_secret());
        }
        config
    }

    fn error(&self, source: tokio_postgres::Error) -> ConnectError {
        let address = self.address();
        let Some(code) = source.code() else { return self.silent_error(source) };
        let sqlstate = code.code().to_owned();
        match code {
            code if *code == SqlState::INVALID_CATALOG_NAME => {
                ConnectError::NoSuchDatabase { database: self.database.clone(), address }
            }
            code if *code == SqlState::INVALID_PASSWORD
                || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION =>
            {
                ConnectError::Denied { address, user: self.user.clone(), sqlstate }
            }
            _ if sqlstate.starts_with("53") || sqlstate.starts_with("57P0") => {
                ConnectError::Busy { address, sqlstate }
            }
            _ => ConnectError::Refused { address, source },
        }
    }

    /// An error that the server did not send.
    fn silent_error(&self, source: tokio_postgres::Error) -> ConnectError {
        use std::error::Error as _;
        let address = self.address();
        let is_io = source.source().is_some_and(|cause| cause.is::<std::io::Error>());
        let text = source.to_string();
        if text.contains("password missing") || text.contains("invalid configuration") {
            return ConnectError::NoPassword { address, user: self.user.clone() };
        }
        if text.contains("TLS") {
            ConnectError::Handshake { address, source }
        } else if is_io || text.contains("connecting") || text.contains("timed out") {
            ConnectError::Unreachable { address, source }
        } else {
            ConnectError::Refused { address, source }
        }
    }
}

/// Leaves a child process nothing of our environment but what is in `HANDED_ON`.
pub(crate) fn clear_child_env(child: &mut tokio::process::Command) {
    let is_handed_on = |name: &OsString| HANDED_ON.iter().any(|known| name == *known);
    child.env_clear().envs(std::env::vars_os().filter(|(name, _)| is_handed_on(name)));
}

/// A connection and the task that drives it; both end when it is dropped.
pub struct Session {
    client: Client,
    task: JoinHandle<()>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}

impl Deref for Session {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Connects.
///
/// # Errors
/// [`ConnectError`].
pub async fn connect(options: &ConnectOptions) -> Result<Session, ConnectError> {
    let attempt = open(options);
    let timed_out = |_| ConnectError::TimedOut { address: options.address() };
    tokio::time::timeout(2 * CONNECT_DURATION_MAX, attempt).await.map_err(timed_out)?
}

async fn open(options: &ConnectOptions) -> Result<Session, ConnectError> {
    let config = options.config();
    if options.tls.mode == TlsMode::Disable {
        let (client, connection) =
            config.connect(NoTls).await.map_err(|error| options.error(error))?;
        return Ok(Session { client, task: tokio::spawn(drive(connection)) });
    }
    let tls = MakeRustlsConnect::new(Arc::unwrap_or_clone(tls::client_config(&options.tls)?));
    let (client, connection) = config.connect(tls).await.map_err(|error| options.error(error))?;
    Ok(Session { client, task: tokio::spawn(drive(connection)) })
}

/// What ends a connection also fails the call that waits on it, so the error is told there and not here.
async fn drive(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    if let Err(error) = connection.await {
        tracing::debug!(error = %crate::refusal::Refusal::quiet(&error), "a connection to PostgreSQL ended");
    }
}
