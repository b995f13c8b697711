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
        Provider::Aws => (
            account_of(text).is_some_and(|account| !account.is_empty()),
            "an ARN of IAM, such as arn:aws:iam::123456789012:role/NAME",
        ),
        // It looks at no partition: another spelling would be the same user.
        Provider::Ceph if text.starts_with("arn:") => (
            text.starts_with("arn:aws:") && account_of(text).is_some(),
            "an ARN of IAM, such as arn:aws:iam::TENANT:user/NAME",
        ),
        Provider::Ceph => {
            (is_name(text, "+=,.@_-/:$"), "the name of a user, TENANT$USER, or an ARN")
        }
        Provider::Minio | Provider::Rustfs => (is_name(text, "+=,.@_-"), "the name of a user"),
        Provider::B2 => {
            (is_name(text, "-"), "the name of a key: up to 100 letters, digits and hyphens")
        }
    };
    if !is_valid {
        let takes_arns = matches!(provider, Provider::Aws | Provider::Ceph);
        let expected = instead(text).filter(|_| takes_arns).unwrap_or(expected);
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

/// Returns the account of an ARN that names a role or a user of IAM and nothing else. A condition on `aws:PrincipalArn` sees the
/// role of a session and never the session, so a session that shall be excepted from a denial never is; and the root of an
/// account stands for everybody in it.
fn account_of(arn: &str) -> Option<&str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-/:".contains(c);
    // 2048 bytes are the longest that AWS takes.
    if arn.len() > 2048 || !arn.chars().all(allowed) {
        return None;
    }
    let fields = arn.split(':').collect::<Vec<_>>();
    // Six fields, of which IAM leaves the region empty, and Ceph the account, too.
    let ["arn", _, "iam", "", account, resource] = fields[..] else { return None };
    let name = resource.strip_prefix("role/").or_else(|| resource.strip_prefix("user/"))?;
    name.split('/').all(|part| !part.is_empty()).then_some(account)
}

/// What to give for an ARN that people have at hand.
fn instead(text: &str) -> Option<&'static str> {
    let fields = text.split(':').collect::<Vec<_>>();
    match fields[..] {
        ["arn", _, "sts", _, _, session] if session.starts_with("assumed-role/") => Some(
            "not a session but its role: for arn:aws:sts::ACCOUNT:assumed-role/NAME/SESSION give arn:aws:iam::ACCOUNT:role/NAME, with the role's path if it has one (aws iam get-role --role-name NAME)",
        ),
        ["arn", .., "root"] => {
            Some("not the root, which is everybody of the account, but one role or user of IAM")
        }
        _ => None,
    }
}
