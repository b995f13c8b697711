//! What the generators say, and that what they say is whole.

use std::collections::BTreeSet;

use hcl::{BlockLabel, Body, Expression, Structure};
use serde_json::Value;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn bucket(name: &str, default_days: Option<u32>, holds_snapshots: bool) -> PolicyBucket {
    PolicyBucket { name: name.parse().expect("a name"), holds_snapshots, default_days }
}

/// One bucket, and a writer that names the locks.
fn per_object(provider: Provider) -> PolicyPlan {
    PolicyPlan {
        provider,
        buckets: vec![bucket("acme-vault", None, true)],
        prefix: "stonekeep".to_owned(),
        region: "eu-central-1".to_owned(),
        tls: true,
        lock_by: LockBy::PerObject,
        lock_mode: LockMode::Compliance,
        floor: DAY * 7,
        cap: stonekeep_format::lock::cap(DAY * 7),
        principals: BTreeMap::new(),
        write_only: false,
        record_drills: false,
    }
}

/// A bucket for each of two tiers, and one for the genesis; no prefix.
fn bucket_default(provider: Provider) -> PolicyPlan {
    PolicyPlan {
        buckets: vec![
            bucket("acme-vault", None, false),
            bucket("acme.hourly", Some(14), true),
            bucket("acme-daily", Some(60), true),
        ],
        prefix: String::new(),
        lock_by: LockBy::BucketDefault,
        ..per_object(provider)
    }
}

fn with(plan: PolicyPlan, principals: &[(Role, &str)]) -> PolicyPlan {
    let mut all: BTreeMap<Role, Vec<String>> = BTreeMap::new();
    for (role, name) in principals {
        all.entry(*role).or_default().push((*name).to_owned());
    }
    PolicyPlan { principals: all, ..plan }
}

fn made(plan: &PolicyPlan) -> PolicyReport {
    policy(plan).expect("policies")
}

fn text_of<'r>(report: &'r PolicyReport, name: &str) -> &'r str {
    let file = report.files.iter().find(|file| file.name == name);
    &file.unwrap_or_else(|| panic!("{name} is made")).text
}

fn json_of(report: &PolicyReport, name: &str) -> Value {
    serde_json::from_str(text_of(report, name)).expect("JSON")
}

/// The files and notes, each thing once: lifecycle rules are the same for all who take JSON, and policies in Terraform are
/// those of the files, as another test shows.
fn transcript(plan: &PolicyPlan) -> String {
    let mut report = made(plan);
    report.files.retain(|file| plan.provider == Provider::Aws || file.name != "lifecycle.json");
    let without_policy =
        |part: &'_ str| part.split_once("\n  })").map_or(part, |(_, rest)| rest).to_owned();
    let file = |file: &PolicyFile| {
        let parts: Vec<String> = file.text.split("jsonencode({").map(without_policy).collect();
        format!("==> {} <==\n{}", file.name, parts.join("jsonencode(…)"))
    };
    let files: Vec<String> = report.files.iter().map(file).collect();
    format!("{}\n==> notes <==\n{}\n", files.join("\n"), report.notes.join("\n"))
}

const ALL: [Provider; 5] =
    [Provider::Aws, Provider::Ceph, Provider::Minio, Provider::Rustfs, Provider::B2];

#[test]
fn policies_are_as_they_were() {
    for (name, provider) in Provider::NAMES {
        insta::assert_snapshot!(format!("{name}_per_object"), transcript(&per_object(provider)));
        let bucket_default = bucket_default(provider);
        insta::assert_snapshot!(format!("{name}_bucket_default"), transcript(&bucket_default));
    }
}

/// Every statement of every JSON file.
fn statements(report: &PolicyReport) -> Vec<(String, Value)> {
    let policies = report.files.iter().filter(|file| file.name.ends_with(".json"));
    let of = |file: &PolicyFile| {
        let policy: Value = serde_json::from_str(&file.text).expect("JSON");
        let statements = policy["Statement"].as_array().cloned().unwrap_or_default();
        statements.into_iter().map(|each| (file.name.clone(), each)).collect::<Vec<_>>()
    };
    policies.flat_map(of).collect()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn only_the_provisioner_is_allowed_to_delete_and_only_canaries() {
    for provider in ALL {
        for plan in [per_object(provider), bucket_default(provider)] {
            let report = made(&plan);
            for (file, statement) in statements(&report) {
                let actions = texts(&statement["Action"]);
                let deletes = actions
                    .iter()
                    .any(|a| a.contains("Delete") || a.contains("Bypass") || a.contains('*'));
                if statement["Effect"] == "Allow" && deletes {
                    assert_eq!(statement["Sid"], "ProvisionerDeletesCanaries", "{file}");
                    for resource in texts(&statement["Resource"]) {
                        assert!(resource.ends_with("/canary/*"), "{resource}");
                    }
                }
            }
            assert!(!report.files.iter().any(|file| file.text.contains("deleteFiles")));
        }
    }
}

#[test]
fn a_restorer_adds_nothing_unless_it_records_drills_and_then_below_reports_alone() {
    for provider in [Provider::Aws, Provider::Ceph, Provider::Minio, Provider::Rustfs] {
        for plan in [per_object(provider), bucket_default(provider)] {
            for record_drills in [false, true] {
                let report = made(&PolicyPlan { record_drills, ..plan.clone() });
                let of_restorer = statements(&report).into_iter().filter(|(_, each)| {
                    let sid = each["Sid"].as_str().unwrap_or_default();
                    sid.starts_with("Restorer") && each["Effect"] == "Allow"
                });
                let puts: Vec<_> = of_restorer
                    .filter(|(_, each)| {
                        texts(&each["Action"]).iter().any(|action| action.contains("Put"))
                    })
                    .collect();
                assert_eq!(puts.is_empty(), !record_drills);
                for (file, each) in puts {
                    let actions = texts(&each["Action"]);
                    assert_eq!(actions, ["s3:PutObject", "s3:PutObjectRetention"], "{file}");
                    for resource in texts(&each["Resource"]) {
                        assert!(resource.ends_with("/reports/*"), "{file}: {resource}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_key_of_b2_that_records_drills_is_one_of_its_own() {
    let plan = PolicyPlan { record_drills: true, ..per_object(Provider::B2) };
    let report = made(&plan);
    let script = text_of(&report, "b2.sh");
    let key = "--name-prefix stonekeep/reports/ stonekeep-restorer-reports listBuckets,";
    let line = script.lines().find(|line| line.contains(key)).expect("a key for records");
    assert!(line.ends_with("writeFiles,writeFileRetentions") && !line.contains("readFiles"));
    assert!(report.notes.iter().any(|note| note.contains("record_credentials_file")));
    assert!(!made(&per_object(Provider::B2)).files[0].text.contains("-reports"));
}

#[test]
fn a_writer_puts_into_its_own_folders_and_reads_no_segment() {
    let is_writers = |statement: &Value| {
        statement["Effect"] == "Allow"
            && statement["Sid"].as_str().is_some_and(|sid| sid.starts_with("Writer"))
    };
    for provider in [Provider::Aws, Provider::Ceph, Provider::Minio, Provider::Rustfs] {
        for plan in [per_object(provider), bucket_default(provider)] {
            let names_locks = plan.lock_by == LockBy::PerObject;
            let report = made(&plan);
            let all = statements(&report);
            let writers = || all.iter().filter(|(_, each)| is_writers(each));
            let puts =
                |(_, each): &&(String, Value)| texts(&each["Action"]).contains(&"s3:PutObject");
            for (file, each) in writers().filter(puts) {
                for resource in texts(&each["Resource"]) {
                    assert!(!resource.contains("/genesis/"), "{file}: {resource}");
                    let below = resource.trim_end_matches("/*");
                    assert_eq!(below.len() + 2, resource.len(), "{file}: {resource}");
                    let folder = below.rsplit('/').next().unwrap_or_default();
                    let known = ["manifests", "inventories", "segments", "attempts", "canary"];
                    assert!(known.contains(&folder), "{file}: {resource}");
                }
                let locks = texts(&each["Action"]).contains(&"s3:PutObjectRetention");
                assert_eq!(locks, names_locks, "{file}");
            }
            let reads = |(_, each): &&(String, Value)| {
                texts(&each["Action"]).iter().any(|action| action.starts_with("s3:GetObject"))
                    && !texts(&each["Action"]).contains(&"s3:GetObjectRetention")
            };
            assert!(writers().filter(reads).count() > 0);
            for (file, each) in writers().filter(reads) {
                let segments = |resource: &&str| {
                    resource.contains("segments") || resource.ends_with("vault/*")
                };
                assert_eq!(texts(&each["Resource"]).into_iter().find(segments), None, "{file}");
            }
        }
    }
}

#[test]
fn a_writer_that_only_writes_neither_lists_nor_reads() {
    for provider in ALL {
        let report = made(&PolicyPlan { write_only: true, ..per_object(provider) });
        for (file, each) in statements(&report) {
            if each["Effect"] == "Allow" && each["Sid"].to_string().contains("Writer") {
                for action in texts(&each["Action"]) {
                    let reads = ["s3:GetObject", "s3:GetObjectVersion", "s3:ListBucketVersions"];
                    assert!(!reads.contains(&action), "{file}: {action}");
                }
            }
        }
        let b2 = report.files.iter().flat_map(|file| file.text.lines());
        let key = b2.filter(|line| line.contains(" stonekeep-writer "));
        for line in key {
            assert!(!line.contains("readFiles") && !line.contains("listFiles"), "{line}");
        }
    }
}

#[test]
fn locks_are_between_the_shortest_keep_and_the_cap() {
    let limits = |plan: &PolicyPlan| {
        let policy = json_of(&made(plan), "bucket-policy-acme-vault.json");
        let of = |sid: &str, operator: &str| {
            let statement = policy["Statement"].as_array()?.iter().find(|s| s["Sid"] == sid)?;
            let days = &statement["Condition"][operator];
            days["s3:object-lock-remaining-retention-days"].as_str()?.parse::<u64>().ok()
        };
        (of("TooShort", "NumericLessThan"), of("TooLong", "NumericGreaterThan"))
    };
    // A cap of 21 days, and one day for a server that rounds up what is left.
    assert_eq!(limits(&per_object(Provider::Aws)), (Some(7), Some(22)));
    let half_a_day = PolicyPlan { floor: DAY / 2, ..per_object(Provider::Aws) };
    assert_eq!(limits(&half_a_day).0, None, "no whole day can be demanded");
}

#[test]
fn governance_is_forbidden_unless_the_repository_is_locked_so() {
    let has = |lock_mode| {
        let plan = PolicyPlan { lock_mode, ..per_object(Provider::Aws) };
        text_of(&made(&plan), "bucket-policy-acme-vault.json").contains("NoGovernance")
    };
    assert!(has(LockMode::Compliance));
    assert!(!has(LockMode::Governance));
}

#[test]
fn watcher_and_restorer_may_be_one_and_the_writer_nobody_else() {
    let same = [(Role::Watcher, "reader"), (Role::Restorer, "reader")];
    let ceph = with(per_object(Provider::Ceph), &same);
    let report = made(&ceph);
    assert!(report.files[0].text.contains("arn:aws:iam:::user/reader"));
    // Nothing is denied to a reader alone, so one that is both loses nothing.
    for (_, each) in statements(&report).iter().filter(|(_, each)| each["Effect"] == "Deny") {
        assert!(!each["Principal"].to_string().contains("reader"), "{each}");
    }
    let both = with(ceph, &[(Role::Writer, "joe"), (Role::Provisioner, "joe")]);
    let error = policy(&both).expect_err("the writer is to be alone");
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(matches!(error, PolicyError::WriterIsAnother { role: Role::Provisioner, .. }));
}

#[test]
fn a_principal_is_spelled_as_the_provider_does_and_holds_no_wildcard() {
    let writer = |provider, name: &str| {
        policy(&with(per_object(provider), &[(Role::Writer, name)])).map(|report| report.files)
    };
    let ceph = writer(Provider::Ceph, "acme$daemon").expect("a user of a tenant");
    assert!(ceph[0].text.contains("\"arn:aws:iam::acme:user/daemon\""));
    let arn = "arn:aws:iam::123456789012:role/stonekeepd";
    assert!(writer(Provider::Aws, arn).expect("an ARN")[4].text.contains(arn));
    for provider in ALL {
        for name in ["*", "", "a b", "${x}", "a\"b", "a\nb", "arn:aws:iam::1:role/*", "$(id)"] {
            let refused = writer(provider, name).expect_err(name);
            assert!(matches!(refused, PolicyError::Principal { role: Role::Writer, .. }), "{name}");
        }
    }
    assert!(writer(Provider::Aws, "daemon").is_err());
}

#[test]
fn a_session_and_the_root_are_nobodys_principal() {
    let refused = |provider, role, arn: &str| {
        let made = policy(&with(per_object(provider), &[(role, arn)])).map(drop);
        let error = made.expect_err(arn);
        assert!(matches!(error, PolicyError::Principal { .. }), "{arn}: {error}");
        error.to_string()
    };
    // As `aws sts get-caller-identity` prints it: no condition ever sees it, and NoDestroy would deny its own provisioner.
    let session = "arn:aws:sts::123456789012:assumed-role/vault-owner/joe";
    let root = "arn:aws:iam::123456789012:root";
    for provider in [Provider::Aws, Provider::Ceph] {
        for role in Role::ALL {
            let said = refused(provider, role, session);
            assert!(said.contains("give arn:aws:iam::ACCOUNT:role/NAME"), "{said}");
            assert!(refused(provider, role, root).contains("not the root"));
        }
        for arn in [
            "arn:aws:sts::123456789012:federated-user/joe",
            "arn:aws:iam::123456789012:group/keepers",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::123456789012:role/a//b",
            "arn:aws:s3:::bucket/key",
            "arn:aws:iam::123456789012:user",
        ] {
            refused(provider, Role::Provisioner, arn);
        }
    }
    refused(Provider::Ceph, Role::Writer, "arn:aws:iam::acme:root");
    refused(Provider::Ceph, Role::Writer, "arn:aws-cn:iam::acme:user/joe");
    refused(Provider::Aws, Role::Writer, "arn:aws:iam:::role/joe");
    let with_path =
        "arn:aws-cn:iam::123456789012:role/aws-reserved/sso.amazonaws.com/cn-north-1/keeper";
    assert_eq!(policy(&with(per_object(Provider::Aws), &[(Role::Writer, with_path)])).err(), None);
    let of_no_tenant = "arn:aws:iam:::user/joe";
    let report = policy(&with(per_object(Provider::Ceph), &[(Role::Writer, of_no_tenant)]));
    assert_eq!(report.err(), None);
}

#[test]
fn what_is_still_to_be_replaced_is_said() {
    let says = |plan: &PolicyPlan| {
        let notes = made(plan).notes;
        notes.iter().find(|note| note.starts_with("Still to be replaced")).cloned()
    };
    let note = says(&per_object(Provider::Ceph)).expect("four placeholders");
    assert!(note.contains("user/WRITER") && note.contains("user/PROVISIONER"), "{note}");
    let all = Role::ALL.map(|role| (role, role.name()));
    assert_eq!(says(&with(per_object(Provider::Ceph), &all)), None);
}

#[test]
fn lifecycle_rules_are_those_of_init_below_the_prefix() {
    for provider in [Provider::Aws, Provider::Ceph, Provider::Minio, Provider::Rustfs] {
        let json = json_of(&made(&per_object(provider)), "lifecycle.json");
        let rules = json["Rules"].as_array().expect("rules");
        let expected =
            crate::lifecycle::rules(per_object(provider).cap, crate::lifecycle::GRACE_DAYS);
        assert_eq!(rules.len(), expected.len());
        for (rule, expected) in rules.iter().zip(&expected) {
            let prefix = format!("stonekeep/{}", expected.prefix);
            assert_eq!(rule["ID"], expected.id.as_str());
            assert_eq!(rule["Filter"]["Prefix"], prefix.as_str());
            assert!(!prefix.contains("genesis"), "a genesis never expires");
        }
    }
}

/// The blocks of a kind, each with its labels.
fn blocks<'b>(body: &'b Body, kind: &'b str) -> impl Iterator<Item = (Vec<&'b str>, &'b Body)> {
    let of_kind = move |block: &&hcl::Block| block.identifier() == kind;
    let parts = |block: &'b hcl::Block| {
        (block.labels().iter().map(BlockLabel::as_str).collect(), block.body())
    };
    body.blocks().filter(of_kind).map(parts)
}

fn attribute<'b>(body: &'b Body, name: &str) -> Option<&'b Expression> {
    body.attributes().find(|attribute| attribute.key() == name).map(hcl::Attribute::expr)
}

/// What is inside `jsonencode()`.
fn encoded(body: &Body) -> Value {
    let Some(Expression::FuncCall(call)) = attribute(body, "policy") else {
        panic!("a call: {body:?}")
    };
    assert_eq!(call.name.name.as_str(), "jsonencode");
    let value: hcl::Value = hcl::from_str::<hcl::Value>(&format!(
        "x = {}",
        hcl::format::to_string(&call.args[0]).expect("an expression")
    ))
    .expect("a value");
    serde_json::to_value(&value).expect("JSON")["x"].clone()
}

/// Every `type.name.attribute` that an expression refers to.
fn references(body: &Body, found: &mut BTreeSet<String>) {
    for structure in body.iter() {
        match structure {
            Structure::Block(block) => references(block.body(), found),
            Structure::Attribute(attribute) => {
                let text = hcl::format::to_string(attribute.expr()).expect("an expression");
                let is_part = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
                let words = text.split(|c| !is_part(c)).filter(|word| word.starts_with("aws_s3_"));
                found.extend(words.map(str::to_owned));
            }
        }
    }
}

const OF_EACH_BUCKET: [&str; 7] = [
    "aws_s3_bucket",
    "aws_s3_bucket_versioning",
    "aws_s3_bucket_server_side_encryption_configuration",
    "aws_s3_bucket_public_access_block",
    "aws_s3_bucket_ownership_controls",
    "aws_s3_bucket_lifecycle_configuration",
    "aws_s3_bucket_policy",
];

#[test]
fn terraform_has_every_resource_once_and_refers_to_what_it_has() {
    for plan in [per_object(Provider::Aws), bucket_default(Provider::Aws)] {
        let report = made(&plan);
        let body = hcl::parse(text_of(&report, "main.tf")).expect("HCL");
        let resources: Vec<String> =
            blocks(&body, "resource").map(|(labels, _)| labels.join(".")).collect();
        let unique: BTreeSet<&String> = resources.iter().collect();
        assert_eq!(unique.len(), resources.len());
        for kind in OF_EACH_BUCKET {
            let of_kind = |name: &&String| name.starts_with(&format!("{kind}."));
            assert_eq!(resources.iter().filter(of_kind).count(), plan.buckets.len(), "{kind}");
        }
        let defaults = plan.buckets.iter().filter(|bucket| bucket.default_days.is_some());
        let locks = |name: &&String| name.starts_with("aws_s3_bucket_object_lock_configuration.");
        assert_eq!(resources.iter().filter(locks).count(), defaults.count());
        for role in Role::ALL {
            assert!(resources.contains(&format!("aws_iam_policy.{role}")), "{role}");
        }
        let mut found = BTreeSet::new();
        references(&body, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let whole = reference.trim_end_matches(".id").to_owned();
            assert!(resources.contains(&whole), "{reference} is not declared");
        }
    }
}

#[test]
fn terraform_locks_its_buckets_and_lets_nobody_destroy_them() {
    let plan = bucket_default(Provider::Aws);
    let report = made(&plan);
    let body = hcl::parse(text_of(&report, "main.tf")).expect("HCL");
    let mut defaults = BTreeMap::new();
    for (labels, resource) in blocks(&body, "resource") {
        match labels[0] {
            "aws_s3_bucket" => {
                assert_eq!(attribute(resource, "object_lock_enabled"), Some(&true.into()));
                assert_eq!(attribute(resource, "force_destroy"), Some(&false.into()));
                let (_, lifecycle) = blocks(resource, "lifecycle").next().expect("a lifecycle");
                assert_eq!(attribute(lifecycle, "prevent_destroy"), Some(&true.into()));
            }
            "aws_s3_bucket_object_lock_configuration" => {
                let (_, rule) = blocks(resource, "rule").next().expect("a rule");
                let (_, lock) = blocks(rule, "default_retention").next().expect("a default");
                assert_eq!(attribute(lock, "mode"), Some(&"COMPLIANCE".into()));
                defaults.insert(labels[1].to_owned(), attribute(lock, "days").cloned());
            }
            _ => {}
        }
    }
    let expected = [("b_acme-daily", 60), ("b_acme__hourly", 14)];
    let expected = expected.map(|(name, days)| (name.to_owned(), Some(days.into())));
    assert_eq!(defaults, BTreeMap::from(expected));
}

#[test]
fn policies_and_rules_in_terraform_are_those_of_the_files() {
    for plan in [per_object(Provider::Aws), bucket_default(Provider::Aws)] {
        let report = made(&plan);
        let body = hcl::parse(text_of(&report, "main.tf")).expect("HCL");
        let mut compared = 0;
        for (labels, resource) in blocks(&body, "resource") {
            let name = match labels[0] {
                "aws_iam_policy" => format!("{}.json", labels[1]),
                "aws_s3_bucket_policy" => {
                    let bucket = labels[1].trim_start_matches("b_").replace("__", ".");
                    format!("bucket-policy-{bucket}.json")
                }
                _ => continue,
            };
            assert_eq!(encoded(resource), json_of(&report, &name), "{name}");
            compared += 1;
        }
        assert_eq!(compared, Role::ALL.len() + plan.buckets.len());

        let (_, locals) = blocks(&body, "locals").next().expect("locals");
        let expiry = attribute(locals, "expiry").expect("the rules");
        let expiry: Value = serde_json::to_value(
            hcl::from_str::<hcl::Value>(&format!(
                "x = {}",
                hcl::format::to_string(expiry).expect("an expression")
            ))
            .expect("a value"),
        )
        .expect("JSON");
        let json = json_of(&report, "lifecycle.json");
        let rules = json["Rules"].as_array().expect("rules").iter();
        let expiring: Vec<&Value> = rules.filter(|rule| rule["Expiration"].is_object()).collect();
        assert_eq!(expiry["x"].as_object().map(serde_json::Map::len), Some(expiring.len()));
        for rule in expiring {
            let here = &expiry["x"][rule["ID"].as_str().expect("an id")];
            assert_eq!(here["prefix"], rule["Filter"]["Prefix"]);
            assert_eq!(here["days"], rule["Expiration"]["Days"]);
        }
    }
}
