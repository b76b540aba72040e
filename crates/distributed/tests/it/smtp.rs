//! Mails over SMTP, to a server that misbehaves on request.

use distributed::smtp::{Limits, LogMailer, Patience, SmtpMailer, probe};
use services::ports::{Letter, Mailer, PortError, PortErrorKind, contract};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use testkit::smtp::{Fault, MailServer, Security, Setup, Stage};

const FROM: &str = "tapedeck@example.com";
const ANA: &str = "ana@example.com";

fn with_account(security: Security) -> Setup {
    Setup {
        security, account: Some(("tapedeck@gmail.com".into(), "p%ss: wörd/".into())), ..Setup::default()
    }
}

async fn server(security: Security) -> MailServer {
    MailServer::start(with_account(security)).await.unwrap()
}

/// No breaker, and no long waits.
fn limits() -> Limits {
    Limits {
        send: Duration::from_millis(500),
        idle: Duration::from_secs(30),
        patience: Patience { failures: u32::MAX, ..Patience::default() },
    }
}

fn mailer(server: &MailServer) -> SmtpMailer {
    SmtpMailer::with_limits(&server.url(), FROM, limits()).unwrap()
}

fn letter(to: &str) -> Letter {
    Letter {
        message_id: format!("1.converted.1@{to}"),
        to: to.into(),
        text: format!("Message-ID: <1.converted.1@{to}>\r\nTo: {to}\r\n\r\nready\r\n").into_bytes(),
    }
}

/// The kind of a failure, and all that it says.
fn said(failed: Result<(), PortError>) -> (PortErrorKind, String) {
    let error = failed.unwrap_err();
    (error.kind, format!("{error}: {}", error.source))
}

#[tokio::test]
async fn mails_arrive_under_every_security() {
    for security in [Security::None, Security::StartTls, Security::Tls] {
        let server = Arc::new(server(security).await);
        let inbox = |to: String| {
            let mails = server.inbox_of(&to).into_iter().map(|mail| mail.raw).collect();
            std::future::ready(mails)
        };
        contract::mailer(Arc::new(SmtpMailer::connect(&server.url(), FROM).unwrap()), inbox).await;
        for mail in server.inbox() {
            assert_eq!(mail.from, FROM);
            assert_eq!(mail.to.len(), 1);
            assert_eq!(mail.tls, security != Security::None);
            assert_eq!(mail.user.as_deref(), Some("tapedeck@gmail.com"));
        }
    }
}

#[tokio::test]
async fn a_relay_needs_no_login_and_some_servers_know_only_auth_login() {
    let server = MailServer::start(Setup::default()).await.unwrap();
    mailer(&server).send(&letter(ANA)).await.unwrap();
    assert_eq!(server.inbox_of(ANA)[0].user, None);
    let setup = Setup { mechanisms: vec!["LOGIN".into()], ..with_account(Security::StartTls) };
    let server = MailServer::start(setup).await.unwrap();
    mailer(&server).send(&letter(ANA)).await.unwrap();
    assert_eq!(server.inbox_of(ANA)[0].user.as_deref(), Some("tapedeck@gmail.com"));
}

#[tokio::test]
async fn every_byte_arrives() {
    let server = server(Security::StartTls).await;
    let mailer = mailer(&server);
    let long = format!("{}\r\n", "x".repeat(100_000));
    let eight_bit: Vec<u8> = (1..=255).filter(|byte| ![b'\r', b'\n'].contains(byte)).collect();
    let bodies = [
        b".\r\n..\r\n.dot\r\nQUIT\r\n\r\n.\r\n\r\n".to_vec(),
        long.clone().into_bytes(),
        [eight_bit.as_slice(), b"\r\n"].concat(),
        b"\r\n\r\n\r\n".to_vec(),
        b"no end\r\n".to_vec(),
        long.repeat(20).into_bytes(),
    ];
    for (at, body) in bodies.into_iter().enumerate() {
        let to = format!("{at}@example.com");
        let text = [format!("To: {to}\r\n\r\n").into_bytes(), body].concat();
        mailer.send(&Letter { text: text.clone(), ..letter(&to) }).await.unwrap();
        let mails = server.inbox_of(&to);
        assert!(mails.len() == 1 && mails[0].raw == text, "mail {at} arrives otherwise than it was sent");
    }
}

#[tokio::test]
async fn lone_line_feeds_cannot_end_a_mail_early() {
    let server = server(Security::None).await;
    let smuggled = b"To: ana@example.com\r\n\r\nhello\n.\nMAIL FROM:<eve@example.com>\r.\r\r\n".to_vec();
    mailer(&server).send(&Letter { text: smuggled, ..letter(ANA) }).await.unwrap();
    let raw = server.inbox_of(ANA)[0].raw.clone();
    let whole = b"To: ana@example.com\r\n\r\nhello\r\n.\r\nMAIL FROM:<eve@example.com>\r\n.\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(&raw), String::from_utf8_lossy(whole));
}

#[tokio::test]
async fn a_refused_recipient_or_content_is_final_and_all_else_is_tried_again() {
    use PortErrorKind::{Refused, Unavailable};
    let server = server(Security::StartTls).await;
    let mailer = mailer(&server);
    for (stage, reply, kind) in [
        (Stage::Connect, "554 5.7.1 no service for you", Unavailable),
        (Stage::Connect, "421 4.3.2 shutting down", Unavailable),
        (Stage::Ehlo, "550 5.7.1 what a name", Unavailable),
        (Stage::StartTls, "454 4.7.0 TLS not available", Unavailable),
        (Stage::Auth, "535 5.7.8 Username and Password not accepted", Unavailable),
        (Stage::Auth, "454 4.7.0 later", Unavailable),
        (Stage::Mail, "530 5.7.0 Authentication Required", Unavailable),
        (Stage::Mail, "550 5.7.1 sender rejected", Unavailable),
        (Stage::Mail, "451 4.3.0 later", Unavailable),
        (Stage::Rcpt, "550 5.1.1 no such user", Refused),
        (Stage::Rcpt, "450 4.2.1 busy", Unavailable),
        (Stage::Rcpt, "554 5.7.1 <ana@example.com>: Relay access denied", Unavailable),
        (Stage::Data, "554 5.5.1 no valid recipients", Refused),
        (Stage::Data, "451 4.3.0 later", Unavailable),
        (Stage::Dot, "552 5.2.2 mailbox full", Refused),
        (Stage::Dot, "452 4.3.1 no room", Unavailable),
    ] {
        server.inject(stage, Fault::Reply(reply.into()), 1);
        // A kept connection would come past the first stages.
        if stage <= Stage::Auth {
            server.hang_up();
        }
        let (found, text) = said(mailer.send(&letter(ANA)).await);
        assert_eq!(found, kind, "{stage:?} {reply}: {text}");
        assert!(
            text.contains(&reply[..3]) && text.contains(&reply[4..]),
            "the server's words are told: {text}"
        );
        assert_eq!(server.inbox(), []);
    }
    mailer.send(&letter(ANA)).await.unwrap();
}

#[tokio::test]
async fn a_hang_at_any_stage_ends_within_the_time_limit_and_the_connection_with_it() {
    for security in [Security::StartTls, Security::Tls] {
        let server = server(security).await;
        let mailer = mailer(&server);
        let starttls = (security == Security::StartTls).then_some(Stage::StartTls);
        let stages =
            [Stage::Connect, Stage::Ehlo, Stage::Auth, Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Dot];
        for stage in stages.into_iter().chain(starttls) {
            server.hang_up();
            server.inject(stage, Fault::Hang, 1);
            let begin = Instant::now();
            let (kind, text) = said(mailer.send(&letter(ANA)).await);
            let took = begin.elapsed();
            assert!(
                took >= Duration::from_millis(450) && took < Duration::from_secs(3),
                "{stage:?} took {took:?}"
            );
            assert_eq!(kind, PortErrorKind::Unavailable);
            assert!(text.contains("not done within 0.5 seconds"), "{text}");
            mailer
                .send(&letter(ANA))
                .await
                .unwrap_or_else(|error| panic!("after a hang at {stage:?}: {error:?}"));
        }
        assert_eq!(server.inbox_of(ANA).len(), 7 + starttls.iter().count());
    }
}

#[tokio::test]
async fn a_dropped_connection_costs_a_try_and_no_more() {
    let server = server(Security::StartTls).await;
    let mailer = mailer(&server);
    for stage in [
        Stage::Connect,
        Stage::Ehlo,
        Stage::StartTls,
        Stage::Auth,
        Stage::Mail,
        Stage::Rcpt,
        Stage::Data,
        Stage::Dot,
    ] {
        server.hang_up();
        server.inject(stage, Fault::Drop, 1);
        let (kind, text) = said(mailer.send(&letter(ANA)).await);
        assert_eq!(kind, PortErrorKind::Unavailable, "{stage:?}: {text}");
        assert_eq!(server.inbox(), [], "{stage:?}");
    }
    mailer.send(&letter(ANA)).await.unwrap();
}

#[tokio::test]
async fn a_mail_taken_without_a_word_is_sent_again_under_the_same_id() {
    let server = server(Security::Tls).await;
    let mailer = mailer(&server);
    server.inject(Stage::Dot, Fault::DropAfterAccept, 1);
    let (kind, text) = said(mailer.send(&letter(ANA)).await);
    assert_eq!(kind, PortErrorKind::Unavailable, "{text}");
    mailer.send(&letter(ANA)).await.unwrap();
    let mails = server.inbox_of(ANA);
    assert_eq!(mails.len(), 2);
    assert_eq!(mails[0].raw, mails[1].raw);
}

#[tokio::test]
async fn a_connection_carries_many_mails_even_after_a_bounce() {
    let server = server(Security::StartTls).await;
    let mailer = mailer(&server);
    server.refuse_recipient("nobody@example.com");
    for _ in 0..10 {
        mailer.send(&letter(ANA)).await.unwrap();
        let (kind, _) = said(mailer.send(&letter("nobody@example.com")).await);
        assert_eq!(kind, PortErrorKind::Refused);
    }
    assert_eq!(server.inbox_of(ANA).len(), 10);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_costs_no_mail() {
    let server = server(Security::StartTls).await;
    let mailer = mailer(&server);
    for round in 1..=3 {
        mailer.send(&letter(ANA)).await.unwrap();
        assert_eq!(server.inbox_of(ANA).len(), round);
        server.hang_up();
    }
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = server(Security::StartTls).await;
    let limits = Limits { idle: Duration::from_millis(100), ..limits() };
    let mailer = SmtpMailer::with_limits(&server.url(), FROM, limits).unwrap();
    mailer.send(&letter(ANA)).await.unwrap();
    assert_eq!(server.open_connections(), 1);
    let closed = async {
        while server.open_connections() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), closed).await.expect("it is closed without another mail");
    mailer.send(&letter(ANA)).await.unwrap();
}

#[tokio::test]
async fn many_mails_at_once_take_few_connections() {
    let server = server(Security::Tls).await;
    let limits = Limits { send: Duration::from_secs(30), ..limits() };
    let mailer = Arc::new(SmtpMailer::with_limits(&server.url(), FROM, limits).unwrap());
    let sends = (0..100).map(|at| {
        let mailer = Arc::clone(&mailer);
        tokio::spawn(async move { mailer.send(&letter(&format!("{at}@example.com"))).await })
    });
    for sent in sends.collect::<Vec<_>>() {
        sent.await.unwrap().unwrap();
    }
    assert_eq!(server.inbox().len(), 100);
    assert!(server.connections() <= 4, "{}", server.connections());
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_or_for_another_name_is_refused() {
    for security in [Security::StartTls, Security::Tls] {
        let server = server(security).await;
        let url = server.url();
        let (without_ca, _) = url.split_once('?').unwrap();
        let other = SmtpMailer::with_limits(without_ca, FROM, limits()).unwrap();
        let (kind, text) = said(other.send(&letter(ANA)).await);
        assert_eq!(kind, PortErrorKind::Unavailable);
        assert!(text.contains("UnknownIssuer"), "{text}");

        let setup = Setup { names: vec!["mail.example.com".into()], ..with_account(security) };
        let named_otherwise = MailServer::start(setup).await.unwrap();
        let (kind, text) = said(mailer(&named_otherwise).send(&letter(ANA)).await);
        assert_eq!(kind, PortErrorKind::Unavailable);
        assert!(text.contains("not valid for name") && text.contains("mail.example.com"), "{text}");
        assert_eq!((server.inbox(), named_otherwise.inbox()), (vec![], vec![]));
    }
}

#[tokio::test]
async fn where_starttls_is_asked_for_nothing_is_sent_without_it() {
    let setup = Setup { security: Security::None, ..with_account(Security::None) };
    let server = MailServer::start(setup).await.unwrap();
    let url = server.url().replace("smtp://", "smtp+starttls://");
    let mailer = SmtpMailer::with_limits(&url, FROM, limits()).unwrap();
    let (kind, text) = said(mailer.send(&letter(ANA)).await);
    assert_eq!(kind, PortErrorKind::Unavailable);
    assert!(text.contains("does not offer STARTTLS"), "{text}");
    assert_eq!(server.inbox(), []);
}

#[tokio::test]
async fn a_wrong_password_is_our_fault_not_the_recipients() {
    let server = server(Security::StartTls).await;
    let url = server.url_as("localhost", Some(("tapedeck@gmail.com".into(), "wrong".into())));
    let mailer = SmtpMailer::with_limits(&url, FROM, limits()).unwrap();
    let (kind, text) = said(mailer.send(&letter(ANA)).await);
    assert_eq!(kind, PortErrorKind::Unavailable);
    assert!(text.contains("535") && !text.contains("wrong"), "{text}");
}

#[tokio::test]
async fn addresses_that_the_server_cannot_take_are_refused() {
    let setup = Setup { extensions: Vec::new(), ..with_account(Security::Tls) };
    let server = MailServer::start(setup).await.unwrap();
    for to in ["üna@example.com", "no address", "a@b\r\nRCPT TO:<eve@example.com>", ""] {
        let (kind, text) = said(mailer(&server).send(&letter(to)).await);
        assert_eq!(kind, PortErrorKind::Refused, "{text}");
    }
    let eight_bit = Letter { text: "To: ana\r\n\r\nbüro\r\n".into(), ..letter(ANA) };
    assert_eq!(said(mailer(&server).send(&eight_bit).await).0, PortErrorKind::Refused);
    assert_eq!(server.inbox(), []);
    let able = self::server(Security::Tls).await;
    mailer(&able).send(&letter("üna@example.com")).await.unwrap();
    assert_eq!(able.inbox_of("üna@example.com").len(), 1);
}

#[tokio::test]
async fn the_breaker_opens_after_failures_in_a_row_and_closes_when_the_server_is_back() {
    let server = server(Security::StartTls).await;
    let patience = Patience { failures: 5, pause: Duration::from_millis(300), ..Patience::default() };
    let mailer = SmtpMailer::with_limits(&server.url(), FROM, Limits { patience, ..limits() }).unwrap();
    server.refuse_recipient("nobody@example.com");
    for _ in 0..10 {
        assert_eq!(said(mailer.send(&letter("nobody@example.com")).await).0, PortErrorKind::Refused);
    }
    server.hang_up();
    server.inject(Stage::Auth, Fault::Reply("535 5.7.8 no".into()), 1000);
    for _ in 0..5 {
        let (_, text) = said(mailer.send(&letter(ANA)).await);
        assert!(text.contains("535"), "bounces do not open it: {text}");
    }
    let connections = server.connections();
    let (kind, text) = said(mailer.send(&letter(ANA)).await);
    assert_eq!(kind, PortErrorKind::Unavailable);
    assert!(text.contains("the mail server has been failing") && text.contains("next try in"), "{text}");
    assert_eq!(server.connections(), connections, "the server is left alone");
    server.mend();
    let begin = Instant::now();
    while mailer.send(&letter(ANA)).await.is_err() {
        assert!(begin.elapsed() < Duration::from_secs(10), "it closes again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(begin.elapsed() > Duration::from_millis(200), "it stays open for its pause");
    mailer.send(&letter(ANA)).await.unwrap();
    assert_eq!(server.inbox_of(ANA).len(), 2);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_tried_again() {
    let nobody = SmtpMailer::with_limits("smtp://127.0.0.1:1", FROM, limits()).unwrap();
    let (kind, text) = said(nobody.send(&letter(ANA)).await);
    assert_eq!(kind, PortErrorKind::Unavailable);
    assert!(text.contains("refused"), "{text}");
    assert!(SmtpMailer::connect("smtp://127.0.0.1:1", "nobody").is_err(), "a sender is an address");
}

#[tokio::test]
async fn a_log_mailer_takes_everything() {
    LogMailer.send(&letter(ANA)).await.unwrap();
}

#[tokio::test]
async fn a_probe_tells_what_is_wrong() {
    let well = server(Security::StartTls).await;
    let report = probe(&well.url()).await.unwrap();
    assert!(report.encrypted && report.logged_in && report.server == "localhost", "{report:?}");
    assert_eq!(report.to_string(), format!("localhost:{} (localhost): encrypted, logged in", well.port()));
    assert_eq!(well.inbox(), []);

    let plain = server(Security::None).await;
    let tls = server(Security::Tls).await;
    let named_otherwise =
        MailServer::start(Setup { names: vec!["mail.example.com".into()], ..with_account(Security::Tls) })
            .await
            .unwrap();
    let without_auth =
        MailServer::start(Setup { mechanisms: vec![], ..with_account(Security::StartTls) }).await.unwrap();
    let account = |password: &str| Some(("tapedeck@gmail.com".to_owned(), password.to_owned()));
    for (url, word) in [
        ("smtp://no-such-host.invalid:25".into(), "there is no host"),
        ("smtp://127.0.0.1:1".into(), "nothing listens on port 1"),
        (tls.url().split_once('?').unwrap().0.to_owned(), "?ca="),
        (named_otherwise.url(), "write the name that is in it"),
        (plain.url().replace("smtp://", "smtp+starttls://"), "does not offer STARTTLS"),
        (plain.url().replace("smtp://", "smtps://"), "does not speak TLS from the first byte"),
        (without_auth.url(), "offers neither AUTH"),
        (well.url_as("localhost", account("wrong")), "app password"),
    ] {
        let (_, text) = said(probe(&url).await.map(drop));
        assert!(text.contains(word), "{url}: {text}");
    }
}
