//! config/kubernetes: what kustomize makes of it is what Kubernetes takes, and keeps the rules of a pod that holds secrets.
//! There is no cluster here: nothing of this has run in one.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use stonekeep_postgres::connect::ConnectOptions;

use crate::harness::{is_slow, must, run, said, script, server};

/// The oldest version of Kubernetes whose schema must take it: the first with `podFailurePolicy` and `timeZone` for good.
const KUBERNETES: &str = "1.31";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn python() -> String {
    format!("{}/bin/python", server("STONEKEEP_TEST_MANIFESTS"))
}

/// Directories that render, base first.
fn all() -> Vec<PathBuf> {
    let root = root().join("config/kubernetes");
    let overlays = fs::read_dir(root.join("overlays")).expect("there");
    let mut overlays: Vec<PathBuf> = overlays.map(|entry| entry.expect("read").path()).collect();
    overlays.sort();
    assert!(overlays.len() >= 3, "{overlays:?}");
    [vec![root.join("base")], overlays].concat()
}

fn rendered(dir: &Path) -> String {
    must(Command::new(server("STONEKEEP_TEST_KUSTOMIZE")).arg("build").arg(dir))
}

/// The documents as Kubernetes reads them.
fn documents(yaml: &str) -> Vec<Value> {
    let read = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))";
    let mut python = Command::new(python())
        .args(["-c", read])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python runs");
    python.stdin.take().expect("a pipe").write_all(yaml.as_bytes()).expect("written");
    let output = python.wait_with_output().expect("ended");
    assert!(output.status.success(), "{yaml}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn of_kind<'d>(documents: &'d [Value], kind: &str) -> Vec<&'d Value> {
    documents.iter().filter(|document| document["kind"] == kind).collect()
}

fn pod(job: &Value) -> &Value {
    &job["spec"]["jobTemplate"]["spec"]["template"]
}

/// What schemas cannot say, of one CronJob; every line is a rule that is broken.
fn broken_rules(job: &Value) -> Vec<String> {
    let (pod, of_job) = (&pod(job)["spec"], &job["spec"]["jobTemplate"]["spec"]);
    let (container, of_pod) = (&pod["containers"][0], &pod["securityContext"]);
    let secret = &pod["volumes"]
        .as_array()
        .expect("volumes")
        .iter()
        .find(|volume| volume["name"] == "secrets")
        .expect("a secret")["secret"];
    let rules = [
        ("one at a time", job["spec"]["concurrencyPolicy"] == "Forbid"),
        ("a time zone", job["spec"]["timeZone"].is_string()),
        ("a missed slot is given up", job["spec"]["startingDeadlineSeconds"].is_u64()),
        ("an end", of_job["activeDeadlineSeconds"].is_u64()),
        ("few tries", of_job["backoffLimit"].as_u64().is_some_and(|tries| tries <= 3)),
        ("gone some day", of_job["ttlSecondsAfterFinished"].is_u64()),
        (
            "configuration is not tried again",
            of_job["podFailurePolicy"]["rules"][0]["action"] == "FailJob",
        ),
        ("time to end", pod["terminationGracePeriodSeconds"].as_u64() >= Some(60)),
        ("no token", pod["automountServiceAccountToken"] == false),
        ("an account of its own", pod["serviceAccountName"].is_string()),
        ("one container", pod["containers"].as_array().is_some_and(|all| all.len() == 1)),
        ("not root", of_pod["runAsNonRoot"] == true && of_pod["runAsUser"].as_u64() > Some(0)),
        ("seccomp", of_pod["seccompProfile"]["type"] == "RuntimeDefault"),
        (
            "not the host's",
            ["hostNetwork", "hostPID", "hostIPC"].iter().all(|each| pod[each].is_null()),
        ),
        ("private secrets", secret["defaultMode"] == 0o400),
    ];
    // What starts beforehand stays beside it, and is held as it is.
    let beside = pod["initContainers"].as_array().into_iter().flatten();
    let stays = |container: &&Value| container["restartPolicy"] == "Always";
    let stay = ("nothing that ends first", beside.clone().all(|each| stays(&each)));
    let of_all = beside.chain([container]).flat_map(container_rules);
    rules
        .into_iter()
        .chain([stay])
        .chain(of_all)
        .filter(|(_, holds)| !holds)
        .map(|(rule, _)| format!("{}: {rule}", job["metadata"]["name"]))
        .collect()
}

fn container_rules(container: &Value) -> Vec<(&'static str, bool)> {
    let security = &container["securityContext"];
    let image = container["image"].as_str().unwrap_or_default();
    let tag = image.rsplit('/').next().and_then(|name| name.split_once(':'));
    vec![
        ("no escalation", security["allowPrivilegeEscalation"] == false),
        ("read-only", security["readOnlyRootFilesystem"] == true),
        ("no capabilities", security["capabilities"]["drop"] == serde_json::json!(["ALL"])),
        (
            "not root of its own",
            security["runAsUser"].is_null() || security["runAsUser"].as_u64() > Some(0),
        ),
        ("requests", container["resources"]["requests"]["memory"].is_string()),
        ("a limit of memory", container["resources"]["limits"]["memory"].is_string()),
        ("a pinned image", tag.is_some_and(|(_, tag)| tag != "latest")),
        (
            "no secret in the environment",
            !container.to_string().contains("secretKeyRef") && container["envFrom"].is_null(),
        ),
    ]
}

/// Whether labels match a policy's selector; only `matchLabels` are written here.
fn selects(policy: &Value, pod: &Value) -> bool {
    let selector = policy["spec"]["podSelector"]["matchLabels"].as_object();
    let labels = &pod["metadata"]["labels"];
    selector.is_some_and(|wanted| wanted.iter().all(|(name, value)| labels[name] == *value))
}

#[test]
fn the_base_and_every_overlay_are_what_kubernetes_takes() {
    for dir in all() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), rendered(&dir)).expect("written");
        let mut validate = Command::new(python());
        validate.args(["-m", "kubernetes_validate", "--strict", "-k", KUBERNETES]);
        must(validate.arg(file.path()));
        let unknown = rendered(&dir).replace("concurrencyPolicy", "concurencyPolicy");
        fs::write(file.path(), unknown).expect("written");
        assert!(!run(&mut validate).status.success(), "an unknown field is refused");
    }
}

#[test]
fn every_pod_is_held_as_one_that_has_secrets() {
    for dir in all() {
        let documents = documents(&rendered(&dir));
        let jobs = of_kind(&documents, "CronJob");
        assert!(jobs.len() >= 3, "{dir:?}");
        let broken: Vec<String> = jobs.iter().flat_map(|job| broken_rules(job)).collect();
        assert!(broken.is_empty(), "{dir:?}: {broken:?}");
        for account in of_kind(&documents, "ServiceAccount") {
            assert_eq!(account["automountServiceAccountToken"], false, "{account}");
        }
        assert!(of_kind(&documents, "Secret").is_empty(), "{dir:?}: a secret is in the repository");
        let policies = of_kind(&documents, "NetworkPolicy");
        for job in jobs {
            let closes = |policy: &&&Value| {
                let types = policy["spec"]["policyTypes"].to_string();
                selects(policy, pod(job)) && types.contains("Ingress") && types.contains("Egress")
            };
            let closed = policies.iter().find(closes).expect("a policy that selects the pod");
            assert!(closed["spec"]["ingress"].as_array().is_none_or(Vec::is_empty), "{closed}");
            let reaches_databases = policies
                .iter()
                .filter(|policy| selects(policy, pod(job)))
                .any(|policy| policy.to_string().contains("5432"));
            let component = &pod(job)["metadata"]["labels"]["app.kubernetes.io/component"];
            // A drill's own server is in its pod.
            assert_eq!(reaches_databases, component == "backup", "{component}");
        }
    }
}

#[test]
fn a_broken_rule_is_found() {
    let documents = documents(&rendered(&all()[0]));
    let job = of_kind(&documents, "CronJob")[0];
    for (path, value) in [
        ("/spec/concurrencyPolicy", "Allow"),
        ("/spec/jobTemplate/spec/template/spec/securityContext/runAsUser", "0"),
        (
            "/spec/jobTemplate/spec/template/spec/containers/0/securityContext/readOnlyRootFilesystem",
            "false",
        ),
        ("/spec/jobTemplate/spec/template/spec/automountServiceAccountToken", "true"),
        ("/spec/jobTemplate/spec/template/spec/containers/0/image", "stonekeep"),
    ] {
        let mut broken = job.clone();
        *broken.pointer_mut(path).expect("there") =
            serde_json::from_str(value).unwrap_or(Value::from(value));
        assert_eq!(broken_rules(&broken).len(), 1, "{path}");
    }
}

#[test]
fn the_command_lines_are_those_of_the_programs() {
    for dir in all() {
        let documents = documents(&rendered(&dir));
        for job in of_kind(&documents, "CronJob") {
            let container = &pod(job)["spec"]["containers"][0];
            let words = |of: &Value| -> Vec<String> {
                of.as_array()
                    .expect("words")
                    .iter()
                    .map(|word| word.as_str().expect("a word").to_owned())
                    .collect()
            };
            let (command, args) = (words(&container["command"]), words(&container["args"]));
            let name =
                command[0].strip_prefix("/usr/bin/").expect("where the Containerfile puts it");
            let mut help = Command::new(format!("{}/{name}", server("STONEKEEP_TEST_BIN")));
            // With --help, clap looks at what stands before it: an unknown command or option is refused.
            assert!(run(help.args(args).arg("--help")).status.success(), "{}", container["args"]);
            assert!(job["spec"]["suspend"].is_null(), "{}", job["metadata"]["name"]);
        }
    }
}

#[test]
fn the_drill_finds_its_server_by_a_socket_that_both_containers_share() {
    let overlay = root().join("config/kubernetes/overlays/with-drill");
    let documents = documents(&rendered(&overlay));
    let jobs = of_kind(&documents, "CronJob");
    let drill = jobs.iter().find(|job| job["metadata"]["name"] == "stonekeep-drill");
    let pod = &pod(drill.expect("a drill"))["spec"];
    let mounted = |container: &Value| {
        let mounts = container["volumeMounts"].as_array().expect("mounts").clone();
        let socket = mounts.into_iter().find(|mount| mount["name"] == "socket").expect("mounted");
        socket["mountPath"].as_str().expect("a path").to_owned()
    };
    let (own, server) = (&pod["containers"][0], &pod["initContainers"][0]);
    let args = own["args"].to_string();
    let url = args.split('"').find(|word| word.starts_with("postgres://")).expect("a URL");
    let target = ConnectOptions::parse(url).expect("a server");
    assert_eq!(target.host, mounted(own));
    // Where Debian's PostgreSQL, and so the image, has it.
    assert_eq!(mounted(server), "/var/run/postgresql");
    assert!(server["args"].to_string().contains("\"listen_addresses=\""), "{server}");
    let volumes = pod["volumes"].as_array().expect("volumes");
    for container in [own, server] {
        for mount in container["volumeMounts"].as_array().expect("mounts") {
            assert!(volumes.iter().any(|volume| volume["name"] == mount["name"]), "{mount}");
        }
    }
}

#[test]
fn every_package_gets_into_the_image_that_is_built_and_no_secret_does() {
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&must(cargo.current_dir(root()))).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let top = metadata["workspace_root"].as_str().expect("a path");
    let ignored = fs::read_to_string(root().join(".containerignore")).expect("there");
    let lines: Vec<&str> = ignored.lines().collect();
    assert_eq!(lines[1], "*", "nothing is taken that is not named");
    for package in packages {
        let manifest = package["manifest_path"].as_str().expect("a path");
        let folder = manifest.strip_prefix(top).and_then(|path| path.split('/').nth(1));
        let folder = format!("!{}", folder.expect("below the root"));
        assert!(lines.contains(&folder.as_str()), "{folder}");
    }
    // The recovery kit is made of it.
    assert!(lines.contains(&"!docs/format.md"));
}

#[test]
fn the_last_stage_of_the_containerfile_makes_an_image_that_runs_without_root() {
    if !is_slow() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let tree = dir.path().join("image");
    must(Command::new(script("debian.sh")).arg(&tree));
    let mut build = Command::new(python());
    build
        .arg(script("containerfile.py"))
        .arg(&tree)
        .arg(server("STONEKEEP_TEST_BIN"))
        .arg("Containerfile");
    let image: Value = serde_json::from_str(&must(build.current_dir(root()))).expect("JSON");
    assert_eq!(image["base"], "debian:bookworm-slim");
    assert_eq!(image["user"], "65532:65532");
    let inside = |program: &str, args: &[&str]| {
        let mut command = Command::new("chroot");
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.arg(format!("--userspec={}", image["user"].as_str().expect("a user")));
        run(command.arg("--groups=").arg(&tree).arg(program).args(args))
    };
    let entry = image["entrypoint"][0].as_str().expect("a program");
    for (program, args) in [
        (entry, "--version"),
        ("/usr/bin/stonekeep", "--version"),
        ("/usr/lib/postgresql/15/bin/pg_dump", "--version"),
        ("/usr/lib/postgresql/15/bin/pg_dumpall", "--version"),
        ("/usr/lib/postgresql/15/bin/pg_restore", "--version"),
    ] {
        let output = inside(program, &[args]);
        assert!(
            output.status.success() && !output.stdout.is_empty(),
            "{program}: {}",
            said(&output)
        );
    }
    assert!(!inside("/usr/bin/touch", &["/usr/bin/stonekeepd"]).status.success());

    // The build stage takes a compiler and many minutes; that it names packages of this workspace can be asked.
    let builds = image["builds"].as_array().expect("commands");
    let cargo = builds
        .iter()
        .filter_map(Value::as_str)
        .find_map(|line| line.strip_prefix("cargo build --release "));
    let mut tree = Command::new("cargo");
    tree.args(["tree", "--depth", "0", "--offline"]).current_dir(root());
    let packages = must(tree.args(cargo.expect("a release is built").split(' ')));
    assert!(packages.contains("stonekeepd ") && packages.contains("stonekeep "), "{packages}");
}
