//! The JSON of a policy: the language of AWS, which Ceph and `MinIO` read, too.

use std::collections::BTreeMap;

use serde::Serialize;

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    /// The version of the language: the only one in use.
    version: &'static str,
    statement: Vec<Statement>,
}

impl Policy {
    pub(super) const fn new(statement: Vec<Statement>) -> Self {
        Self { version: "2012-10-17", statement }
    }

    /// Returns its text, a line for each part of a statement, with a newline at the end.
    pub(super) fn text(&self) -> String {
        let statements: Vec<String> = self.statement.iter().map(Statement::text).collect();
        let (version, statements) = (self.version, statements.join(",\n"));
        format!("{{\n  \"Version\": \"{version}\",\n  \"Statement\": [\n{statements}\n  ]\n}}\n")
    }
}

/// The parts of a statement, in the order in which people read them.
const PARTS: [&str; 8] =
    ["Sid", "Effect", "Principal", "Action", "NotAction", "Resource", "NotResource", "Condition"];

/// What is allowed or denied. What is denied by one statement is allowed by no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Statement {
    sid: &'static str,
    effect: Effect,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<Principal>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    action: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_action: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resource: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_resource: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    condition: BTreeMap<&'static str, BTreeMap<&'static str, Values>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Effect {
    Allow,
    Deny,
}

/// Whom a statement is about. Only the policy of a bucket says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Principal {
    Everyone(&'static str),
    Named {
        #[serde(rename = "AWS")]
        aws: Vec<String>,
    },
}

/// One value as a text, several as a list: some servers take a list for some operators only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Many(Vec<String>),
}

impl Statement {
    fn text(&self) -> String {
        let value = serde_json::to_value(self)
            .expect("it is made of texts, lists, and maps with texts for keys");
        let part = |name: &&str| value.get(name).map(|part| format!("      \"{name}\": {part}"));
        let parts: Vec<String> = PARTS.iter().filter_map(part).collect();
        format!("    {{\n{}\n    }}", parts.join(",\n"))
    }

    pub(super) const fn allow(sid: &'static str) -> Self {
        Self::new(sid, Effect::Allow)
    }

    pub(super) const fn deny(sid: &'static str) -> Self {
        Self::new(sid, Effect::Deny)
    }

    const fn new(sid: &'static str, effect: Effect) -> Self {
        Self {
            sid,
            effect,
            principal: None,
            action: Vec::new(),
            not_action: Vec::new(),
            resource: Vec::new(),
            not_resource: Vec::new(),
            condition: BTreeMap::new(),
        }
    }

    pub(super) fn by_everyone(self) -> Self {
        Self { principal: Some(Principal::Everyone("*")), ..self }
    }

    pub(super) fn by(self, arns: &[String]) -> Self {
        Self { principal: Some(Principal::Named { aws: arns.to_vec() }), ..self }
    }

    pub(super) fn actions(self, action: impl Into<Vec<&'static str>>) -> Self {
        Self { action: action.into(), ..self }
    }

    pub(super) fn all_actions_but(self, not_action: impl Into<Vec<&'static str>>) -> Self {
        Self { not_action: not_action.into(), ..self }
    }

    pub(super) fn on(self, resource: Vec<String>) -> Self {
        Self { resource, ..self }
    }

    pub(super) fn on_all_but(self, not_resource: Vec<String>) -> Self {
        Self { not_resource, ..self }
    }

    /// Lets the statement hold only under a condition; of several, all must hold.
    pub(super) fn when(
        mut self,
        operator: &'static str,
        key: &'static str,
        values: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let mut values: Vec<String> = values.into_iter().map(Into::into).collect();
        let values = match values.pop() {
            Some(only) if values.is_empty() => Values::One(only),
            last => Values::Many(values.into_iter().chain(last).collect()),
        };
        self.condition.entry(operator).or_default().insert(key, values);
        self
    }
}
