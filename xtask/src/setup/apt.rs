//! Debian's packages: installed as root or through sudo, and without a daemon left running.

use std::fs;
use std::io::{IsTerminal, stdin};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use super::probe::{find, quietly};

/// Where Debian's packages look whether they may start their services: <https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt>.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Runs a command while the policy says that no service may be started. A policy that the machine has already stays as it is.
const WITHOUT_SERVICES: &str = r#"
policy=$1
shift
if [ -e "$policy" ]; then exec "$@"; fi
trap 'rm -f "$policy"' EXIT
trap 'exit 130' HUP INT TERM
printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && "$@"
"#;

/// The services that our packages bring along, for this system's start. We use their programs alone.
const SERVICES: &[&str] = &["rabbitmq-server.service", "epmd.service", "epmd.socket", "prometheus.service"];

const INSTALL: [&str; 3] = ["install", "--yes", "--no-install-recommends"];

/// How to become root: not at all, by `sudo -n`, or by a `sudo` that asks.
fn root_prefix() -> Option<Vec<&'static str>> {
    // The owner of /proc/self is this process's effective user.
    if fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        return Some(vec![]);
    }
    find("sudo")?;
    if quietly(Command::new("sudo").args(["-n", "true"])) {
        return Some(vec!["sudo", "-n"]);
    }
    stdin().is_terminal().then(|| vec!["sudo"])
}

/// Installs packages, and says what to do where that is not possible.
pub fn install(packages: &[&str]) -> Result<()> {
    let Some(prefix) = root_prefix() else {
        bail!(
            "installing packages needs root rights; this user has none, and sudo is missing or wants a password that nobody \
             is here to type. Run this as root, then repeat the command:\n    apt-get update && apt-get {} {}",
            INSTALL.join(" "),
            packages.join(" ")
        );
    };
    let known = quietly(Command::new("apt-cache").args(["show", "--no-all-versions"]).args(packages));
    if !known {
        // A failure here is told by the installation, with the packages it concerns.
        apt_get(&prefix, &["update"]);
    }
    let foreign: Vec<&str> = SERVICES.iter().copied().filter(|service| is_here(service)).collect();
    let install: Vec<&str> = INSTALL.iter().chain(packages).copied().collect();
    let installed =
        apt_get(&prefix, &install) || (known && apt_get(&prefix, &["update"]) && apt_get(&prefix, &install));
    if !installed {
        bail!(
            "apt-get could not install {}: its own message stands above. Mend that (network, /etc/apt/sources.list, disk), or \
             install them by hand, then repeat the command",
            packages.join(" ")
        );
    }
    let new: Vec<&str> =
        SERVICES.iter().copied().filter(|service| is_here(service) && !foreign.contains(service)).collect();
    disable(&prefix, &new);
    Ok(())
}

fn is_here(service: &str) -> bool {
    ["/lib/systemd/system", "/usr/lib/systemd/system"]
        .iter()
        .any(|folder| Path::new(folder).join(service).exists())
}

/// Keeps services that we brought from starting with the machine.
fn disable(prefix: &[&str], services: &[&str]) {
    if services.is_empty() || find("systemctl").is_none() {
        return;
    }
    println!(
        "the services {} are not started, now or at the next boot: the tests start their own",
        services.join(", ")
    );
    let words: Vec<&str> =
        prefix.iter().chain(&["systemctl", "--quiet", "disable"]).chain(services).copied().collect();
    if !quietly(Command::new(words[0]).args(&words[1..])) {
        println!("they could not be disabled; `{}` as root does it", words[prefix.len()..].join(" "));
    }
}

fn apt_get(prefix: &[&str], arguments: &[&str]) -> bool {
    let apt_get =
        ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"];
    let apt_get: Vec<&str> = apt_get.iter().chain(arguments).copied().collect();
    println!("running: {}", prefix.iter().chain(&apt_get).copied().collect::<Vec<_>>().join(" "));
    let shell = ["sh", "-c", WITHOUT_SERVICES, "sh", POLICY];
    let words: Vec<&str> = prefix.iter().chain(&shell).chain(&apt_get).copied().collect();
    // Thousands of lines of unpacking are worth reading only when it fails; its errors and sudo's question pass through.
    let output = Command::new(words[0])
        .args(&words[1..])
        .stdin(if prefix == ["sudo"] { Stdio::inherit() } else { Stdio::null() })
        .stderr(Stdio::inherit())
        .output();
    match output {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            print!("{}", String::from_utf8_lossy(&output.stdout));
            false
        }
        Err(error) => {
            println!("{} could not be started: {error}", words[0]);
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the policy held while the command ran, and whether it is there afterwards.
    fn policy_during(name: &str, before: Option<&str>, command: &[&str]) -> (Option<i32>, String, bool) {
        let policy = std::env::temp_dir().join(format!("tapedeck-policy-{name}-{}", std::process::id()));
        let _ = fs::remove_file(&policy);
        if let Some(before) = before {
            fs::write(&policy, before).unwrap();
        }
        let output = Command::new("sh")
            .args(["-c", WITHOUT_SERVICES, "sh"])
            .arg(&policy)
            .args(command)
            .arg(&policy)
            .output()
            .unwrap();
        let left = policy.exists();
        let _ = fs::remove_file(&policy);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), left)
    }

    #[test]
    fn no_service_may_start_while_packages_are_installed_and_only_then() {
        assert_eq!(policy_during("new", None, &["cat"]), (Some(0), "#!/bin/sh\nexit 101\n".into(), false));
    }

    #[test]
    fn a_failure_is_passed_on_and_takes_the_policy_away_as_well() {
        assert_eq!(policy_during("failure", None, &["sh", "-c", "exit 7"]), (Some(7), String::new(), false));
    }

    #[test]
    fn a_policy_of_the_machines_own_stays() {
        assert_eq!(policy_during("own", Some("own"), &["cat"]), (Some(0), "own".into(), true));
    }
}
