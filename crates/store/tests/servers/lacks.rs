//! What each server is known to lack, as seen on the versions named. docs/servers.md says what follows from it.

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

const fn lack(claim: &'static str, shows: &'static str) -> Lack {
    Lack { claim, shows }
}

/// What a server answers that takes the question after a lock for one after the object.
const NO_RETENTION: &str = "BadAnswer { action: \"read the lock of objects";

/// 16.2.15. It counts seconds in 32 bits, drops the lock of an upload in parts, and knows no If-None-Match.
const CEPH_16: &[Lack] = &[
    lack("a_lock_past_2106_does_not_wrap", "retain_until: 1973-11-24T17:31:44Z"),
    lack("an_upload_in_parts_is_locked", "has the lock None"),
    lack("nothing_is_put_over_a_segment", "Ok("),
];

/// 18.2.7.
const CEPH_18: &[Lack] = &[
    lack("an_upload_in_parts_is_locked", "has the lock None"),
    lack("nothing_is_put_over_a_segment", "Ok("),
];

/// 20.2.4.
const CEPH_20: &[Lack] = &[];

/// 1.5.33. Of a bucket with Object Lock it takes what no lock may be weakened by, and its XML holds what XML cannot.
const MINISTACK: &[Lack] = &[
    lack("a_lock_in_the_past_is_refused", "Ok("),
    lack("a_strangers_bucket_is_denied", "not authorized to perform: s3:CreateBucket"),
    lack("an_upload_in_parts_is_locked", "has the lock None"),
    lack("versioning_is_not_suspended", "was suspended"),
    lack("strange_keys_are_listed_as_they_are", "a success that cannot be parsed"),
    lack(
        "a_key_that_xml_cannot_hold_at_a_pages_end_spoils_no_listing",
        "a success that cannot be parsed",
    ),
];

/// 5.2.5. It does not say what the lock of an object is, so that nothing is ever believed to be locked there; and a lock under
/// COMPLIANCE can be shortened.
const MOTO: &[Lack] = &[
    lack("a_compliance_lock_is_not_weakened", "was shortened"),
    lack("a_body_that_is_not_what_its_checksum_says_is_refused", "a body was stored"),
    lack("a_lock_in_the_past_is_refused", "Ok("),
    lack("versioning_is_not_suspended", "was suspended"),
    lack("a_wrong_host_clock_is_told", "Ok("),
    lack("a_version_under_a_key_of_somebodys_own_is_passed_over", "value: Some"),
    lack(
        "a_default_retention_locks_what_names_no_lock",
        "MissingUploadObjectWithObjectLockHeaders",
    ),
    lack(
        "a_writer_with_put_rights_alone_stores_under_lock_and_reads_nothing",
        "Denied { action: \"read the lock",
    ),
    lack("a_delete_marker_hides_nothing", "left: None"),
    lack("a_lock_is_kept_and_read_back", "left: None"),
    lack("an_object_without_lock_has_none", "left: None"),
    lack("strange_keys_are_listed_as_they_are", "a success that cannot be parsed"),
    lack(
        "a_key_that_xml_cannot_hold_at_a_pages_end_spoils_no_listing",
        "a success that cannot be parsed",
    ),
    lack("a_bucket_that_names_the_locks_is_sent_none", NO_RETENTION),
    lack("a_lock_can_be_extended_and_not_shortened", NO_RETENTION),
    lack("a_lock_past_2106_does_not_wrap", NO_RETENTION),
    lack("a_longer_object_is_not_read", NO_RETENTION),
    lack("a_segment_is_put_where_there_is_nothing", NO_RETENTION),
    lack("a_strangers_bucket_is_denied", NO_RETENTION),
    lack("a_segment_of_sixteen_mebibytes_is_put_and_read_back", NO_RETENTION),
    lack("an_object_comes_back_by_version", NO_RETENTION),
    lack("an_overwrite_hides_nothing", NO_RETENTION),
    lack("an_unknown_version_is_not_found", NO_RETENTION),
    lack("an_upload_in_parts_is_locked", NO_RETENTION),
    lack("listings_keep_to_the_prefix", NO_RETENTION),
    lack("nothing_is_put_over_a_segment", NO_RETENTION),
    lack("what_is_sent_again_under_its_key_is_another_version", NO_RETENTION),
];
