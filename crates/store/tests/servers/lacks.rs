//! What each server is known to lack, as seen on the versions named: docs/servers.md.

use stonekeep_store::contract::Lack;

/// Returns what the server of that name lacks.
pub(crate) fn of(name: &str) -> &'static [Lack] {
    match name {
        "ceph16" => CEPH_16,
        "ceph18" => CEPH_18,
        "ceph20" => CEPH_20,
        "ministack" => MINISTACK,
        "moto" => MOTO,
        other => panic!("nobody has looked at what {other} lacks: add it to lacks.rs"),
    }
}

const CEPH_16: &[Lack] = &[];
const CEPH_18: &[Lack] = &[];
const CEPH_20: &[Lack] = &[];
const MINISTACK: &[Lack] = &[];
const MOTO: &[Lack] = &[];
