//! Whether every object that production had is in the restored database: what pg_dump's table of contents does not name is
//! missed by nobody else.

use std::collections::{BTreeMap, BTreeSet};

use stonekeep_format::catalog::{CatalogObject, Objects, Text};
use stonekeep_postgres::objects::{Found, KINDS, ROLE};

/// Kinds of which more than there was is a difference. Functions and types are not among them: a newer server makes some of
/// its own accord.
const COUNTED: [&str; 7] = [
    "table",
    "partitioned table",
    "foreign table",
    "view",
    "materialized view",
    "sequence",
    "index",
];

/// How objects compare.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ObjectsCompared {
    /// How many were looked for.
    pub(super) count: usize,
    /// What is not as it was.
    pub(super) differences: Vec<ObjectDifference>,
    /// What a person should know, and what was not compared.
    pub(super) notes: Vec<String>,
}

/// An object that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ObjectDifference {
    /// What it is.
    pub(super) kind: String,
    /// Its name.
    pub(super) name: String,
    /// What is wrong with it, as the end of a sentence that it begins.
    pub(super) what: String,
}

/// A restored database, to compare objects with.
#[derive(Debug)]
pub(super) struct Restored {
    /// Its objects.
    pub(super) found: Vec<Found>,
    /// Those of the roles asked for that the server has.
    pub(super) roles: BTreeSet<Text>,
    /// Whether owners and rights were restored.
    pub(super) owners: bool,
}

/// Returns the roles that are to be asked for.
pub(super) fn roles(wanted: &Objects) -> Vec<&Text> {
    wanted.0.get(ROLE).into_iter().flatten().map(|role| &role.name).collect()
}

/// Compares what was listed in the snapshot with what is there.
pub(super) fn compare_objects(wanted: &Objects, restored: &Restored) -> ObjectsCompared {
    let mut compared = ObjectsCompared::default();
    let found: BTreeMap<(&str, &Text), &CatalogObject> = restored
        .found
        .iter()
        .map(|found| ((found.kind.as_str(), &found.object.name), &found.object))
        .collect();
    for (kind, objects) in &wanted.0 {
        match kind.as_str() {
            ROLE => compared.roles(objects, restored),
            known if KINDS.contains(&known) => {
                compared.count += objects.len();
                for object in objects {
                    let there = found.get(&(known, &object.name)).copied();
                    compared.object(known, object, there, restored.owners);
                }
            }
            other => compared.notes.push(format!(
                "{} objects of kind {other:?} were not looked for: a newer stonekeep knows them",
                objects.len()
            )),
        }
    }
    compared.more(wanted, &restored.found);
    compared
}

impl ObjectsCompared {
    fn differs(&mut self, kind: &str, name: &Text, what: impl Into<String>) {
        let (kind, name) = (kind.to_owned(), name.to_string());
        self.differences.push(ObjectDifference { kind, name, what: what.into() });
    }

    fn roles(&mut self, roles: &[CatalogObject], restored: &Restored) {
        if !restored.owners {
            return;
        }
        for role in roles.iter().filter(|role| role.name.0.is_ascii()) {
            self.count += 1;
            if !restored.roles.contains(&role.name) {
                self.differs(ROLE, &role.name, "is missing");
            }
        }
    }

    fn object(
        &mut self,
        kind: &str,
        wanted: &CatalogObject,
        found: Option<&CatalogObject>,
        owners: bool,
    ) {
        let name = &wanted.name;
        let Some(found) = found else { return self.differs(kind, name, "is missing") };
        if found.unfinished && !wanted.unfinished {
            self.differs(kind, name, unfinished(kind));
        }
        if let (true, Some(before), Some(now)) = (owners, &wanted.owner, &found.owner)
            && before != now
        {
            self.differs(kind, name, format!("belongs to role {now}, not {before}"));
        }
        if let (Some(before), Some(now)) = (&wanted.version, &found.version)
            && before != now
        {
            self.notes.push(format!("{kind} {name} is of version {now}, and was of {before}"));
        }
    }

    /// What is there and was not. An extension's code may make objects of its own while a database is restored, so that
    /// where there is one, this is told and no difference.
    fn more(&mut self, wanted: &Objects, found: &[Found]) {
        let had: BTreeSet<(&str, &Text)> = wanted
            .0
            .iter()
            .flat_map(|(kind, objects)| objects.iter().map(|each| (kind.as_str(), &each.name)))
            .collect();
        let may_be_made = found.iter().any(|found| found.kind == "extension");
        let is_more = |found: &&Found| {
            let kind = found.kind.as_str();
            found.wanted && COUNTED.contains(&kind) && !had.contains(&(kind, &found.object.name))
        };
        for Found { kind, object, .. } in found.iter().filter(is_more) {
            if may_be_made {
                self.notes.push(format!("{kind} {} is there, and was not", object.name));
            } else {
                self.differs(kind, &object.name, "is there, and was not");
            }
        }
    }
}

fn unfinished(kind: &str) -> &'static str {
    match kind {
        "materialized view" => "is empty",
        "constraint" => "is not validated",
        _ => "is not valid",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str) -> CatalogObject {
        CatalogObject { name: Text::from(name), ..CatalogObject::default() }
    }

    fn listed(objects: &[(&str, CatalogObject)]) -> Objects {
        let mut listed = Objects::default();
        for (kind, object) in objects {
            listed.0.entry((*kind).to_owned()).or_default().push(object.clone());
        }
        listed
    }

    fn restored(objects: &[(&str, CatalogObject)]) -> Restored {
        let found = |(kind, object): &(&str, CatalogObject)| Found {
            kind: (*kind).to_owned(),
            object: object.clone(),
            wanted: true,
        };
        Restored {
            found: objects.iter().map(found).collect(),
            roles: BTreeSet::from([Text::from("boss")]),
            owners: true,
        }
    }

    fn told(wanted: &[(&str, CatalogObject)], found: &Restored) -> Vec<String> {
        let compared = compare_objects(&listed(wanted), found);
        let differences = compared.differences.iter();
        let told = differences.map(|each| format!("{} {} {}", each.kind, each.name, each.what));
        told.chain(compared.notes.iter().map(|note| format!("note: {note}"))).collect()
    }

    #[test]
    fn what_is_missing_is_named_with_its_kind() {
        let wanted = [("table", object("shop.orders")), ("index", object("shop.orders_at_idx"))];
        assert_eq!(told(&wanted, &restored(&wanted)), [""; 0]);
        let table = restored(&wanted[..1]);
        assert_eq!(told(&wanted, &table), ["index shop.orders_at_idx is missing"]);
    }

    #[test]
    fn an_object_of_another_kind_and_the_same_name_does_not_stand_in() {
        let found = restored(&[("domain", object("a.b"))]);
        assert_eq!(told(&[("type", object("a.b"))], &found), ["type a.b is missing"]);
    }

    #[test]
    fn what_was_not_valid_before_need_not_be_so_now() {
        let invalid = |is| CatalogObject { unfinished: is, ..object("i") };
        let cases = [(true, true, 0), (true, false, 0), (false, false, 0), (false, true, 1)];
        for (before, now, differences) in cases {
            let found = restored(&[("index", invalid(now))]);
            let told = told(&[("index", invalid(before))], &found);
            assert_eq!(told.len(), differences, "{before} {now} {told:?}");
        }
    }

    #[test]
    fn owners_and_roles_count_only_where_they_were_restored() {
        let owned = |by: &str| CatalogObject { owner: Some(Text::from(by)), ..object("t") };
        let wanted = [("table", owned("boss")), ("role", object("boss")), ("role", object("ghost"))];
        let mut found = restored(&[("table", owned("postgres"))]);
        let all = ["role ghost is missing", "table t belongs to role postgres, not boss"];
        assert_eq!(told(&wanted, &found), all);
        found.owners = false;
        assert_eq!(told(&wanted, &found), [""; 0]);
    }

    #[test]
    fn another_version_of_an_extension_is_told_and_no_difference() {
        let of = |version: &str| CatalogObject { version: Some(version.into()), ..object("hstore") };
        let found = restored(&[("extension", of("1.8"))]);
        let told = told(&[("extension", of("1.7"))], &found);
        assert_eq!(told, ["note: extension hstore is of version 1.8, and was of 1.7"]);
    }

    #[test]
    fn more_than_there_was_is_a_difference_where_no_extension_can_have_made_it() {
        let mut more = vec![("table", object("a.t")), ("function", object("a.f()"))];
        assert_eq!(told(&[], &restored(&more)), ["table a.t is there, and was not"]);
        more.push(("extension", object("x")));
        assert_eq!(told(&[], &restored(&more)), ["note: table a.t is there, and was not"]);
        let mut derived = restored(&[("index", object("a.t_pkey"))]);
        derived.found[0].wanted = false;
        assert_eq!(told(&[], &derived), [""; 0], "it comes with its constraint");
    }

    #[test]
    fn a_kind_of_a_newer_version_is_left_alone_and_told() {
        let told = told(&[("property graph", object("a.g"))], &restored(&[]));
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("property graph"), "{told:?}");
    }
}
