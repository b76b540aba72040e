//! `cargo xtask manifests`: what deploy/ gives to Kubernetes, Prometheus and Grafana, judged without a cluster.

mod pods;

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use serde_json::Value as Json;

use crate::setup;

pub const HELP: &str = "\
Checks deploy/ without a cluster. Each overlay in deploy/kubernetes/overlays is built by `kubectl kustomize`, validated
against the oldest and the newest Kubernetes that there are schemas for (unknown fields are errors), and held to the
restricted Pod Security Standard and to our own rules: a read-only root, probes, resources, images with a version, and
hostPath in the overlay single-node alone, with an annotation tapedeck/host-path-reason.
Alerts in deploy/prometheus are checked, and their tests run, by promtool; dashboards in deploy/grafana must be JSON.

Usage: cargo xtask manifests

What it needs is installed first: promtool, and kubectl and kubernetes-validate in target/venv.
";

/// What kubernetes-validate has strict schemas for, first and last.
const KUBERNETES: [&str; 2] = ["1.25", "1.37"];

/// Kinds that operators bring to a cluster: nobody has their schemas.
const CUSTOM: &[&str] = &["keda.sh/v1alpha1", "monitoring.coreos.com/v1"];

/// `cargo xtask manifests`.
pub fn command(arguments: &[OsString]) -> Result<()> {
    crate::only(arguments, &[], "manifests")?;
    let venv = setup::manifests()?;
    let seen = check_ours(&Programs::new(venv.folder()))?;
    println!(
        "manifests: {} overlays with {} objects, {} files of alerts, {} of their tests, {} dashboards are in order",
        seen.overlays, seen.objects, seen.alerts, seen.alert_tests, seen.dashboards
    );
    Ok(())
}

/// What was looked at.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    overlays: usize,
    objects: usize,
    alerts: usize,
    alert_tests: usize,
    dashboards: usize,
}

/// The programs that know the formats.
struct Programs {
    kubectl: PathBuf,
    validate: PathBuf,
    python: PathBuf,
    promtool: PathBuf,
}

impl Programs {
    fn new(venv: &Path) -> Programs {
        let own = |name: &str| venv.join("bin").join(name);
        Programs {
            kubectl: own("kubectl"),
            validate: own("kubernetes-validate"),
            python: own("python3"),
            promtool: "promtool".into(),
        }
    }
}

/// The repository's own, of which each kind must be there: a check of nothing finds nothing.
fn check_ours(programs: &Programs) -> Result<Seen> {
    let seen = check(&crate::root().join("deploy"), programs)?;
    let Seen { overlays, objects: _, alerts, alert_tests, dashboards } = seen;
    if [overlays, alerts, alert_tests, dashboards].contains(&0) {
        bail!(
            "deploy/ lacks something, or it lies elsewhere now: {seen:?}. Overlays are looked for in kubernetes/overlays/, alerts \
             in prometheus/*.yml, their tests in prometheus/*_test.yml, dashboards in grafana/*.json"
        );
    }
    Ok(seen)
}

fn check(deploy: &Path, programs: &Programs) -> Result<Seen> {
    let (mut seen, mut faults) = (Seen::default(), Vec::new());
    for overlay in entries(&deploy.join("kubernetes/overlays"), "")? {
        seen.overlays += 1;
        match overlay_objects(&overlay, programs) {
            Ok((objects, found)) => {
                seen.objects += objects;
                faults.extend(found);
            }
            Err(error) => faults.push(format!("{}: {error:#}", overlay.display())),
        }
    }
    for file in entries(&deploy.join("prometheus"), ".yml")? {
        let is_test = file.to_string_lossy().ends_with("_test.yml");
        *(if is_test { &mut seen.alert_tests } else { &mut seen.alerts }) += 1;
        let action = if is_test { "test" } else { "check" };
        let said = run(Command::new(&programs.promtool).args([action, "rules"]).arg(&file), "")?;
        faults.extend(said.err().map(|said| format!("{}: promtool {action} rules: {said}", file.display())));
    }
    for file in entries(&deploy.join("grafana"), ".json")? {
        seen.dashboards += 1;
        faults.extend(
            dashboard_fault(&fs::read_to_string(&file)?).map(|fault| format!("{}: {fault}", file.display())),
        );
    }
    if faults.is_empty() {
        return Ok(seen);
    }
    bail!("{}", faults.join("\n"))
}

/// What lies in a folder and ends so, in order; nothing where there is no such folder.
fn entries(folder: &Path, end: &str) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let list = fs::read_dir(folder).with_context(|| format!("{} could not be listed", folder.display()))?;
    let paths = list.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    let mut paths: Vec<PathBuf> =
        paths.into_iter().filter(|path| path.to_string_lossy().ends_with(end)).collect();
    paths.sort();
    Ok(paths)
}

/// How many objects an overlay makes, and what is wrong with them.
fn overlay_objects(overlay: &Path, programs: &Programs) -> Result<(usize, Vec<String>)> {
    let name = overlay.file_name().unwrap_or_default().to_string_lossy();
    let built = run(Command::new(&programs.kubectl).arg("kustomize").arg(overlay), "")?;
    let yaml = built.map_err(|said| anyhow::anyhow!("kubectl kustomize: {said}"))?;
    let mut faults = Vec::new();
    for version in KUBERNETES {
        let mut validate = Command::new(&programs.validate);
        validate.args(["--strict", "--quiet", "--kubernetes-version", version, "-"]);
        let said = run(&mut validate, &yaml)?;
        let lines = said.unwrap_or_else(|said| said);
        faults.extend(lines.lines().filter(|line| !is_custom(line)).map(|line| format!("{name}: {line}")));
    }
    let objects = objects(&yaml, programs)?;
    faults.extend(pods::faults(&objects, &name).into_iter().map(|fault| format!("{name}: {fault}")));
    Ok((objects.len(), faults))
}

/// `WARN - Couldn't find schema for kind ScaledObject with api version keda.sh/v1alpha1 for kubernetes version 1.37`.
fn is_custom(line: &str) -> bool {
    line.starts_with("WARN") && CUSTOM.iter().any(|custom| line.contains(&format!(" api version {custom} ")))
}

fn objects(yaml: &str, programs: &Programs) -> Result<Vec<Json>> {
    let convert = "import json, sys, yaml\njson.dump([one for one in yaml.safe_load_all(sys.stdin) if one], sys.stdout, default=str)";
    let json = run(Command::new(&programs.python).args(["-c", convert]), yaml)?;
    let json = json.map_err(|said| anyhow::anyhow!("what kustomize built is no YAML: {said}"))?;
    let objects: Vec<Json> = serde_json::from_str(&json).context("Python did not print JSON")?;
    if objects.is_empty() {
        bail!("it makes no object at all; name its resources in kustomization.yaml");
    }
    Ok(objects)
}

fn dashboard_fault(text: &str) -> Option<String> {
    let dashboard: Json = match serde_json::from_str(text) {
        Ok(dashboard) => dashboard,
        Err(error) => return Some(format!("is no JSON: {error}")),
    };
    let has = |key: &str| dashboard[key].as_str().is_some_and(|text| !text.is_empty());
    let panels = dashboard["panels"].as_array().is_some_and(|panels| !panels.is_empty());
    (!(has("title") && has("uid") && panels))
        .then(|| "lacks a title, a uid or panels; export it from Grafana again".into())
}

/// What a program prints for an input: `Err` with both its outputs when it fails.
fn run(command: &mut Command, input: &str) -> Result<Result<String, String>> {
    let line = crate::line(command);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child
        .with_context(|| format!("{line} could not be started; `cargo xtask setup --tests` installs it"))?;
    let pipe = child.stdin.take();
    let output = thread::scope(|scope| {
        // A program that ends before it has read everything is judged by its exit code.
        scope.spawn(move || pipe.map(|mut pipe| pipe.write_all(input.as_bytes())));
        child.wait_with_output()
    });
    let output = output.with_context(|| format!("{line} could not be waited for"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(Ok(text(&output.stdout)));
    }
    let said = text(&output.stdout) + &text(&output.stderr);
    Ok(Err(if said.trim().is_empty() { output.status.to_string() } else { said.trim().to_string() }))
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::*;

    fn programs() -> Programs {
        let venv = env::var_os("TAPEDECK_TEST_VENV").expect(
            "TAPEDECK_TEST_VENV is not set: run the tests by `cargo xtask test`, which makes the Python environment",
        );
        Programs::new(Path::new(&venv))
    }

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    const KUSTOMIZATION: &str = "resources: [map.yaml]\n";
    const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: map}\ndata: {A: b}\n";
    const HERE: &str = "kubernetes/overlays/here/kustomization.yaml";
    const HERE_MAP: &str = "kubernetes/overlays/here/map.yaml";

    fn fault(files: &[(&str, &str)]) -> String {
        check(tree(files).path(), &programs()).unwrap_err().to_string()
    }

    #[test]
    fn the_manifests_of_this_repository_are_in_order() {
        if let Err(error) = check_ours(&programs()) {
            panic!("{error:#}");
        }
    }

    #[test]
    fn an_overlay_that_is_in_order_is_counted() {
        let custom = "---\napiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {name: x}\n";
        let tree = tree(&[(HERE, KUSTOMIZATION), (HERE_MAP, &format!("{MAP}{custom}"))]);
        let seen = check(tree.path(), &programs()).unwrap();
        assert_eq!(seen, Seen { overlays: 1, objects: 2, ..Seen::default() });
    }

    #[test]
    fn an_overlay_that_cannot_be_built_is_a_fault() {
        let fault = fault(&[(HERE, KUSTOMIZATION)]);
        assert!(fault.contains("kubectl kustomize") && fault.contains("map.yaml"), "{fault}");
    }

    #[test]
    fn an_overlay_that_makes_nothing_is_a_fault() {
        let fault = fault(&[(HERE, "namespace: here\n")]);
        assert!(fault.contains("overlays/here"), "{fault}");
    }

    #[test]
    fn a_field_and_a_kind_that_kubernetes_does_not_know_are_faults() {
        let unknown_field = fault(&[(HERE, KUSTOMIZATION), (HERE_MAP, &format!("{MAP}date: {{}}\n"))]);
        assert!(unknown_field.contains("'date' was unexpected"), "{unknown_field}");
        let unknown_kind =
            fault(&[(HERE, KUSTOMIZATION), (HERE_MAP, &MAP.replace("ConfigMap", "ConfigMop"))]);
        assert!(unknown_kind.contains("ConfigMop"), "{unknown_kind}");
    }

    #[test]
    fn a_pod_against_the_rules_is_a_fault_of_its_overlay() {
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: map}\nspec: {containers: [{name: a, image: a:latest}]}\n";
        let fault = fault(&[(HERE, KUSTOMIZATION), (HERE_MAP, pod)]);
        assert!(fault.contains("here: Pod/map") && fault.contains("runAsNonRoot"), "{fault}");
    }

    const ALERTS: &str = "groups: [{name: a, rules: [{alert: Down, expr: up == 0, labels: {severity: page}, annotations: {summary: s}}]}]\n";

    fn alert_test(alerts: &str) -> String {
        format!(
            "rule_files: [alerts.yml]\ntests:\n- interval: 1m\n  input_series: [{{series: up, values: '0x5'}}]\n  alert_rule_test:\n  \
             - {{eval_time: 2m, alertname: Down, exp_alerts: {alerts}}}\n"
        )
    }

    #[test]
    fn alerts_and_their_tests_are_counted() {
        let expected = alert_test("[{exp_labels: {severity: page}, exp_annotations: {summary: s}}]");
        let tree = tree(&[("prometheus/alerts.yml", ALERTS), ("prometheus/alerts_test.yml", &expected)]);
        let seen = check(tree.path(), &programs()).unwrap();
        assert_eq!(seen, Seen { alerts: 1, alert_tests: 1, ..Seen::default() });
    }

    #[test]
    fn a_rule_that_prometheus_cannot_read_is_a_fault() {
        let fault = fault(&[("prometheus/alerts.yml", &ALERTS.replace("up == 0", "up == (0"))]);
        assert!(fault.contains("promtool check rules"), "{fault}");
    }

    #[test]
    fn an_alert_that_does_not_do_what_its_test_says_is_a_fault() {
        let fault =
            fault(&[("prometheus/alerts.yml", ALERTS), ("prometheus/alerts_test.yml", &alert_test("[]"))]);
        assert!(fault.contains("promtool test rules"), "{fault}");
    }

    #[test]
    fn a_dashboard_without_panels_is_a_fault() {
        assert_eq!(dashboard_fault(r#"{"title": "T", "uid": "t", "panels": [{}]}"#), None);
        assert!(dashboard_fault(r#"{"title": "T", "uid": "t", "panels": []}"#).is_some());
        assert!(dashboard_fault("{").unwrap().contains("no JSON"));
    }
}
