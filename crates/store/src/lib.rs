//! The repository in the bucket; the only crate that names the AWS SDK.
