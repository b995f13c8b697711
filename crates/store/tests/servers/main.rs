//! The S3 store under the contract, on real servers, and what only a real server can answer.
//!
//! The addresses come from the environment: `./test` starts the servers and sets them. Without them every test fails. What a server
//! is known to lack is in `lacks.rs`, and it must break that claim in the way that is written there: nothing is skipped.
#![cfg(test)]

mod claims;
mod lacks;
mod server;

/// Declares the contract's tests, and those of [`claims`], for the server that `$server` makes.
macro_rules! held {
    ($server:expr) => {
        stonekeep_store::contract!(std::future::ready($server));
        held!(@tests $server;
            an_unknown_access_key_is_told,
            a_wrong_secret_is_told_by_every_call,
            a_wrong_host_clock_is_told,
            a_credentials_file_is_read_by_profile,
            a_segment_of_sixteen_mebibytes_is_put_and_read_back,
            a_thousand_and_some_versions_are_listed_whole,
            a_key_that_xml_cannot_hold_at_a_pages_end_spoils_no_listing,
            a_bucket_that_names_the_locks_is_sent_none,
            a_version_under_a_key_of_somebodys_own_is_passed_over,
            a_writer_with_put_rights_alone_stores_under_lock_and_reads_nothing,
            a_locked_version_is_not_deleted,
            a_compliance_lock_is_not_weakened,
            versioning_is_not_suspended,
            a_body_that_is_not_what_its_checksum_says_is_refused,
            a_lock_past_2106_does_not_wrap,
            an_upload_in_parts_is_locked
        );
    };
    (@tests $server:expr; $($claim:ident),*) => {
        $(
            #[tokio::test]
            async fn $claim() {
                let server = $server;
                let lacks = crate::lacks::of(&server.name);
                let kept = crate::claims::$claim(&server);
                stonekeep_store::contract::hold(lacks, stringify!($claim), kept).await;
            }
        )*
    };
}

/// Where backups may lie.
mod s3 {
    held!(crate::server::OnServer::s3());
}

/// What takes locks and keeps none: a server like it must be found out.
mod moto {
    held!(crate::server::OnServer::moto());
}
