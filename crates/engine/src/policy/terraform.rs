//! Terraform for AWS. Policies stand in it as the very JSON of their files, which is an expression of HCL, too.

use std::fmt::Write as _;

use stonekeep_format::lock::LockMode;
use stonekeep_store::{LifecycleAction, LifecycleRule};

use super::{PolicyBucket, PolicyPlan, Role, document::Policy, expiry, rights::base};
use crate::lifecycle::ABORT_DAYS;

/// Returns the text of `main.tf`.
pub(super) fn text(
    plan: &PolicyPlan,
    of_roles: &[(Role, Policy)],
    of_buckets: &[(&PolicyBucket, Policy)],
) -> String {
    let mut parts = vec![head(plan), locals(plan)];
    for (bucket, policy) in of_buckets {
        parts.push(bucket_itself(bucket));
        parts.extend(default_retention(bucket, plan.lock_mode));
        parts.push(settings(bucket));
        parts.push(lifecycle(bucket, plan));
        parts.push(bucket_policy(bucket, policy));
    }
    parts.extend(of_roles.iter().map(|(role, policy)| role_policy(*role, policy)));
    parts.join("\n")
}

fn head(plan: &PolicyPlan) -> String {
    format!(
        r#"# Made by `stonekeep policy`. `terraform validate` has not been run on it.

terraform {{
  required_version = ">= 1.5"
  required_providers {{
    aws = {{
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }}
  }}
}}

provider "aws" {{
  region = {}
}}
"#,
        quoted(&plan.region)
    )
}

/// The rules, once for all buckets: the prefix and the days of each.
fn locals(plan: &PolicyPlan) -> String {
    let mut text = "locals {\n  expiry = {\n".to_owned();
    for LifecycleRule { id, prefix, action } in expiry::rules(plan) {
        if let LifecycleAction::Expire { days } = action {
            let (id, prefix) = (quoted(&id), quoted(&prefix));
            // Writing to a String cannot fail.
            let _ = writeln!(text, "    {id} = {{ prefix = {prefix}, days = {days} }}");
        }
    }
    text + "  }\n}\n"
}

fn bucket_itself(bucket: &PolicyBucket) -> String {
    let (label, name) = (label(bucket), &bucket.name);
    format!(
        r#"resource "aws_s3_bucket" "{label}" {{
  bucket              = "{name}"
  object_lock_enabled = true
  force_destroy       = false

  lifecycle {{
    prevent_destroy = true
  }}
}}

resource "aws_s3_bucket_versioning" "{label}" {{
  bucket = aws_s3_bucket.{label}.id

  versioning_configuration {{
    status = "Enabled"
  }}
}}
"#
    )
}

fn default_retention(bucket: &PolicyBucket, mode: LockMode) -> Option<String> {
    let label = label(bucket);
    bucket.default_days.map(|days| {
        format!(
            r#"resource "aws_s3_bucket_object_lock_configuration" "{label}" {{
  bucket = aws_s3_bucket.{label}.id

  rule {{
    default_retention {{
      mode = "{mode}"
      days = {days}
    }}
  }}
}}
"#
        )
    })
}

fn settings(bucket: &PolicyBucket) -> String {
    let label = label(bucket);
    format!(
        r#"resource "aws_s3_bucket_server_side_encryption_configuration" "{label}" {{
  bucket = aws_s3_bucket.{label}.id

  rule {{
    apply_server_side_encryption_by_default {{
      sse_algorithm = "AES256"
    }}
  }}
}}

resource "aws_s3_bucket_public_access_block" "{label}" {{
  bucket                  = aws_s3_bucket.{label}.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}}

resource "aws_s3_bucket_ownership_controls" "{label}" {{
  bucket = aws_s3_bucket.{label}.id

  rule {{
    object_ownership = "BucketOwnerEnforced"
  }}
}}
"#
    )
}

fn lifecycle(bucket: &PolicyBucket, plan: &PolicyPlan) -> String {
    let (label, all) = (label(bucket), quoted(&base(plan)));
    format!(
        r#"resource "aws_s3_bucket_lifecycle_configuration" "{label}" {{
  bucket     = aws_s3_bucket.{label}.id
  depends_on = [aws_s3_bucket_versioning.{label}]

  dynamic "rule" {{
    for_each = local.expiry

    content {{
      id     = rule.key
      status = "Enabled"

      filter {{
        prefix = rule.value.prefix
      }}

      expiration {{
        days = rule.value.days
      }}

      noncurrent_version_expiration {{
        noncurrent_days = 1
      }}
    }}
  }}

  rule {{
    id     = "stonekeep-abort"
    status = "Enabled"

    filter {{
      prefix = {all}
    }}

    abort_incomplete_multipart_upload {{
      days_after_initiation = {ABORT_DAYS}
    }}
  }}
}}
"#
    )
}

fn bucket_policy(bucket: &PolicyBucket, policy: &Policy) -> String {
    let (label, json) = (label(bucket), expression(policy));
    format!(
        r#"resource "aws_s3_bucket_policy" "{label}" {{
  bucket     = aws_s3_bucket.{label}.id
  depends_on = [aws_s3_bucket_public_access_block.{label}]
  policy     = jsonencode({json})
}}
"#
    )
}

fn role_policy(role: Role, policy: &Policy) -> String {
    let json = expression(policy);
    format!(
        r#"resource "aws_iam_policy" "{role}" {{
  name   = "stonekeep-{role}"
  policy = jsonencode({json})
}}
"#
    )
}

/// JSON as an expression. Its texts are plain: nothing in them begins a template (see `principal`).
fn expression(policy: &Policy) -> String {
    policy.text().trim_end().replace('\n', "\n  ")
}

/// A bucket's name as the name of a resource, which begins with a letter and has no dot. No bucket's name has a `__`.
fn label(bucket: &PolicyBucket) -> String {
    format!("b_{}", bucket.name.as_str().replace('.', "__"))
}

/// A text in quotes, in which nothing begins a template.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{}\"", escaped.replace("${", "$${").replace("%{", "%%{"))
}
