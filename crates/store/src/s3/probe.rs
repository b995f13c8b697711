//! The attacks of `prove`, as requests. Nothing else in this crate can delete.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat, Utc};
use md5::{Digest as _, Md5};
use stonekeep_format::{
    Clock,
    genesis::LockBy,
    ids::{BucketName, SnapshotId, VersionId},
    key::ObjectKey,
    lock::{Lock, LockMode},
};

use super::{
    S3Options, S3Store, connect, whole_seconds,
    wire::{Request, Response, Wire},
};
use crate::{AppendStore, Attack, Canary, Planting, ProbeAnswer, ProbeStore, Reaction, StoreError};

/// What a canary holds.
const SONG: &str = "a canary of stonekeep prove: harmless, and gone when its lock ends\n";
/// A version id and an upload id that no server has made.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A repository on an S3 server, to attack it.
#[derive(Debug)]
pub struct S3Probe {
    store: S3Store,
    wire: Wire,
}

impl S3Probe {
    /// Returns a probe over `options`; see [`S3Store::open`].
    ///
    /// # Errors
    /// [`StoreError::Options`], and what asking for credentials answers.
    pub async fn open(options: S3Options, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let connector = connect::connector(&options)?;
        let credentials = connect::credentials(&options).await?;
        let store = S3Store::open(options, Arc::clone(&clock)).await?;
        let base = store.address().await?;
        let region = store.region.clone();
        let wire = Wire { connector, credentials, region, base, clock };
        Ok(Self { store, wire })
    }

    async fn send(&self, request: &Request, signed: bool) -> Result<Response, ProbeAnswer> {
        self.wire.send(request, signed).await.map_err(ProbeAnswer::silence)
    }

    /// Sends what must succeed for there to be a canary.
    async fn succeed(&self, request: &Request) -> Result<Response, ProbeAnswer> {
        let response = self.send(request, true).await?;
        match ProbeAnswer::new(response.answer()) {
            ProbeAnswer { reaction: Reaction::Done, .. } => Ok(response),
            answer => Err(answer),
        }
    }

    async fn put_in_parts(&self, key: &ObjectKey, lock: Lock) -> Result<Response, ProbeAnswer> {
        let request = |method, query: String| Request {
            method,
            key: self.store.full_key(key),
            query,
            ..Request::default()
        };
        let mut begin = request("POST", "?uploads=".to_owned());
        begin.headers = self.lock_headers(lock);
        let begun = self.succeed(&begin).await?;
        let id = begun.element("UploadId").unwrap_or_default().to_owned();
        let id = percent(&id);
        let part = Request {
            body: SONG.to_owned(),
            ..request("PUT", format!("?partNumber=1&uploadId={id}"))
        };
        self.succeed(&part).await?;
        let etag = md5_hex(SONG);
        let complete = Request {
            body: format!(
                "<CompleteMultipartUpload xmlns=\"{NAMESPACE}\"><Part><PartNumber>1</PartNumber><ETag>\"{etag}\"</ETag></Part></CompleteMultipartUpload>"
            ),
            ..request("POST", format!("?uploadId={id}"))
        };
        self.succeed(&complete).await
    }

    fn lock_headers(&self, lock: Lock) -> Vec<(&'static str, String)> {
        if self.store.lock_by == LockBy::BucketDefault { Vec::new() } else { named(lock) }
    }
}

/// The XML namespace of the S3 API.
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

fn named(lock: Lock) -> Vec<(&'static str, String)> {
    vec![
        ("x-amz-object-lock-mode", mode(lock.mode).to_owned()),
        ("x-amz-object-lock-retain-until-date", date(lock.retain_until)),
    ]
}

const fn mode(mode: LockMode) -> &'static str {
    match mode {
        LockMode::Compliance => "COMPLIANCE",
        LockMode::Governance => "GOVERNANCE",
    }
}

fn date(at: DateTime<Utc>) -> String {
    let at = super::when(&whole_seconds(at)).unwrap_or(at);
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn retention(lock: Lock) -> String {
    let (mode, until) = (mode(lock.mode), date(lock.retain_until));
    format!(
        "<Retention xmlns=\"{NAMESPACE}\"><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>"
    )
}

/// Encodes what stands in XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Encodes what stands in a query.
fn percent(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let encode = |byte: u8| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(encode).collect()
}

fn md5_hex(text: &str) -> String {
    Md5::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[async_trait]
impl ProbeStore for S3Probe {
    fn store(&self) -> &dyn AppendStore {
        &self.store
    }

    async fn plant(
        &self,
        run: &SnapshotId,
        name: &str,
        planting: Planting,
    ) -> Result<Canary, ProbeAnswer> {
        let key = match planting {
            Planting::Beside(_) | Planting::Outside(_) => beside(run),
            _ => ObjectKey::canary(run, name),
        };
        let lock = planting.lock();
        let response = if let Planting::Multipart(_) = planting {
            self.put_in_parts(&key, lock).await?
        } else {
            let mut headers = match planting {
                Planting::NamedLock(_) => named(lock),
                Planting::Unlocked(_) => Vec::new(),
                _ => self.lock_headers(lock),
            };
            headers.extend(own_headers(planting));
            let full_key = match (planting, self.store.prefix.trim_end_matches('/')) {
                (Planting::Outside(_), prefix) if !prefix.is_empty() => format!("{prefix}-{key}"),
                _ => self.store.full_key(&key),
            };
            let (key, body) = (full_key, SONG.to_owned());
            let put = Request { method: "PUT", key, query: String::new(), headers, body };
            self.succeed(&put).await?
        };
        let version = response.version_id.as_deref().unwrap_or_default().parse();
        version.map(|version_id| Canary::new(key, version_id)).map_err(ProbeAnswer::silence)
    }

    async fn attack(&self, attack: Attack, canary: &Canary, signed: bool) -> ProbeAnswer {
        let key = self.store.full_key(canary.key());
        let request = request(attack, &key, canary.version_id(), &self.store.bucket);
        match self.send(&request, signed).await {
            Ok(response) => ProbeAnswer::new(response.answer()),
            Err(answer) => answer,
        }
    }
}

fn beside(run: &SnapshotId) -> ObjectKey {
    format!("canary-outside/{run}").parse().expect("an id makes a short key")
}

fn own_headers(planting: Planting) -> Vec<(&'static str, String)> {
    match planting {
        Planting::LegalHold(_) => vec![("x-amz-object-lock-legal-hold", "ON".to_owned())],
        Planting::EventHold(_) => vec![
            ("x-amz-object-lock-event-hold", "ON".to_owned()),
            ("x-amz-object-lock-event-hold-duration-days", "1".to_owned()),
        ],
        Planting::ForeignKey(_) => vec![
            ("x-amz-server-side-encryption", "aws:kms".to_owned()),
            (
                "x-amz-server-side-encryption-aws-kms-key-id",
                "00000000-0000-0000-0000-000000000000".to_owned(),
            ),
        ],
        _ => Vec::new(),
    }
}

/// Returns the request of an attack. What goes to the bucket can take effect nowhere: see [`Attack`].
fn request(attack: Attack, key: &str, version: &VersionId, bucket: &BucketName) -> Request {
    let of_version = format!("versionId={}", percent(version.as_str()));
    let on_object = |method, query: String| Request {
        method,
        key: key.to_owned(),
        query,
        ..Request::default()
    };
    let on_bucket = |method, query: &str, body: &str| Request {
        method,
        query: query.to_owned(),
        body: body.to_owned(),
        ..Request::default()
    };
    let with = |mut request: Request, name, value: &str| {
        request.headers.push((name, value.to_owned()));
        request
    };
    let bypassing = |request, bypass| match bypass {
        true => with(request, "x-amz-bypass-governance-retention", "true"),
        false => request,
    };
    let relock = |query: String, body: String| Request { body, ..on_object("PUT", query) };
    match attack {
        Attack::DeleteVersion { bypass } => {
            bypassing(on_object("DELETE", format!("?{of_version}")), bypass)
        }
        Attack::DeleteMany { bypass } => {
            // A version id is the server's word.
            let version = escaped(version.as_str());
            let body = format!(
                "<Delete xmlns=\"{NAMESPACE}\"><Object><Key>{key}</Key><VersionId>{version}</VersionId></Object></Delete>"
            );
            bypassing(on_bucket("POST", "?delete=", &body), bypass)
        }
        Attack::Relock(lock) => relock(format!("?retention=&{of_version}"), retention(lock)),
        Attack::ClearLock => relock(
            format!("?retention=&{of_version}"),
            format!("<Retention xmlns=\"{NAMESPACE}\"></Retention>"),
        ),
        Attack::LockNothing { until } => relock(
            format!("?retention=&versionId={NO_ID}"),
            retention(Lock { mode: LockMode::Compliance, retain_until: until }),
        ),
        Attack::Hide => on_object("DELETE", String::new()),
        Attack::Overwrite { conditional } => {
            let put = Request { body: SONG.to_owned(), ..on_object("PUT", String::new()) };
            if conditional { with(put, "if-none-match", "*") } else { put }
        }
        Attack::Hold => Request {
            body: format!("<LegalHold xmlns=\"{NAMESPACE}\"><Status>ON</Status></LegalHold>"),
            ..on_object("PUT", format!("?legal-hold=&{of_version}"))
        },
        Attack::Publish => {
            with(on_object("PUT", format!("?acl=&{of_version}")), "x-amz-acl", "public-read")
        }
        Attack::Read => on_object("GET", format!("?{of_version}")),
        Attack::List => on_bucket("GET", "?list-type=2&max-keys=1", ""),
        Attack::ListVersions => on_bucket("GET", "?max-keys=1&versions=", ""),
        Attack::ForeignOwner => {
            let owner = "x-amz-expected-bucket-owner";
            with(on_bucket("GET", "?location=", ""), owner, "000000000000")
        }
        Attack::SuspendVersioning => on_bucket("PUT", "?versioning=", &suspended()),
        Attack::DeleteBucket => on_bucket("DELETE", "", ""),
        Attack::AbortUpload => on_object("DELETE", format!("?uploadId={NO_ID}")),
        Attack::ListUploads => on_bucket("GET", "?max-uploads=1&uploads=", ""),
        oracle => on_oracle(oracle, bucket),
    }
}

fn suspended() -> String {
    format!(
        "<VersioningConfiguration xmlns=\"{NAMESPACE}\"><Status>Suspended</Status></VersioningConfiguration>"
    )
}

/// Requests whose body no server can act on: whether rights are looked at first is what is asked.
fn on_oracle(attack: Attack, bucket: &BucketName) -> Request {
    let (query, headers, body) = match attack {
        Attack::Lifecycle => (
            "?lifecycle=",
            Vec::new(),
            format!(
                "<LifecycleConfiguration xmlns=\"{NAMESPACE}\"><Rule><ID>canary</ID><Filter><Prefix>canary/</Prefix></Filter><Status>Bogus</Status><Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>"
            ),
        ),
        Attack::DefaultRetention => (
            "?object-lock=",
            Vec::new(),
            format!(
                "<ObjectLockConfiguration xmlns=\"{NAMESPACE}\"><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>1</Days><Years>1</Years></DefaultRetention></Rule></ObjectLockConfiguration>"
            ),
        ),
        Attack::Policy => (
            "?policy=",
            Vec::new(),
            format!(
                r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Bogus","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::{bucket}/canary/*"}}]}}"#
            ),
        ),
        // Ceph takes any algorithm, and no document of another name.
        Attack::Encryption => ("?encryption=", Vec::new(), "<Bogus/>".to_owned()),
        Attack::Replication => (
            "?replication=",
            Vec::new(),
            format!(
                "<ReplicationConfiguration xmlns=\"{NAMESPACE}\"><Role>bogus</Role><Rule><Status>Bogus</Status><Prefix>canary/</Prefix><Destination><Bucket>bogus</Bucket></Destination></Rule></ReplicationConfiguration>"
            ),
        ),
        Attack::PublicAccess => (
            "?publicAccessBlock=",
            Vec::new(),
            format!(
                "<PublicAccessBlockConfiguration xmlns=\"{NAMESPACE}\"><BlockPublicAcls>Bogus</BlockPublicAcls></PublicAccessBlockConfiguration>"
            ),
        ),
        Attack::Ownership => (
            "?ownershipControls=",
            Vec::new(),
            format!(
                "<OwnershipControls xmlns=\"{NAMESPACE}\"><Rule><ObjectOwnership>Bogus</ObjectOwnership></Rule></OwnershipControls>"
            ),
        ),
        _ => ("?acl=", vec![("x-amz-acl", "bogus".to_owned())], String::new()),
    };
    let query = query.to_owned();
    Request { method: "PUT", key: String::new(), query, headers, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_id_names_nothing_else() {
        let key = "keep/canary/x/y";
        let version = "v</VersionId></Object><Object><Key>keep/manifests/z</Key><VersionId>w&";
        let version: VersionId = version.parse().unwrap();
        let bucket: BucketName = "vault".parse().unwrap();
        for bypass in [false, true] {
            let request = request(Attack::DeleteMany { bypass }, key, &version, &bucket);
            assert_eq!(request.body.matches("<Key>").count(), 1, "{}", request.body);
            let one = super::request(Attack::DeleteVersion { bypass }, key, &version, &bucket);
            assert_eq!((one.key.as_str(), one.query.contains('<')), (key, false));
        }
    }
}
