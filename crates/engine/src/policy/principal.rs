//! Who has a role, as the provider spells it.

use std::collections::BTreeMap;

use super::{PolicyError, PolicyPlan, Provider, Role};

/// Who has each role, one or more, each once.
#[derive(Debug, Clone)]
pub(super) struct Principals(BTreeMap<Role, Vec<String>>);

impl Principals {
    pub(super) fn of(&self, role: Role) -> &[String] {
        self.0.get(&role).map_or(&[], Vec::as_slice)
    }
}

/// Spells the plan's principals, and a placeholder for a role that has none.
///
/// Watcher, restorer and provisioner may coincide, for what they may is added up. The writer may not: what it is denied
/// would be denied to the other, and what the other may would be the writer's.
pub(super) fn all(plan: &PolicyPlan) -> Result<Principals, PolicyError> {
    let mut all = BTreeMap::new();
    for role in Role::ALL {
        let given = plan.principals.get(&role).filter(|given| !given.is_empty());
        let names = given.cloned().unwrap_or_else(|| vec![placeholder(plan.provider, role)]);
        let mut spelled_names = Vec::new();
        for name in names {
            let name = spelled(plan.provider, role, &name)?;
            if !spelled_names.contains(&name) {
                spelled_names.push(name);
            }
        }
        all.insert(role, spelled_names);
    }
    let all = Principals(all);
    for role in [Role::Watcher, Role::Restorer, Role::Provisioner] {
        if let Some(twice) = all.of(role).iter().find(|name| all.of(Role::Writer).contains(name)) {
            return Err(PolicyError::WriterIsAnother { role, text: twice.clone() });
        }
    }
    Ok(all)
}

fn placeholder(provider: Provider, role: Role) -> String {
    let name = role.name().to_ascii_uppercase();
    match provider {
        Provider::Aws => format!("arn:aws:iam::ACCOUNT:role/{name}"),
        Provider::Ceph | Provider::Minio | Provider::Rustfs => name,
        Provider::B2 => format!("stonekeep-{role}"),
    }
}

fn spelled(provider: Provider, role: Role, text: &str) -> Result<String, PolicyError> {
    let (is_valid, expected) = match provider {
        Provider::Aws => (is_arn(text), "an ARN, such as arn:aws:iam::123456789012:role/NAME"),
        Provider::Ceph => {
            (is_name(text, "+=,.@_-/:$"), "the name of a user, TENANT$USER, or an ARN")
        }
        Provider::Minio | Provider::Rustfs => (is_name(text, "+=,.@_-"), "the name of a user"),
        Provider::B2 => {
            (is_name(text, "-"), "the name of a key: up to 100 letters, digits and hyphens")
        }
    };
    if !is_valid {
        return Err(PolicyError::Principal { role, text: text.to_owned(), expected });
    }
    Ok(match provider {
        Provider::Ceph if !text.starts_with("arn:") => {
            let (tenant, user) = text.split_once('$').unwrap_or(("", text));
            format!("arn:aws:iam::{tenant}:user/{user}")
        }
        _ => text.to_owned(),
    })
}

/// Whether this can stand in a policy, in Terraform and on a command line as it is: no wildcard, no quote, no brace.
fn is_name(text: &str, also: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || also.contains(c);
    (1..=100).contains(&text.len()) && text.chars().all(allowed)
}

fn is_arn(text: &str) -> bool {
    // Six fields, of which S3 and IAM leave the region empty. 2048 bytes are the longest that AWS takes.
    let fields = text.split(':').collect::<Vec<_>>();
    let allowed = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-/:".contains(c);
    text.len() <= 2048
        && text.chars().all(allowed)
        && matches!(fields[..], ["arn", _, "iam" | "sts", "", account, name]
            if !account.is_empty() && (name.contains('/') || name == "root"))
}
