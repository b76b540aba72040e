//! The command line: what `--help` says is worth reading, and the configuration tells its mistakes.

use crate::deck::tapedeck;
use std::fs;

#[test]
fn every_command_has_a_help_with_a_data_folder() {
    let dir = tempfile::tempdir().unwrap();
    for command in [
        &["serve"][..],
        &["convert"],
        &["user", "add"],
        &["user", "list"],
        &["user", "passwd"],
        &["user", "remove"],
        &["config", "check"],
        &["config", "show"],
        &["healthcheck"],
    ] {
        let output = tapedeck(dir.path(), &[command, &["--help"]].concat()).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && help.contains("--data") && help.len() > 300,
            "{command:?}: {help}"
        );
    }
}

#[test]
fn the_configuration_is_checked_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let config = |text: &str| fs::write(dir.path().join("config.toml"), text).unwrap();
    assert!(tapedeck(dir.path(), &["config", "check"]).status().unwrap().success());
    config("[retention]\nmp3 = \"90d\"\n[auth]\njwt_secret = \"0123456789abcdef0123456789abcdef\"");
    let shown =
        String::from_utf8(tapedeck(dir.path(), &["config", "show"]).output().unwrap().stdout).unwrap();
    assert!(shown.contains("mp3 = \"90d\"") && shown.contains("jwt_secret = \"***\""), "{shown}");
    config("[retention]\nmp3 = \"soon\"\n[colours]\nred = 1");
    for command in [&["config", "check"][..], &["serve"]] {
        let output = tapedeck(dir.path(), command).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(
            said.contains("retention.mp3") && said.contains("colours") && said.contains("2 mistakes"),
            "{said}"
        );
    }
}

#[test]
fn an_originals_environment_does_not_run_embedded_by_accident() {
    let dir = tempfile::tempdir().unwrap();
    let output =
        tapedeck(dir.path(), &["serve"]).env("MYSQL_HOST", "host.minikube.internal").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    for expected in
        ["`backends.jobs`: set MONGO_URI", "`backends.mailer`", "GMAIL_ADDRESS", "TAPEDECK_MODE=embedded"]
    {
        assert!(said.contains(expected), "{expected} is missing from {said}");
    }
    assert!(!said.contains("backends.users"), "that is set: {said}");
    assert!(fs::read_dir(dir.path()).unwrap().next().is_none(), "nothing is made");
}
