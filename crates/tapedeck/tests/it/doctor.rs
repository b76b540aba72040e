//! `tapedeck doctor` tells in words what is wrong with a backend, and only then fails.

use crate::deck::{Home, Shape};

fn examine(home: &Home, environment: &[(&str, &str)]) -> (bool, String) {
    let output = home.tapedeck(&["doctor"]).envs(environment.iter().copied()).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_well_is_well() {
    for shape in [Shape::OneProcess, Shape::OneDistributed] {
        let home = Home::with_users(shape).await;
        let (well, said) = examine(&home, &[("TAPEDECK_BACKENDS_AUTH", "local:")]);
        assert!(well && said.contains("All is well.") && !said.contains("ILL"), "{shape:?}: {said}");
        assert!(said.contains("2 users"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_ill_is_named_with_what_to_do_and_without_its_password() {
    let home = Home::with_users(Shape::OneDistributed).await;
    let cluster = home.cluster.as_ref().unwrap();
    let place = cluster.mysql.rsplit_once('@').unwrap().1;
    let wrong_password = format!("mysql://nobody:sesame@{place}");
    let no_such_host = format!("{}-missing", cluster.amqp);
    let (well, said) = examine(
        &home,
        &[
            ("TAPEDECK_BACKENDS_AUTH", "http://127.0.0.1:1"),
            ("TAPEDECK_BACKENDS_USERS", &wrong_password),
            ("TAPEDECK_BACKENDS_WAKE", &no_such_host),
            ("TAPEDECK_BACKENDS_MAILER", "smtp://127.0.0.1:1"),
            ("TAPEDECK_BACKENDS_BLOBS", "mongodb://127.0.0.1:1/?directConnection=true"),
        ],
    );
    assert!(!well, "{said}");
    for ill in ["backends.auth", "backends.users", "backends.wake", "backends.mailer", "backends.blobs"] {
        let line = said.lines().find(|line| line.contains(ill)).unwrap();
        assert!(line.contains("ILL"), "{line}");
    }
    assert!(said.lines().any(|line| line.contains("ok") && line.contains("backends.jobs")), "{said}");
    assert!(said.lines().any(|line| line.contains("ok") && line.contains("converter.sandbox")), "{said}");
    assert!(!said.contains("sesame") && said.contains("5 of them need help"), "{said}");
    assert!(said.contains("virtual host"), "{said}");
}
