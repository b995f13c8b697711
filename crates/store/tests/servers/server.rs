//! The server in the environment: who may do what there, and hands that do not keep to our store.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_s3::{
    Client, Config,
    config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation},
};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use stonekeep_format::{Clock, genesis::LockBy, key::ObjectKey};
use stonekeep_store::{
    ProvisionStore, S3Credentials, S3Options, S3Store,
    contract::{Lack, Server},
};

use crate::lacks;

pub(crate) const PREFIX: &str = "keep/prod";

/// The host's clock, off by so much; sleeping is real.
#[derive(Debug)]
pub(crate) struct HostClock(pub(crate) TimeDelta);

impl Clock for HostClock {
    #[expect(clippy::disallowed_methods, reason = "the server's clock is real")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now() + self.0
    }
    #[expect(clippy::disallowed_methods, reason = "the server's clock is real")]
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }
}

#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) key: String,
    pub(crate) secret: String,
}

/// A server that `./test` has started, and its users.
#[derive(Debug)]
pub(crate) struct OnServer {
    /// What it is: `ceph16`, `moto`…; see [`lacks`].
    pub(crate) name: String,
    pub(crate) endpoint: String,
    pub(crate) owner: Account,
    pub(crate) writer: Account,
    pub(crate) reader: Account,
}

impl OnServer {
    /// The server that the other tests use, too; `./test --servers` sets another one in its place.
    pub(crate) fn s3() -> Self {
        Self::of("STONEKEEP_TEST_S3", variable("STONEKEEP_TEST_S3_SERVER"))
    }

    /// The server that keeps no locks.
    pub(crate) fn moto() -> Self {
        Self::of("STONEKEEP_TEST_MOTO", "moto".to_owned())
    }

    fn of(variables: &str, name: String) -> Self {
        Self {
            name,
            endpoint: variable(&format!("{variables}_ENDPOINT")),
            owner: account(&format!("{variables}_OWNER")),
            writer: account(&format!("{variables}_WRITER")),
            reader: account(&format!("{variables}_READER")),
        }
    }

    pub(crate) fn options(&self, bucket: &str, account: &Account) -> S3Options {
        S3Options {
            bucket: bucket.parse().unwrap(),
            prefix: PREFIX.to_owned(),
            region: "us-east-1".to_owned(),
            endpoint: Some(self.endpoint.clone()),
            path_style: true,
            authorities: None,
            lock_by: LockBy::PerObject,
            credentials: S3Credentials::Static {
                access_key_id: account.key.clone(),
                secret_access_key: account.secret.clone().into(),
                session_token: None,
            },
        }
    }

    /// The owner's own hands, past our crate: they overwrite and delete.
    pub(crate) fn raw(&self) -> Client {
        let Account { key, secret } = &self.owner;
        let config = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .endpoint_url(&self.endpoint)
            .force_path_style(true)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .credentials_provider(Credentials::new(key, secret, None, None, "test"));
        Client::from_conf(config.build())
    }

    pub(crate) async fn vault(&self) -> S3Store {
        let store = open(self.options(&fresh_name(), &self.owner)).await;
        store.create_bucket().await.unwrap();
        store
    }
}

#[expect(clippy::disallowed_methods, reason = "a test finds its server in the environment")]
fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run ./test, which starts a server"))
}

fn account(name: &str) -> Account {
    let text = variable(name);
    let (key, secret) = text.split_once(':').expect("KEY:SECRET");
    Account { key: key.to_owned(), secret: secret.to_owned() }
}

pub(crate) async fn open(options: S3Options) -> S3Store {
    S3Store::open(options, Arc::new(HostClock(TimeDelta::zero()))).await.unwrap()
}

pub(crate) fn fresh_name() -> String {
    format!("contract-{:016x}", rand::random::<u64>())
}

pub(crate) fn full(key: &ObjectKey) -> String {
    format!("{PREFIX}/{key}")
}

#[async_trait]
impl Server for OnServer {
    fn now(&self) -> DateTime<Utc> {
        HostClock(TimeDelta::zero()).now()
    }
    async fn absent(&self) -> Arc<dyn ProvisionStore> {
        Arc::new(open(self.options(&fresh_name(), &self.owner)).await)
    }
    async fn without_lock(&self) -> Arc<dyn ProvisionStore> {
        let name = fresh_name();
        self.raw().create_bucket().bucket(&name).send().await.unwrap();
        Arc::new(open(self.options(&name, &self.owner)).await)
    }
    async fn stranger(&self, store: &Arc<dyn ProvisionStore>) -> Arc<dyn ProvisionStore> {
        Arc::new(open(self.options(store.bucket().as_str(), &self.reader)).await)
    }
    async fn plant(&self, store: &Arc<dyn ProvisionStore>, key: &ObjectKey, body: Bytes) {
        let put = self.raw().put_object().bucket(store.bucket().as_str()).key(full(key));
        put.body(body.into()).send().await.unwrap();
    }
    async fn plant_marker(&self, store: &Arc<dyn ProvisionStore>, key: &ObjectKey) {
        let bucket = store.bucket().as_str();
        self.raw().delete_object().bucket(bucket).key(full(key)).send().await.unwrap();
    }
    fn lacks(&self) -> &'static [Lack] {
        lacks::of(&self.name)
    }
}
