//! `--target`: the database to restore into.

use stonekeep_config::{
    DatabaseUrl, Environment,
    database::TlsGiven,
    password::{self, Login},
    url::TlsParameters,
};
use stonekeep_postgres::connect::ConnectOptions;
use stonekeep_process::options;

use crate::failure::Failure;

/// Reads the URL that `option` gives and finds its password. A password in the URL is refused: it is in the process list already.
/// What it says of TLS is said in libpq's names.
pub(crate) fn parse(
    url: &str,
    option: &'static str,
    environment: &Environment,
) -> Result<ConnectOptions, Failure> {
    let refused = |source| Failure::TargetUrl { option, source };
    let url: DatabaseUrl = url.parse().map_err(refused)?;
    let (url, tls) = url.take_tls().map_err(refused)?;
    let connect = ConnectOptions::parse(url.as_str())
        .map_err(|source| Failure::Target { option, source: Box::new(source) })?;
    let login = Login {
        host: &connect.host,
        port: connect.port,
        database: &connect.database,
        user: &connect.user,
    };
    let password = password::find(login, None, environment)?;
    let TlsParameters { mode, ca_file, client_cert_file, client_key_file } = tls;
    let files = [&ca_file, &client_cert_file, &client_key_file].map(Option::as_deref);
    let given = TlsGiven::of(files, environment)?;
    let tls = options::tls(&connect.host, mode, given).map_err(Failure::Memory)?;
    Ok(connect.with_password(password).with_tls(tls))
}
