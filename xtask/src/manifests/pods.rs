//! The rules for pods: Kubernetes' restricted Pod Security Standard
//! (<https://kubernetes.io/docs/concepts/security/pod-security-standards/>) and ours.

use serde_json::Value as Json;

/// The one overlay that may use a node's own disk: a node without a provisioner for volumes.
const HOST_PATH_OVERLAY: &str = "single-node";

/// Where it says why it does.
const HOST_PATH_REASON: &str = "/metadata/annotations/tapedeck~1host-path-reason";

/// What the restricted standard lets a pod mount.
const VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// What is wrong with the pods that some objects make, and with their volumes.
pub fn faults(objects: &[Json], overlay: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for object in objects {
        let kind = text(object, "/kind");
        let mut judge =
            Judge { place: format!("{kind}/{}", text(object, "/metadata/name")), faults: Vec::new() };
        if kind == "PersistentVolume" && object.pointer("/spec/hostPath").is_some() {
            judge.host_path(&[object], overlay);
        }
        if let Some(template) = template(object, kind) {
            judge.pod(&template["spec"]);
            judge.volumes(object, template, overlay);
            let runs_on = !matches!(kind, "Job" | "CronJob");
            judge.containers(&template["spec"], runs_on);
        }
        faults.extend(judge.faults);
    }
    faults
}

/// The pod, or what a pod is made from.
fn template<'a>(object: &'a Json, kind: &str) -> Option<&'a Json> {
    match kind {
        "Pod" => Some(object),
        "CronJob" => object.pointer("/spec/jobTemplate/spec/template"),
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "Job" => {
            object.pointer("/spec/template")
        }
        _ => None,
    }
}

fn text<'a>(object: &'a Json, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Json::as_str).unwrap_or_default()
}

fn is(object: &Json, pointer: &str, wanted: bool) -> bool {
    object.pointer(pointer).and_then(Json::as_bool) == Some(wanted)
}

fn list<'a>(object: &'a Json, pointer: &str) -> impl Iterator<Item = &'a Json> {
    object.pointer(pointer).and_then(Json::as_array).into_iter().flatten()
}

/// Collects what is wrong at one place.
struct Judge {
    place: String,
    faults: Vec<String>,
}

impl Judge {
    fn demand(&mut self, kept: bool, rule: &str) {
        if !kept {
            self.faults.push(format!("{}: {rule}", self.place));
        }
    }

    fn pod(&mut self, pod: &Json) {
        for name in ["hostNetwork", "hostPID", "hostIPC"] {
            self.demand(pod[name] != true, &format!("must not set {name}"));
        }
        let sysctls = list(pod, "/securityContext/sysctls").next().is_none();
        self.demand(sysctls, "must not set securityContext.sysctls");
    }

    fn volumes(&mut self, object: &Json, template: &Json, overlay: &str) {
        for volume in list(template, "/spec/volumes") {
            let kinds = volume.as_object().into_iter().flat_map(|volume| volume.keys());
            for kind in kinds.filter(|key| *key != "name") {
                if kind == "hostPath" {
                    self.host_path(&[object, template], overlay);
                    continue;
                }
                let name = text(volume, "/name");
                let rule = format!("volume {name}: {kind} is not among {}", VOLUMES.join(", "));
                self.demand(VOLUMES.contains(&kind.as_str()), &rule);
            }
        }
    }

    /// The reason stands at one of the places.
    fn host_path(&mut self, places: &[&Json], overlay: &str) {
        self.demand(overlay == HOST_PATH_OVERLAY, "hostPath belongs in the overlay single-node alone");
        let reason = places.iter().any(|place| !text(place, HOST_PATH_REASON).trim().is_empty());
        self.demand(reason, "hostPath wants its reason in the annotation tapedeck/host-path-reason");
    }

    fn containers(&mut self, pod: &Json, runs_on: bool) {
        let place = self.place.clone();
        for (list_name, serves) in [("/containers", runs_on), ("/initContainers", false)] {
            for container in list(pod, list_name) {
                self.place = format!("{place}, container {}", text(container, "/name"));
                self.identity(pod, container);
                self.rights(container);
                self.image(text(container, "/image"));
                self.resources(container);
                for probe in ["readinessProbe", "livenessProbe"] {
                    self.demand(!serves || container[probe].is_object(), &format!("must have a {probe}"));
                }
            }
        }
        self.place = place;
    }

    /// A container's own word goes before its pod's.
    fn identity(&mut self, pod: &Json, container: &Json) {
        let own = |pointer: &str| {
            let pointer = format!("/securityContext{pointer}");
            container.pointer(&pointer).or(pod.pointer(&pointer))
        };
        let non_root = own("/runAsNonRoot") == Some(&Json::Bool(true));
        self.demand(non_root, "must set runAsNonRoot: true");
        self.demand(own("/runAsUser").is_none_or(|user| *user != 0), "must not run as user 0");
        let profile = own("/seccompProfile/type").and_then(Json::as_str);
        self.demand(profile == Some("RuntimeDefault"), "must set seccompProfile.type: RuntimeDefault");
    }

    fn rights(&mut self, container: &Json) {
        let escalation = is(container, "/securityContext/allowPrivilegeEscalation", false);
        self.demand(escalation, "must set allowPrivilegeEscalation: false");
        let read_only = is(container, "/securityContext/readOnlyRootFilesystem", true);
        self.demand(
            read_only,
            "must set readOnlyRootFilesystem: true; what it writes goes to an emptyDir or a claim",
        );
        self.demand(!is(container, "/securityContext/privileged", true), "must not be privileged");
        let drops = list(container, "/securityContext/capabilities/drop").any(|name| name == "ALL");
        self.demand(drops, "must drop ALL capabilities");
        let adds =
            list(container, "/securityContext/capabilities/add").all(|name| name == "NET_BIND_SERVICE");
        self.demand(adds, "may add no capability but NET_BIND_SERVICE");
        let proc_mount = matches!(text(container, "/securityContext/procMount"), "" | "Default");
        self.demand(proc_mount, "must not change procMount");
        let host_port =
            list(container, "/ports").any(|port| port["hostPort"].as_u64().is_some_and(|port| port != 0));
        self.demand(!host_port, "must not take a port of the host");
    }

    fn image(&mut self, image: &str) {
        let name = image.rsplit('/').next().unwrap_or(image);
        let tag = name.split_once(':').map(|(_, tag)| tag);
        let fixed = image.contains("@sha256:") || tag.is_some_and(|tag| !tag.is_empty() && tag != "latest");
        self.demand(fixed, &format!("image {image:?} must name a version, and not `latest`"));
    }

    fn resources(&mut self, container: &Json) {
        for name in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
            let given = container.pointer(&format!("/resources{name}")).is_some();
            self.demand(given, &format!("must set resources{}", name.replace('/', ".")));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment() -> Json {
        json!({
            "kind": "Deployment",
            "metadata": { "name": "auth" },
            "spec": { "template": { "metadata": {}, "spec": {
                "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
                "volumes": [{ "name": "tmp", "emptyDir": {} }],
                "containers": [{
                    "name": "auth",
                    "image": "registry:5000/tapedeck:0.1.0",
                    "securityContext": {
                        "allowPrivilegeEscalation": false,
                        "readOnlyRootFilesystem": true,
                        "capabilities": { "drop": ["ALL"] },
                    },
                    "resources": { "requests": { "cpu": "50m", "memory": "64Mi" }, "limits": { "memory": "128Mi" } },
                    "readinessProbe": { "httpGet": { "path": "/readyz", "port": 5000 } },
                    "livenessProbe": { "httpGet": { "path": "/healthz", "port": 5000 } },
                }],
            } } },
        })
    }

    /// The deployment with one thing changed below its pod's spec.
    fn with(path: &str, value: Json) -> Json {
        let mut object = deployment();
        let (parent, key) = path.rsplit_once('/').unwrap();
        let parent = object.pointer_mut(&format!("/spec/template/spec{parent}")).unwrap();
        parent.as_object_mut().unwrap().insert(key.into(), value);
        object
    }

    #[test]
    fn a_deployment_that_keeps_the_rules_passes() {
        assert_eq!(faults(&[deployment()], "production"), [] as [String; 0]);
        assert_eq!(
            faults(&[json!({ "kind": "Service", "metadata": { "name": "auth" } })], "production"),
            [] as [String; 0]
        );
    }

    #[test]
    fn each_rule_can_be_broken() {
        let container = "/containers/0";
        let cases: &[(String, Json, &str)] = &[
            ("/hostNetwork".into(), json!(true), "hostNetwork"),
            ("/hostPID".into(), json!(true), "hostPID"),
            ("/hostIPC".into(), json!(true), "hostIPC"),
            ("/securityContext/sysctls".into(), json!([{ "name": "net.core.somaxconn" }]), "sysctls"),
            ("/securityContext/runAsNonRoot".into(), json!(false), "runAsNonRoot"),
            ("/securityContext/runAsNonRoot".into(), Json::Null, "runAsNonRoot"),
            ("/securityContext/runAsUser".into(), json!(0), "user 0"),
            ("/securityContext/seccompProfile".into(), json!({ "type": "Unconfined" }), "seccompProfile"),
            ("/volumes".into(), json!([{ "name": "x", "nfs": {} }]), "nfs is not among"),
            (format!("{container}/securityContext/runAsNonRoot"), json!(false), "runAsNonRoot"),
            (
                format!("{container}/securityContext/seccompProfile"),
                json!({ "type": "Unconfined" }),
                "seccompProfile",
            ),
            (
                format!("{container}/securityContext/allowPrivilegeEscalation"),
                json!(true),
                "allowPrivilegeEscalation",
            ),
            (
                format!("{container}/securityContext/readOnlyRootFilesystem"),
                Json::Null,
                "readOnlyRootFilesystem",
            ),
            (format!("{container}/securityContext/privileged"), json!(true), "privileged"),
            (format!("{container}/securityContext/capabilities"), json!({ "drop": ["CHOWN"] }), "drop ALL"),
            (
                format!("{container}/securityContext/capabilities/add"),
                json!(["SYS_ADMIN"]),
                "NET_BIND_SERVICE",
            ),
            (format!("{container}/securityContext/procMount"), json!("Unmasked"), "procMount"),
            (
                format!("{container}/ports"),
                json!([{ "containerPort": 1, "hostPort": 1 }]),
                "port of the host",
            ),
            (format!("{container}/image"), json!("registry:5000/tapedeck"), "must name a version"),
            (format!("{container}/image"), json!("tapedeck:latest"), "must name a version"),
            (
                format!("{container}/resources"),
                json!({ "limits": { "memory": "1Mi" } }),
                "resources.requests.cpu",
            ),
            (format!("{container}/resources/limits"), json!({}), "resources.limits.memory"),
            (format!("{container}/readinessProbe"), Json::Null, "readinessProbe"),
            (format!("{container}/livenessProbe"), Json::Null, "livenessProbe"),
        ];
        for (path, value, word) in cases {
            let found = faults(&[with(path, value.clone())], "production");
            assert!(!found.is_empty() && found.iter().any(|fault| fault.contains(word)), "{path}: {found:?}");
        }
    }

    #[test]
    fn every_kind_that_makes_pods_and_every_container_is_looked_at() {
        let bad = json!({ "containers": [{ "name": "c", "image": "a:latest" }], "initContainers": [{ "name": "i", "image": "b" }] });
        for kind in ["Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"] {
            let spec = match kind {
                "Pod" => bad.clone(),
                "CronJob" => json!({ "jobTemplate": { "spec": { "template": { "spec": bad } } } }),
                _ => json!({ "template": { "spec": bad } }),
            };
            let found =
                faults(&[json!({ "kind": kind, "metadata": { "name": "x" }, "spec": spec })], "production");
            for image in ["\"a:latest\"", "\"b\""] {
                assert!(found.iter().any(|fault| fault.contains(image)), "{kind} {image}: {found:?}");
            }
            let probes = found.iter().filter(|fault| fault.contains("Probe")).count();
            assert_eq!(probes, if kind.ends_with("Job") { 0 } else { 2 }, "{kind}: {found:?}");
        }
    }

    #[test]
    fn an_image_may_be_named_by_its_digest() {
        let image = format!("tapedeck@sha256:{}", "0".repeat(64));
        assert_eq!(faults(&[with("/containers/0/image", json!(image))], "production"), [] as [String; 0]);
    }

    #[test]
    fn a_host_path_wants_its_overlay_and_its_reason() {
        let bare = with("/volumes", json!([{ "name": "x", "hostPath": { "path": "/srv" } }]));
        let mut explained = bare.clone();
        explained["metadata"]["annotations"] =
            json!({ "tapedeck/host-path-reason": "the node has no provisioner" });
        assert_eq!(faults(std::slice::from_ref(&bare), "production").len(), 2);
        assert_eq!(faults(&[bare], "single-node").len(), 1);
        assert_eq!(faults(std::slice::from_ref(&explained), "production").len(), 1);
        assert_eq!(faults(&[explained], "single-node").len(), 0);
        let volume =
            json!({ "kind": "PersistentVolume", "metadata": { "name": "x" }, "spec": { "hostPath": {} } });
        assert_eq!(faults(&[volume], "single-node").len(), 1);
    }
}
