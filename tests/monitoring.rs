//! The dashboard and the alarms are over figures that there are, and the alarms are raised by what they are for.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    drill_records::Drilled,
    harness::{User, must, run, said, server},
    status::Service,
};

/// What the files name, and no run here says: the node exporter's.
const OTHERS: [&str; 1] = ["node_filesystem_avail_bytes"];

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/grafana").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(file(name)).expect("there")
}

#[test]
fn alarms_can_be_parsed_and_are_raised_by_what_they_are_for() {
    must(Command::new("promtool").args(["check", "rules"]).arg(file("alerts.yml")));
    must(Command::new("promtool").args(["test", "rules"]).arg(file("alerts.test.yml")));
}

#[test]
fn every_alarm_is_tested() {
    let names = |text: &str, mark: &str| -> BTreeSet<String> {
        let found = text.split(mark).skip(1);
        found.map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric()).collect()).collect()
    };
    let tested = names(&text("alerts.test.yml"), "alertname=\"");
    assert_eq!(names(&text("alerts.yml"), "- alert: "), tested);
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard: Value = serde_json::from_str(&text("dashboard.json")).expect("JSON");
    assert_eq!(dashboard["uid"], "stonekeep");
    let panels = dashboard["panels"].as_array().expect("panels");
    assert!(panels.len() > 10);
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert!(ids.len() == panels.len() && !ids.contains(&None), "each has a number of its own");
    for panel in panels {
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{}", panel["title"]);
        assert_eq!(panel["datasource"]["uid"], "${source}", "{}", panel["title"]);
        let refs: BTreeSet<_> = targets.iter().map(|target| target["refId"].as_str()).collect();
        assert_eq!(refs.len(), targets.len());
        for target in targets {
            assert!(target["expr"].as_str().is_some_and(|expr| expr.contains("stonekeep_")));
            assert_eq!(target["datasource"]["uid"], "${source}");
        }
        let place = &panel["gridPos"];
        let right = place["x"].as_u64().zip(place["w"].as_u64()).map(|(x, w)| x + w);
        assert!(right.is_some_and(|right| right <= 24), "{}", panel["title"]);
    }
}

/// The names of series that a text of figures says there are.
fn exported(figures: &str) -> BTreeSet<String> {
    let types = figures.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let series = types.map(|line| match line.split_once(' ').expect("a name and a type") {
        (name, "counter") => format!("{name}_total"),
        (name, "info") => format!("{name}_info"),
        (name, _) => name.to_owned(),
    });
    series.collect()
}

/// The names of series in expressions.
fn named(expressions: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expressions.split(|c| !is_part(c));
    let series = words.filter(|word| word.starts_with("stonekeep_") || word.starts_with("node_"));
    series.map(str::to_owned).collect()
}

fn expressions() -> String {
    let rules = text("alerts.yml");
    let rules = rules.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    let mut all: Vec<String> = rules.map(str::to_owned).collect();
    let dashboard: Value = serde_json::from_str(&text("dashboard.json")).expect("JSON");
    for panel in dashboard["panels"].as_array().expect("panels") {
        let targets = panel["targets"].as_array().expect("targets");
        all.extend(targets.iter().map(|target| target["expr"].to_string()));
    }
    all.push(dashboard["templating"].to_string());
    all.join("\n")
}

#[test]
fn every_figure_that_is_asked_for_is_exported_and_documented() {
    let drilled = Drilled::start("figures");
    let installation = &drilled.installation;
    let path = |name: &str| installation.path(name);
    installation.configure(|text| {
        format!("metrics_file = \"{}\"\n{text}", path("stonekeep.prom").display())
    });
    installation.backup();
    let proved = run(&mut installation.daemon(&["prove"]));
    assert!(proved.status.success(), "{}", said(&proved));
    let config = fs::read_to_string(path("stonekeep.toml")).expect("written");
    let config = config.replace("[watch]\n", "[watch]\nmetrics_file = \"watch.prom\"\n");
    let drill = "[drill]\nmetrics_file = \"drill.prom\"\nreport_key_file = \"report_key\"\nrecord = true\nrto_max = \"1h\"\n";
    installation.write("stonekeep.toml", &format!("{config}\n{drill}"));
    let target = server("STONEKEEP_TEST_PG2");
    must(&mut installation.reader(&["drill", "--server", &target, "--identity", "identity1"]));
    let (id, secret) = User::Watcher.keys();
    let mut watch = installation.reader(&["watch"]);
    let watched = run(watch.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret));
    assert!(watched.status.success(), "{}", said(&watched));
    let service = Service::start(installation, "show_names = true");
    let figures = service.get("/metrics");
    let mut there = exported(&figures);
    let of_service = there.clone();
    for name in ["stonekeep.prom", "stonekeep-prove.prom", "watch.prom", "drill.prom"] {
        let file = fs::read_to_string(path(name)).expect("written");
        there.extend(exported(&file));
        // What both have has one name; of its own runs a service that was just started knows nothing.
        let of_file = exported(&file);
        let is_of_run = |name: &&&String| !name.starts_with("stonekeep_backup_");
        let lacking: Vec<_> = of_file.difference(&of_service).collect();
        let lacking: Vec<_> = lacking.iter().filter(is_of_run).collect();
        assert!(!name.starts_with("stonekeep") || lacking.is_empty(), "/metrics lacks {lacking:?}");
    }
    let asked = named(&expressions());
    let unknown: Vec<_> =
        asked.difference(&there).filter(|name| !OTHERS.contains(&&***name)).collect();
    assert!(unknown.is_empty(), "nobody exports {unknown:?}");
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let docs = named(&fs::read_to_string(docs).expect("there"));
    let silent: Vec<_> = there.difference(&docs).collect();
    assert!(silent.is_empty(), "docs/metrics.md does not tell of {silent:?}");
    let gone: Vec<_> = docs.difference(&there).filter(|name| !OTHERS.contains(&&***name)).collect();
    assert!(gone.is_empty(), "docs/metrics.md tells of {gone:?}, which nobody exports");
    assert!(figures.contains("database=\"bookings\",repository=\"vault\""), "{figures}");
}
