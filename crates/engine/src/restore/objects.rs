//! Whether every object that production had is in the restored database: what pg_dump's table of contents does not name is
//! missed by nobody else.

use std::collections::{BTreeMap, BTreeSet};

use stonekeep_format::catalog::{CatalogObject, Objects, Text};
use stonekeep_postgres::objects::{Found, KINDS, ROLE};

use super::CompareOutcome;

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
pub(super) fn compare_objects(wanted: &Objects, restored: &Restored, all: &mut CompareOutcome) {
    let found: BTreeMap<(&str, &Text), &CatalogObject> = restored
        .found
        .iter()
        .map(|found| ((found.kind.as_str(), &found.object.name), &found.object))
        .collect();
    for (kind, objects) in &wanted.0 {
        if kind == ROLE {
            compare_roles(objects, restored, all);
        } else if KINDS.contains(&kind.as_str()) {
            let differs = |wanted: &CatalogObject| {
                let there = found.get(&(kind.as_str(), &wanted.name)).copied();
                difference(kind, wanted, there, restored.owners)
            };
            let differing = objects.iter().filter_map(differs).collect();
            all.add(&plural(kind), objects.len() as u64, differing);
        } else {
            all.not_checked.push(format!(
                "{} of kind {kind:?}, which a newer stonekeep has listed",
                objects.len()
            ));
        }
    }
    all.notes.extend(other_versions(wanted, &found));
    all.add_more(wanted, &restored.found);
}

fn compare_roles(roles: &[CatalogObject], restored: &Restored, all: &mut CompareOutcome) {
    if !restored.owners {
        return;
    }
    let asked = || roles.iter().filter(|role| role.name.0.is_ascii());
    let missing = asked().filter(|role| !restored.roles.contains(&role.name));
    let missing = missing.map(|role| format!("role {}, which is missing", role.name)).collect();
    all.add("roles", asked().count() as u64, missing);
}

fn difference(
    kind: &str,
    wanted: &CatalogObject,
    found: Option<&CatalogObject>,
    owners: bool,
) -> Option<String> {
    let name = &wanted.name;
    let Some(found) = found else { return Some(format!("{kind} {name}, which is missing")) };
    if found.unfinished && !wanted.unfinished {
        return Some(format!("{kind} {name}, which is {}", unfinished(kind)));
    }
    match (&wanted.owner, &found.owner) {
        (Some(before), Some(now)) if owners && before != now => {
            Some(format!("{kind} {name}, which belongs to role {now} and not to {before}"))
        }
        _ => None,
    }
}

fn unfinished(kind: &str) -> &'static str {
    match kind {
        "materialized view" => "empty",
        "constraint" => "not validated",
        _ => "not valid",
    }
}

/// Extensions of another version than production's: told, since it is the server's packages that decide.
fn other_versions(
    wanted: &Objects,
    found: &BTreeMap<(&str, &Text), &CatalogObject>,
) -> Vec<String> {
    let all =
        wanted.0.iter().flat_map(|(kind, objects)| objects.iter().map(move |each| (kind, each)));
    let told = |(kind, wanted): (&String, &CatalogObject)| {
        let before = wanted.version.as_ref()?;
        let now = found.get(&(kind.as_str(), &wanted.name))?.version.as_ref()?;
        let name = &wanted.name;
        (before != now).then(|| format!("{kind} {name} is of version {now}, and was of {before}"))
    };
    all.filter_map(told).collect()
}

impl CompareOutcome {
    /// What is there and was not. An extension's code may make objects of its own while a database is restored, so that
    /// where there is one, this is told and no difference.
    fn add_more(&mut self, wanted: &Objects, found: &[Found]) {
        let had: BTreeSet<(&str, &Text)> = wanted
            .0
            .iter()
            .flat_map(|(kind, objects)| objects.iter().map(|each| (kind.as_str(), &each.name)))
            .collect();
        let is_more = |found: &&Found| {
            let kind = found.kind.as_str();
            found.wanted && COUNTED.contains(&kind) && !had.contains(&(kind, &found.object.name))
        };
        let more = found.iter().filter(is_more);
        let more = more.map(|Found { kind, object, .. }| {
            format!("{kind} {}, which was not there", object.name)
        });
        let may_be_made = found.iter().any(|found| found.kind == "extension");
        let told = if may_be_made { &mut self.notes } else { &mut self.differences };
        told.extend(more);
    }
}

fn plural(kind: &str) -> String {
    match kind {
        "inheritance" => "partitions and inheriting tables".to_owned(),
        "row security" => "tables with row security".to_owned(),
        "statistics" => "extended statistics".to_owned(),
        _ => match kind.strip_suffix('y') {
            Some(stem) => format!("{stem}ies"),
            None if kind.ends_with(['s', 'x']) => format!("{kind}es"),
            None => format!("{kind}s"),
        },
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
        let mut all = CompareOutcome::default();
        compare_objects(&listed(wanted), found, &mut all);
        let notes = all.notes.iter().map(|note| format!("note: {note}"));
        all.differences.iter().cloned().chain(notes).collect()
    }

    #[test]
    fn what_is_missing_is_named_with_its_kind() {
        let wanted = [("table", object("shop.orders")), ("index", object("shop.orders_at_idx"))];
        assert_eq!(told(&wanted, &restored(&wanted)), [""; 0]);
        let table = restored(&wanted[..1]);
        assert_eq!(told(&wanted, &table), ["index shop.orders_at_idx, which is missing"]);
    }

    #[test]
    fn an_object_of_another_kind_and_the_same_name_does_not_stand_in() {
        let found = restored(&[("domain", object("a.b"))]);
        assert_eq!(told(&[("type", object("a.b"))], &found), ["type a.b, which is missing"]);
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
        let wanted =
            [("table", owned("boss")), ("role", object("boss")), ("role", object("ghost"))];
        let mut found = restored(&[("table", owned("postgres"))]);
        let all = [
            "role ghost, which is missing",
            "table t, which belongs to role postgres and not to boss",
        ];
        assert_eq!(told(&wanted, &found), all);
        found.owners = false;
        assert_eq!(told(&wanted, &found), [""; 0]);
    }

    #[test]
    fn another_version_of_an_extension_is_told_and_no_difference() {
        let of =
            |version: &str| CatalogObject { version: Some(version.into()), ..object("hstore") };
        let found = restored(&[("extension", of("1.8"))]);
        let told = told(&[("extension", of("1.7"))], &found);
        assert_eq!(told, ["note: extension hstore is of version 1.8, and was of 1.7"]);
    }

    #[test]
    fn more_than_there_was_is_a_difference_where_no_extension_can_have_made_it() {
        let mut more = vec![("table", object("a.t")), ("function", object("a.f()"))];
        assert_eq!(told(&[], &restored(&more)), ["table a.t, which was not there"]);
        more.push(("extension", object("x")));
        assert_eq!(told(&[], &restored(&more)), ["note: table a.t, which was not there"]);
        let mut derived = restored(&[("index", object("a.t_pkey"))]);
        derived.found[0].wanted = false;
        assert_eq!(told(&[], &derived), [""; 0], "it comes with its constraint");
    }

    #[test]
    fn a_kind_of_a_newer_version_is_left_alone_and_told() {
        let mut all = CompareOutcome::default();
        let wanted = listed(&[("property graph", object("a.g")), ("policy", object("p ON a.t"))]);
        compare_objects(&wanted, &restored(&[]), &mut all);
        assert_eq!(all.differences, ["policy p ON a.t, which is missing"]);
        assert!(all.not_checked[0].contains("property graph"), "{:?}", all.not_checked);
        let counts: Vec<_> =
            all.compared.iter().map(|each| (each.what.as_str(), each.same)).collect();
        assert_eq!(counts, [("policies", 0)]);
    }
}
