//! The in-memory model under the contract that the real servers are held to.
#![cfg(test)]

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use stonekeep_format::{Clock, key::ObjectKey};
use stonekeep_store::{
    MemoryStore, ProvisionStore, Right,
    contract::{Lack, Server, hold},
};

#[derive(Debug)]
struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> DateTime<Utc> {
        "2026-11-20T12:00:00Z".parse().unwrap()
    }
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }
}

/// Keeps the buckets by name, for the hands that reach behind the traits.
#[derive(Default)]
struct Model(Mutex<Vec<MemoryStore>>);

impl Model {
    fn keep(&self, make: impl FnOnce(String) -> MemoryStore) -> Arc<dyn ProvisionStore> {
        let mut buckets = self.0.lock().unwrap();
        let store = make(format!("bucket-{}", buckets.len()));
        buckets.push(store.clone());
        Arc::new(store)
    }

    fn bucket(&self, store: &Arc<dyn ProvisionStore>) -> MemoryStore {
        let buckets = self.0.lock().unwrap();
        let same = |each: &&MemoryStore| {
            stonekeep_store::ReadStore::bucket(*each).as_str() == store.bucket().as_str()
        };
        buckets.iter().find(same).unwrap().clone()
    }
}

#[async_trait]
impl Server for Model {
    fn now(&self) -> DateTime<Utc> {
        Fixed.now()
    }
    async fn absent(&self) -> Arc<dyn ProvisionStore> {
        self.keep(|name| MemoryStore::absent(name.parse().unwrap(), Arc::new(Fixed)))
    }
    async fn without_lock(&self) -> Arc<dyn ProvisionStore> {
        self.keep(|name| MemoryStore::unlocked(name.parse().unwrap(), Arc::new(Fixed)))
    }
    async fn stranger(&self, store: &Arc<dyn ProvisionStore>) -> Arc<dyn ProvisionStore> {
        use Right::{Configure, List, Put, Read, ReadBucket, ReadLock, WriteLock};
        let rights = [List, Read, Put, ReadLock, WriteLock, ReadBucket, Configure];
        Arc::new(self.bucket(store).without(&rights))
    }
    async fn plant(&self, store: &Arc<dyn ProvisionStore>, key: &ObjectKey, body: Bytes) {
        self.bucket(store).plant(key, body);
    }
    async fn plant_marker(&self, store: &Arc<dyn ProvisionStore>, key: &ObjectKey) {
        self.bucket(store).plant_marker(key);
    }
}

stonekeep_store::contract!(std::future::ready(Model::default()));

const LACK: Lack = Lack { claim: "locks_are_kept", shows: "none was kept" };

#[tokio::test]
#[should_panic(expected = "the server keeps locks_are_kept now")]
async fn a_lack_that_is_none_any_more_is_told() {
    hold(&[LACK], "locks_are_kept", async {}).await;
}

#[tokio::test]
#[should_panic(expected = "locks_are_kept breaks in a new way: half of them were kept")]
async fn a_lack_that_shows_otherwise_is_told() {
    hold(&[LACK], "locks_are_kept", async { panic!("half of them were kept") }).await;
}

#[tokio::test]
async fn a_lack_that_shows_as_it_is_known_to_is_none_to_tell() {
    hold(&[LACK], "locks_are_kept", async { panic!("none was kept, says the server") }).await;
}
