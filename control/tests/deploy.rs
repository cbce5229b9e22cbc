//! `deploy/` and the Dockerfile, as far as a machine without a cluster and a container engine can tell: every object is one
//! that Kubernetes knows field by field, the role allows what Margay does and no more, the configuration is one that Margay
//! reads, and what the image is made of exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, PodSpec, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule};
use margay_control::config::Config;
use margay_control::privileges::{RUNNING, STARTING};
use margay_control::source::kubernetes::{VERBS, WATCHED};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What Margay writes, and what it asks for before it does (`control/src/report/write.rs`).
const WRITTEN: [(&str, &str, &str); 3] =
    [("", "nodes", "get"), ("", "nodes/status", "patch"), ("events.k8s.io", "events", "create")];

/// What is for Prometheus and Grafana to load, and no object of Kubernetes.
const FOR_MONITORING: [&str; 2] = ["alerts.yaml", "grafana-dashboard.json"];

/// Libraries that the image's base has.
const IN_BASE: [&str; 4] = ["ld-linux-x86-64.so.2", "libc.so.6", "libgcc_s.so.1", "libm.so.6"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The one document of a file.
fn document(file: &str) -> Value {
    let text = read(&format!("deploy/{file}"));
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    let [document] = &documents[..] else { panic!("{file} holds {} documents", documents.len()) };
    document.clone()
}

/// The document as an object of Kubernetes. A field that the type does not have is lost on the way there and back.
fn typed<T: DeserializeOwned + Serialize>(file: &str) -> T {
    let document = document(file);
    let object: T =
        serde_json::from_value(document.clone()).unwrap_or_else(|error| panic!("{file}: {error}"));
    assert_eq!(serde_json::to_value(&object).unwrap(), document, "{file}: what Kubernetes does not know");
    object
}

fn pod_spec() -> PodSpec {
    typed::<DaemonSet>("daemon-set.yaml").spec.unwrap().template.spec.unwrap()
}

#[test]
fn every_object_is_one_of_kubernetes_and_the_kustomization_names_every_file() {
    typed::<Namespace>("namespace.yaml");
    typed::<ServiceAccount>("service-account.yaml");
    let kustomization = document("kustomization.yaml");
    let list = |value: &Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap() };
    let mut named: BTreeSet<String> = list(&kustomization["resources"]).into_iter().collect();
    named.extend(list(&kustomization["configMapGenerator"][0]["files"]));
    named.insert("kustomization.yaml".to_owned());
    named.extend(FOR_MONITORING.map(str::to_owned));
    let entries = fs::read_dir(root().join("deploy")).unwrap();
    let files = entries.map(Result::unwrap).filter(|entry| entry.file_type().unwrap().is_file());
    let there: BTreeSet<String> = files.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert_eq!(there, named);
}

#[test]
fn what_the_objects_name_is_there() {
    let kustomization = document("kustomization.yaml");
    let namespace = typed::<Namespace>("namespace.yaml").metadata.name;
    let account = typed::<ServiceAccount>("service-account.yaml").metadata;
    let role = typed::<ClusterRole>("cluster-role.yaml").metadata.name.unwrap();
    let binding: ClusterRoleBinding = typed("cluster-role-binding.yaml");
    let daemon_set: DaemonSet = typed("daemon-set.yaml");
    assert_eq!(kustomization["namespace"].as_str(), namespace.as_deref());
    assert_eq!((&account.namespace, &daemon_set.metadata.namespace), (&namespace, &namespace));
    assert_eq!((binding.role_ref.kind.as_str(), &binding.role_ref.name), ("ClusterRole", &role));
    let subject = &binding.subjects.unwrap()[0];
    assert_eq!((Some(&subject.name), &subject.namespace), (account.name.as_ref(), &namespace));
    let spec = daemon_set.spec.unwrap();
    assert_eq!(spec.selector.match_labels, spec.template.metadata.unwrap().labels);
    let pod = spec.template.spec.unwrap();
    assert_eq!(pod.service_account_name, account.name);
    let config = pod.volumes.unwrap().into_iter().find_map(|volume| volume.config_map).unwrap();
    assert_eq!(kustomization["configMapGenerator"][0]["name"], config.name.as_str());
    assert_eq!(kustomization["images"][0]["name"].as_str(), pod.containers[0].image.as_deref());
    assert_eq!(kustomization["images"][0]["newTag"], env!("CARGO_PKG_VERSION"));
}

/// Triples of API group, resource and verb.
fn allowed(rules: &[PolicyRule]) -> BTreeSet<(String, String, String)> {
    let mut allowed = BTreeSet::new();
    for rule in rules {
        assert!(rule.resource_names.is_none() && rule.non_resource_urls.is_none(), "{rule:?}");
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                allowed.extend(rule.verbs.iter().map(|verb| (group.clone(), resource.clone(), verb.clone())));
            }
        }
    }
    allowed
}

#[test]
fn the_role_allows_what_margay_does_and_no_more() {
    let mut needed: BTreeSet<(String, String, String)> = BTreeSet::new();
    for watched in WATCHED {
        for version in watched.versions {
            needed.extend(
                VERBS.map(|verb| (version.group.to_owned(), watched.plural.to_owned(), verb.to_owned())),
            );
        }
    }
    needed.extend(
        WRITTEN.map(|(group, resource, verb)| (group.to_owned(), resource.to_owned(), verb.to_owned())),
    );
    let role: ClusterRole = typed("cluster-role.yaml");
    assert_eq!(allowed(&role.rules.unwrap()), needed);
}

#[test]
fn the_configuration_is_one_that_margay_reads_and_the_pod_mounts_what_it_names() {
    let config = Config::parse(Path::new("deploy/margay.toml"), &read("deploy/margay.toml")).unwrap();
    assert!(config.source.kubernetes.is_some() && config.source.directory.is_none());
    let spec = pod_spec();
    let container = &spec.containers[0];
    let mounted: BTreeMap<&str, &str> = container
        .volume_mounts
        .iter()
        .flatten()
        .map(|mount| (mount.mount_path.as_str(), mount.name.as_str()))
        .collect();
    let volume = |path: &Path| {
        let name = mounted.get(path.to_str().unwrap()).unwrap_or_else(|| panic!("{path:?} is not mounted"));
        spec.volumes.iter().flatten().find(|volume| volume.name == *name).unwrap()
    };
    assert!(volume(config.admin.socket.parent().unwrap()).empty_dir.is_some());
    let settings = volume(&config.node.proc_sys_net).host_path.as_ref().unwrap();
    assert_eq!(settings.path, "/proc/sys/net");
    let file =
        container.args.iter().flatten().find_map(|argument| argument.strip_prefix("--config=")).unwrap();
    assert!(volume(Path::new(file).parent().unwrap()).config_map.is_some());
    assert_eq!(Path::new(file).file_name().unwrap(), "margay.toml");
}

#[test]
fn the_pod_has_the_capabilities_that_margay_needs_and_no_more() {
    let spec = pod_spec();
    assert_eq!(spec.host_network, Some(true));
    assert_eq!((spec.host_pid, spec.host_ipc), (None, None));
    let security = spec.containers[0].security_context.as_ref().unwrap();
    assert_eq!((security.privileged, security.allow_privilege_escalation), (None, Some(false)));
    assert_eq!(security.read_only_root_filesystem, Some(true));
    let capabilities = security.capabilities.as_ref().unwrap();
    assert_eq!(capabilities.drop.as_deref(), Some(&["ALL".to_owned()][..]));
    assert_eq!(capabilities.add.as_deref().unwrap(), ["NET_ADMIN", "NET_RAW", "BPF", "PERFMON", "IPC_LOCK"]);
}

/// Words of the Dockerfile's instructions of this name.
fn instructions(name: &str) -> Vec<Vec<String>> {
    let text = read("Dockerfile").replace("\\\n", " ");
    let instructions =
        text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    instructions.filter(|words| words.first().is_some_and(|word| word == name)).collect()
}

#[test]
fn the_probes_and_the_image_start_the_program_where_the_image_has_it() {
    let entry: Vec<String> = serde_json::from_str(&instructions("ENTRYPOINT")[0][1..].join(" ")).unwrap();
    let [program] = &entry[..] else { panic!("{entry:?}") };
    assert!(instructions("COPY").iter().any(|words| words.last() == Some(program)));
    let container = &pod_spec().containers[0];
    for probe in [&container.startup_probe, &container.liveness_probe, &container.readiness_probe] {
        let command = probe.as_ref().unwrap().exec.as_ref().unwrap().command.as_ref().unwrap();
        assert_eq!(&command[0], program);
        margay(&command[1..]);
    }
    let mut arguments = container.args.clone().unwrap();
    arguments.push("--check".to_owned());
    margay(&arguments);
}

/// That `margay` knows these arguments: of others it shows the usage, whatever else is wrong. With `--check` it starts
/// nothing.
fn margay(arguments: &[String]) {
    let output = Command::new(env!("CARGO_BIN_EXE_margay")).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("Usage:"), "{arguments:?}: {said}");
}

#[test]
fn the_image_has_the_libraries_that_the_program_links_to() {
    let copied: BTreeSet<String> = instructions("COPY")
        .into_iter()
        .filter(|words| words[1] == "--from=build" && words[2].contains(".so"))
        .map(|words| words[2].rsplit('/').next().unwrap().to_owned())
        .collect();
    let output = Command::new("ldd").arg(env!("CARGO_BIN_EXE_margay")).output().unwrap();
    assert!(output.status.success());
    let linked: BTreeSet<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.rsplit('/').next().map(str::to_owned))
        .filter(|library| library != "linux-vdso.so.1" && !IN_BASE.contains(&library.as_str()))
        .collect();
    assert_eq!(copied, linked);
}

#[test]
fn the_image_is_built_from_what_is_there() {
    let text = read("Dockerfile");
    let ignored = read(".dockerignore");
    for words in instructions("COPY").iter().filter(|words| !words[1].starts_with("--from")) {
        for source in &words[1..words.len() - 1] {
            assert!(root().join(source).exists(), "{source}");
        }
    }
    for needed in [".ci/deps", "Cargo.lock"] {
        assert!(
            root().join(needed).exists() && !ignored.lines().any(|line| needed.starts_with(line)),
            "{needed}"
        );
    }
    assert!(text.contains(".ci/deps build") && text.contains("--package margay-control --bin margay"));
}

/// Values of a key of the unit, of all its lines.
fn of_unit(key: &str) -> Vec<String> {
    let unit = read("deploy/systemd/margay.service");
    let values = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.flat_map(|value| value.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn the_unit_gives_what_margay_keeps_and_runs_commands_that_there_are() {
    let given: BTreeSet<String> = of_unit("CapabilityBoundingSet").into_iter().collect();
    let kept = RUNNING.iter().chain(&STARTING).map(ToString::to_string);
    // It takes a capability to give up the others for good.
    assert_eq!(given, kept.chain(["CAP_SETPCAP".to_owned()]).collect());
    assert_eq!(of_unit("RestartPreventExitStatus"), ["2"]);
    assert_eq!(of_unit("Type"), ["notify"]);
    for key in ["ExecStartPre", "ExecStart", "ExecReload"] {
        let command = of_unit(key);
        let help = Command::new(env!("CARGO_BIN_EXE_margay")).args([&command[1], "--help"]).output().unwrap();
        let text = String::from_utf8_lossy(&help.stdout).into_owned();
        for option in command.iter().filter(|word| word.starts_with("--")) {
            assert!(text.contains(option.as_str()), "{key}: no {option} in\n{text}");
        }
    }
    let socket = Config::default().admin.socket;
    let directory = Path::new("/run").join(&of_unit("RuntimeDirectory")[0]);
    assert_eq!(socket.parent(), Some(directory.as_path()));
}

#[test]
fn systemd_takes_the_unit_as_it_is() {
    let home = tempfile::tempdir().unwrap();
    let unit = home.path().join("margay.service");
    let text =
        read("deploy/systemd/margay.service").replace("/usr/local/bin/margay", env!("CARGO_BIN_EXE_margay"));
    fs::write(&unit, text).unwrap();
    // A machine without systemd cannot say.
    let Ok(verified) = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output()
    else {
        return;
    };
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && !said.contains("margay.service"), "{said}");
}
