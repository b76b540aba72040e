//! Users in MariaDB: the originals' table in all the shapes that it may have.

use distributed::mysql::{MySqlUsers, Report, probe};
use services::ports::{PortError, PortErrorKind, Role, Swap, User, Users, contract};
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, Row};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use testkit::{certificates::Certificates, mariadb};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// As a seed makes it: no character set is named.
const SEED: &str = "CREATE TABLE user (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, email VARCHAR(255) NOT NULL UNIQUE, \
     password VARCHAR(255) NOT NULL)";
const GEORGIO: &str = "INSERT INTO user (email, password) VALUES ('georgio@email.com', 'Admin123')";

async fn run(url: &str, statements: &[&str]) {
    let mut connection = MySqlConnection::connect(url).await.unwrap();
    for statement in statements {
        let done = sqlx::raw_sql(AssertSqlSafe((*statement).to_owned())).execute(&mut connection).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    connection.close().await.unwrap();
}

/// All rows of a statement, as text.
async fn ask(url: &str, statement: &str) -> Vec<String> {
    let mut connection = MySqlConnection::connect(url).await.unwrap();
    let rows = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).fetch_all(&mut connection).await.unwrap();
    let text = |row: &sqlx::mysql::MySqlRow| {
        (0..row.len()).map(|at| row.get_unchecked::<String, _>(at)).collect::<Vec<_>>().join("|")
    };
    rows.iter().map(text).collect()
}

/// An empty database of its own; the URL names it.
async fn database() -> String {
    let name = testkit::unique_name();
    run(&testkit::mysql_url(), &[&format!("CREATE DATABASE {name}")]).await;
    format!("{}/{name}", testkit::mysql_url())
}

/// A database with these tables and rows.
async fn seeded(statements: &[&str]) -> String {
    let url = database().await;
    run(&url, statements).await;
    url
}

fn users(url: &str) -> MySqlUsers {
    MySqlUsers::connect(url).unwrap()
}

fn user(email: &str, role: Role) -> User {
    User { email: email.into(), password: "$argon2id$x".into(), role }
}

/// The kind of a failure, and all that it says.
fn said<T: std::fmt::Debug>(failed: Result<T, PortError>) -> (PortErrorKind, String) {
    let error = failed.unwrap_err();
    (error.kind, format!("{error}: {}", error.source))
}

/// A MySQL user with these rights on the database, or on a table of it; the answer is the URL with that user.
async fn with_rights(url: &str, rights: &str, table: &str) -> String {
    let (server, database) = url.rsplit_once('/').unwrap();
    let name = testkit::unique_name();
    run(
        url,
        &[
            &format!("CREATE USER '{name}'@'%' IDENTIFIED BY 'p@ss'"),
            &format!("GRANT {rights} ON {database}.{table} TO '{name}'@'%'"),
        ],
    )
    .await;
    let (_, host) = server.rsplit_once('@').unwrap();
    format!("mysql://{name}:p%40ss@{host}/{database}")
}

#[tokio::test]
async fn users_in_mariadb() {
    let url = database().await;
    let users = users(&url);
    users.migrate().await.unwrap();
    contract::users(Arc::new(users)).await;
}

#[tokio::test]
async fn users_in_tables_of_every_character_set() {
    for charset in [
        "latin1",
        "latin1 COLLATE latin1_bin",
        "latin1 COLLATE latin1_general_cs",
        "utf8mb3",
        "utf8mb4 COLLATE utf8mb4_bin",
        "utf8mb4 COLLATE utf8mb4_nopad_bin",
        "utf8mb4 COLLATE utf8mb4_unicode_ci",
        "binary",
    ] {
        let url = seeded(&[&format!("{SEED} DEFAULT CHARSET={charset}")]).await;
        let users = users(&url);
        users.migrate().await.unwrap();
        contract::users(Arc::new(users)).await;
    }
}

#[tokio::test]
async fn the_originals_rows_are_found_and_rehashed_and_stay_theirs() {
    let url = seeded(&[SEED, GEORGIO]).await;
    let shape = ask(&url, "SHOW CREATE TABLE user").await;
    let users = users(&url);
    let georgio = User { email: "georgio@email.com".into(), password: "Admin123".into(), role: Role::User };
    assert_eq!(users.find("Georgio@EMAIL.com").await.unwrap(), Some(georgio.clone()), "without a role table");
    assert_eq!(users.list().await.unwrap(), [georgio]);
    assert_eq!(users.replace_password("georgio@email.com", "admin123", "x").await.unwrap(), Swap::Lost);
    assert_eq!(users.replace_password("georgio@email.com", "Admin123 ", "x").await.unwrap(), Swap::Lost);
    let hash = format!("$argon2id$v=19$m=19456,t=2,p=1${}", "x".repeat(66));
    assert_eq!(users.replace_password("georgio@email.com", "Admin123", &hash).await.unwrap(), Swap::Won);
    assert_eq!(users.replace_password("georgio@email.com", "Admin123", "x").await.unwrap(), Swap::Lost);
    // The original's own question.
    let original = "SELECT email, password FROM user WHERE email='georgio@email.com'";
    assert_eq!(ask(&url, original).await, [format!("georgio@email.com|{hash}")]);
    users.migrate().await.unwrap();
    assert_eq!(ask(&url, "SHOW CREATE TABLE user").await, shape, "the table is as it was");
}

#[tokio::test]
async fn what_a_collation_equates_is_still_another_user() {
    let url = seeded(&[&format!("{SEED} DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci")]).await;
    let users = users(&url);
    users.migrate().await.unwrap();
    assert_eq!(users.add(&user("josé@example.com", Role::Admin)).await.unwrap(), Swap::Won);
    for other in ["jose@example.com", "josé@example.com ", "JOSÉ@example.com", "josè@example.com"] {
        assert_eq!(users.find(other).await.unwrap(), None, "{other:?}");
        assert_eq!(users.set_password(other, "x").await.unwrap(), Swap::Lost, "{other:?}");
        users.remove(other).await.unwrap();
    }
    assert_eq!(
        users.add(&user("jose@example.com", Role::User)).await.unwrap(),
        Swap::Lost,
        "the table forbids it"
    );
    assert_eq!(users.find("José@Example.com").await.unwrap().unwrap().role, Role::Admin);
}

#[tokio::test]
async fn rows_that_differ_in_case_alone_are_told_apart() {
    let rows = "INSERT INTO user (email, password) VALUES ('Ana@x.com', 'one'), ('ana@x.com', 'two')";
    let url = seeded(&[&format!("{SEED} DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"), rows]).await;
    let users = users(&url);
    let password = async |email| users.find(email).await.unwrap().unwrap().password;
    assert_eq!(password("ana@x.com").await, "two");
    assert_eq!(password("Ana@x.com").await, "one");
    assert_eq!(password("ANA@x.com").await, "one", "else the oldest");
    assert_eq!(users.replace_password("ana@x.com", "one", "x").await.unwrap(), Swap::Lost);
}

#[tokio::test]
async fn what_a_table_cannot_hold_is_refused_and_not_mangled() {
    let narrow = SEED.replace("password VARCHAR(255)", "password VARCHAR(10)");
    let url =
        seeded(&["SET GLOBAL sql_mode = @@GLOBAL.sql_mode", &format!("{narrow} DEFAULT CHARSET=latin1")])
            .await;
    let users = users(&url);
    assert_eq!(users.find("🎵@example.com").await.unwrap(), None);
    let short = |email: &str| User { password: "short".into(), ..user(email, Role::User) };
    let (kind, text) = said(users.add(&short("🎵@example.com")).await);
    assert_eq!(kind, PortErrorKind::Refused);
    assert!(text.contains("character set"), "{text}");
    let (kind, text) = said(users.add(&user("ana@example.com", Role::User)).await);
    assert_eq!(kind, PortErrorKind::Refused);
    assert!(text.contains("longer"), "{text}");
    assert_eq!(users.list().await.unwrap(), []);
    assert_eq!(users.add(&short("günter@example.com")).await.unwrap(), Swap::Won);
    assert_eq!(users.find("GüNTER@example.com").await.unwrap(), Some(short("günter@example.com")));
    assert_eq!(users.replace_password("günter@example.com", "short", "pässe").await.unwrap(), Swap::Won);
    assert_eq!(users.replace_password("günter@example.com", "pässe", "x").await.unwrap(), Swap::Won);
}

#[tokio::test]
async fn a_server_that_cuts_off_silently_is_made_strict() {
    let server = mariadb::Server::start_with(&["--sql-mode="]).unwrap();
    let narrow = SEED.replace("password VARCHAR(255)", "password VARCHAR(10)");
    run(&server.url(), &["CREATE DATABASE auth", "USE auth", &narrow]).await;
    let users = users(&server.url());
    assert_eq!(said(users.add(&user("ana@example.com", Role::User)).await).0, PortErrorKind::Refused);
    assert_eq!(users.list().await.unwrap(), []);
}

#[tokio::test]
async fn tables_are_made_twice_and_at_once_and_rows_stay() {
    let url = seeded(&[SEED, GEORGIO]).await;
    let migrations = (0..8).map(|_| {
        let users = users(&url);
        tokio::spawn(async move { users.migrate().await })
    });
    for migrated in migrations.collect::<Vec<_>>() {
        migrated.await.unwrap().unwrap();
    }
    let users = users(&url);
    assert_eq!(users.add(&user("ana@example.com", Role::Admin)).await.unwrap(), Swap::Won);
    users.migrate().await.unwrap();
    let listed: Vec<_> =
        users.list().await.unwrap().into_iter().map(|user| (user.email, user.role)).collect();
    assert_eq!(listed, [("ana@example.com".into(), Role::Admin), ("georgio@email.com".into(), Role::User)]);
}

#[tokio::test]
async fn init_sql_runs_twice_and_makes_the_same_tables() {
    let script = include_str!("../../../../deploy/mysql/init.sql");
    let name = testkit::unique_name();
    let script = script
        .replace("CREATE DATABASE IF NOT EXISTS auth;", &format!("CREATE DATABASE IF NOT EXISTS {name};"))
        .replace("USE auth;", &format!("USE {name};"));
    run(&testkit::mysql_url(), &[&script]).await;
    let by_script = format!("{}/{name}", testkit::mysql_url());
    run(&by_script, &[GEORGIO]).await;
    run(&testkit::mysql_url(), &[&script]).await;
    assert_eq!(ask(&by_script, "SELECT COUNT(*) FROM user WHERE email <> ''").await.len(), 1);
    let by_migration = database().await;
    users(&by_migration).migrate().await.unwrap();
    for table in ["user", "tapedeck_role"] {
        let shape = async |url: &str| {
            let text = ask(url, &format!("SHOW CREATE TABLE {table}")).await.remove(0);
            text.split(" AUTO_INCREMENT=")
                .next()
                .unwrap()
                .split(" DEFAULT CHARSET")
                .next()
                .unwrap()
                .to_owned()
        };
        let lines = async |url: &str| {
            let text = ask(url, &format!("SHOW CREATE TABLE {table}")).await.remove(0);
            text[text.find("DEFAULT CHARSET").unwrap()..].to_owned()
        };
        assert_eq!(shape(&by_script).await, shape(&by_migration).await);
        assert_eq!(lines(&by_script).await, lines(&by_migration).await);
    }
    assert_eq!(users(&by_script).list().await.unwrap().len(), 1, "its rows stay");
}

#[tokio::test]
async fn three_rights_are_enough() {
    let url = seeded(&[SEED, GEORGIO]).await;
    users(&url).migrate().await.unwrap();
    let limited = with_rights(&url, "SELECT, INSERT, UPDATE", "*").await;
    let users = users(&limited);
    users.ping().await.unwrap();
    users.migrate().await.expect("where nothing is missing, nothing has to be created");
    assert_eq!(users.add(&user("ana@example.com", Role::Admin)).await.unwrap(), Swap::Won);
    assert_eq!(users.add_first(&user("bob@example.com", Role::Admin)).await.unwrap(), Swap::Lost);
    assert_eq!(
        users.replace_password("georgio@email.com", "Admin123", "$argon2id$y").await.unwrap(),
        Swap::Won
    );
    assert_eq!(users.set_password("ANA@example.com", "$argon2id$y").await.unwrap(), Swap::Won);
    assert_eq!(users.find("ana@example.com").await.unwrap().unwrap().role, Role::Admin);
    assert_eq!(users.list().await.unwrap().len(), 2);
    let (_, text) = said(users.remove("ana@example.com").await);
    assert!(text.contains("GRANT") && text.contains("DELETE"), "{text}");
    assert_eq!(users.list().await.unwrap().len(), 2);
}

#[tokio::test]
async fn without_the_role_table_everybody_is_a_user_and_an_admin_is_refused() {
    let url = seeded(&[SEED, GEORGIO]).await;
    // One whose rights are on the table alone is not even told that the other one is missing.
    let narrow = with_rights(&url, "SELECT, INSERT, UPDATE", "user").await;
    for url in [&url, &narrow] {
        let users = users(url);
        let (kind, text) = said(users.add(&user("ana@example.com", Role::Admin)).await);
        assert_eq!(kind, PortErrorKind::Refused);
        assert!(text.contains("`tapedeck migrate`"), "{text}");
        assert_eq!(users.find("ana@example.com").await.unwrap(), None, "nobody is added by halves");
        assert_eq!(users.find("georgio@email.com").await.unwrap().unwrap().role, Role::User);
        assert_eq!(users.list().await.unwrap().len(), 1);
    }
    assert_eq!(users(&narrow).add(&user("bob@example.com", Role::User)).await.unwrap(), Swap::Won);
    let users = users(&url);
    users.remove("bob@example.com").await.unwrap();
    users.migrate().await.unwrap();
    assert_eq!(users.add(&user("ana@example.com", Role::Admin)).await.unwrap(), Swap::Won);
    assert_eq!(users.find("ANA@example.com").await.unwrap().unwrap().role, Role::Admin, "it is seen at once");
}

#[tokio::test]
async fn a_role_goes_with_its_user() {
    let url = database().await;
    let users = users(&url);
    users.migrate().await.unwrap();
    assert_eq!(users.add(&user("Ana@example.com", Role::Admin)).await.unwrap(), Swap::Won);
    users.remove("ana@example.com").await.unwrap();
    assert_eq!(ask(&url, "SELECT email FROM tapedeck_role").await, Vec::<String>::new());
    // A role that somebody left behind by hand is not inherited.
    run(&url, &["INSERT INTO tapedeck_role VALUES ('ana@example.com', 'admin')"]).await;
    assert_eq!(users.add(&user("Ana@example.com", Role::User)).await.unwrap(), Swap::Won);
    assert_eq!(users.find("ana@example.com").await.unwrap().unwrap().role, Role::User);
    assert_eq!(users.list().await.unwrap()[0].role, Role::User);
}

#[tokio::test]
async fn there_is_one_first_user_even_from_two_gateways() {
    let url = database().await;
    users(&url).migrate().await.unwrap();
    for round in 0..5 {
        run(&url, &["DELETE FROM user"]).await;
        let gateways = [Arc::new(users(&url)), Arc::new(users(&url))];
        let tries = (0..12).map(|at| {
            let gateway = Arc::clone(&gateways[at % 2]);
            let admin = user(&format!("admin{at}@example.com"), Role::Admin);
            tokio::spawn(async move { gateway.add_first(&admin).await })
        });
        let mut won = 0;
        for tried in tries.collect::<Vec<_>>() {
            won += usize::from(tried.await.unwrap().unwrap() == Swap::Won);
        }
        assert_eq!((won, users(&url).list().await.unwrap().len()), (1, 1), "round {round}");
    }
}

#[tokio::test]
async fn an_email_is_taken_once_even_where_only_case_differs_and_the_table_would_allow_it() {
    let url = seeded(&[&format!("{SEED} DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin")]).await;
    let users = Arc::new(users(&url));
    let tries = ["ana@x.com", "Ana@x.com", "aNa@x.com", "anA@x.com", "ANA@x.com", "aNA@x.com"].map(|email| {
        let users = Arc::clone(&users);
        tokio::spawn(async move { users.add(&user(email, Role::User)).await })
    });
    let mut won = 0;
    for tried in tries {
        won += usize::from(tried.await.unwrap().unwrap() == Swap::Won);
    }
    assert_eq!((won, users.list().await.unwrap().len()), (1, 1));
}

#[tokio::test]
async fn the_server_may_start_later_go_away_and_come_back() {
    let mut server = mariadb::Server::start().unwrap();
    run(&server.url(), &["CREATE DATABASE auth", "USE auth", SEED, GEORGIO]).await;
    server.kill9();
    let users = users(&server.url());
    let begin = Instant::now();
    let (kind, text) = said(users.find("georgio@email.com").await);
    assert_eq!(kind, PortErrorKind::Unavailable);
    assert!(text.contains("is the server running"), "{text}");
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    server.restart().unwrap();
    assert!(users.find("georgio@email.com").await.unwrap().is_some(), "it was never connected before");
    server.restart().unwrap();
    assert!(users.find("georgio@email.com").await.unwrap().is_some(), "its connections were cut");
    hangs_are_bounded(&server, &users).await;
}

/// The server stands still; requests end in time, and leave no connection behind that the pool would wait for.
async fn hangs_are_bounded(server: &mariadb::Server, users: &MySqlUsers) {
    server.pause();
    let begin = Instant::now();
    let tries = (0..20).map(|_| users.find("georgio@email.com"));
    for tried in futures_util::future::join_all(tries).await {
        let (kind, text) = said(tried);
        assert_eq!(kind, PortErrorKind::Unavailable, "{text}");
    }
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    server.resume();
    assert!(users.find("georgio@email.com").await.unwrap().is_some(), "and all is well again");
}

/// A way to a server on which connections can fall silent: they stay open, and nothing passes any more.
struct Wire {
    port: u16,
    silence: Arc<watch::Sender<u64>>,
}

impl Wire {
    async fn to(port: u16) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silence = Arc::new(watch::Sender::new(0));
        let wire = Wire { port: listener.local_addr().unwrap().port(), silence: Arc::clone(&silence) };
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let mut silent = silence.subscribe();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        // The sockets are kept, and their other ends wait.
                        _ = silent.changed() => std::future::pending().await,
                    }
                });
            }
        });
        wire
    }

    /// All present connections fall silent; new ones are as they should be.
    fn fall_silent(&self) {
        self.silence.send_modify(|count| *count += 1);
    }
}

#[tokio::test]
async fn connections_that_fell_silent_are_given_up() {
    let url = seeded(&[SEED, GEORGIO]).await;
    let port = url::Url::parse(&url).unwrap().port().unwrap();
    let wire = Wire::to(port).await;
    let users = users(&url.replace(&port.to_string(), &wire.port.to_string()));
    let all = async || futures_util::future::join_all((0..8).map(|_| users.find("georgio@email.com"))).await;
    assert!(all().await.iter().all(Result::is_ok));
    // At first on their way back to the pool, then in it. Nothing tells when they have arrived there.
    for way_back in [Duration::ZERO, Duration::from_millis(300)] {
        tokio::time::sleep(way_back).await;
        wire.fall_silent();
        let begin = Instant::now();
        for found in all().await {
            found.expect("kept connections are tried out first");
        }
        assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    }

    // Now they fall silent while a question is under way.
    let mut locking = MySqlConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("LOCK TABLES user WRITE").execute(&mut locking).await.unwrap();
    let (asked, ()) = tokio::join!(all(), async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        wire.fall_silent();
    });
    assert!(asked.iter().all(Result::is_err));
    locking.close().await.unwrap();
    assert!(all().await.iter().all(Result::is_ok), "none of them is waited for");
}

#[tokio::test]
async fn tls_is_used_as_the_url_asks() {
    let certificates = Certificates::for_names(&["localhost"]).unwrap();
    let option = |name: &str, path: std::path::PathBuf| format!("--{name}={}", path.display());
    let (certificate, key) =
        (option("ssl-cert", certificates.certificate()), option("ssl-key", certificates.key()));
    let server = mariadb::Server::start_with(&[&certificate, &key]).unwrap();
    run(&server.url(), &["CREATE DATABASE auth", "USE auth", SEED, GEORGIO]).await;
    let url = |host: &str, query: &str| format!("mysql://t:tt@{host}:{}/auth?{query}", server.port());
    let ca = certificates.ca();
    let checked = format!("ssl-mode=VERIFY_IDENTITY&ssl-ca={}", ca.display());
    for (query, encrypted) in
        [("", true), ("ssl-mode=DISABLED", false), ("ssl-mode=REQUIRED", true), (checked.as_str(), true)]
    {
        let report =
            probe(&url("localhost", query)).await.unwrap_or_else(|error| panic!("{query}: {error:?}"));
        assert_eq!(report.encrypted, encrypted, "{query}");
    }
    assert!(users(&url("localhost", &checked)).find("georgio@email.com").await.unwrap().is_some());
    // Nobody vouches for the certificate; or it is for another name.
    for wrong in [url("localhost", "ssl-mode=VERIFY_CA"), url("127.0.0.1", &checked)] {
        let (_, text) = said(probe(&wrong).await);
        assert!(text.contains("certificate") && text.contains("ssl-ca"), "{wrong}: {text}");
    }
    let without = format!("{}/?ssl-mode=REQUIRED", testkit::mysql_url());
    let (_, text) = said(probe(&without).await);
    assert!(text.contains("TLS"), "{text}");
}

#[tokio::test]
async fn a_probe_tells_what_is_wrong() {
    let url = seeded(&[SEED, GEORGIO]).await;
    let (server, database) = url.rsplit_once('/').unwrap();
    let (_, host) = server.rsplit_once('@').unwrap();
    let empty = self::database().await;
    let foreign = seeded(&["CREATE TABLE user (name VARCHAR(20))"]).await;
    for (url, word) in [
        (format!("mysql://t:tt@no-such-host.invalid/{database}"), "no host of this name"),
        (format!("mysql://t:tt@127.0.0.1:1/{database}"), "nothing listens there"),
        (format!("mysql://t:wrong@{host}/{database}"), "user or password"),
        (format!("{server}/nosuchdatabase"), "no such database"),
        (empty, "`tapedeck migrate`"),
        (foreign, "is this the auth service's database"),
    ] {
        let (_, text) = said(probe(&url).await);
        assert!(text.contains(word), "{url}: {text}");
        assert!(!text.contains("wrong"), "no password is told: {text}");
    }
    let warned = async |url: &str, words: &[&str]| {
        let report: Report = probe(url).await.unwrap();
        assert_eq!(report.warnings.len(), words.len(), "{report:?}");
        for (warning, word) in report.warnings.iter().zip(words) {
            assert!(warning.contains(word), "{warning}");
        }
        report
    };
    let report = warned(&url, &["`tapedeck migrate`"]).await;
    assert!(!report.roles && report.users == 1 && report.version.contains("MariaDB"), "{report:?}");
    users(&url).migrate().await.unwrap();
    warned(&url, &[]).await;
    let reader = with_rights(&url, "SELECT", "*").await;
    warned(&reader, &["UPDATE", "INSERT", "DELETE"]).await;
    run(&url, &["ALTER TABLE user MODIFY password VARCHAR(50) NOT NULL"]).await;
    warned(&url, &["50 letters"]).await;
}
