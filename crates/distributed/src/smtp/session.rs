//! One conversation with the mail server: from the connection to the reply to the final dot.

use super::{
    failure::{Failure, Stage, StageMark},
    relay::{Relay, Security},
};
use lettre::{
    Address,
    transport::smtp::{
        authentication::Mechanism,
        client::AsyncSmtpConnection,
        commands::{Data, Mail, Rcpt},
        extension::{Extension, MailBodyParameter, MailParameter},
    },
};
use std::{borrow::Cow, time::Duration};

/// So long a TCP connection to one of the host's addresses may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Connects, encrypts, logs in.
pub(super) async fn open(relay: &Relay, mark: &StageMark) -> Result<AsyncSmtpConnection, Failure> {
    mark.set(Stage::Connect);
    let failed = |error| Failure::at(Stage::Connect, error);
    let implicit = match &relay.security {
        Security::Tls(tls) => Some(tls.clone()),
        _ => None,
    };
    let server = (relay.host.as_str(), relay.port);
    let connecting = AsyncSmtpConnection::connect_tokio1(server, Some(CONNECT), &relay.hello, implicit, None);
    let mut connection = connecting.await.map_err(failed)?;
    if let Security::StartTls(tls) = &relay.security {
        if !connection.can_starttls() {
            return Err(Failure::new(Stage::Connect, "the server does not offer STARTTLS"));
        }
        connection.starttls(tls.clone(), &relay.hello).await.map_err(failed)?;
    }
    if let Some(credentials) = &relay.credentials {
        mark.set(Stage::Login);
        let mechanisms = [Mechanism::Plain, Mechanism::Login];
        if connection.server_info().get_auth_mechanism(&mechanisms).is_none() {
            return Err(Failure::new(Stage::Login, "the server offers neither AUTH PLAIN nor AUTH LOGIN"));
        }
        connection.auth(&mechanisms, credentials).await.map_err(|error| Failure::at(Stage::Login, error))?;
    }
    Ok(connection)
}

/// Sends one mail. `Ok` when the server has taken it.
pub(super) async fn send(
    connection: &mut AsyncSmtpConnection,
    from: &Address,
    to: &Address,
    text: &[u8],
    mark: &StageMark,
) -> Result<(), Failure> {
    let parameters = parameters(connection, from, to, text)?;
    mark.set(Stage::Sender);
    let mail = Mail::new(Some(from.clone()), parameters);
    connection.command(mail).await.map_err(|error| Failure::at(Stage::Sender, error))?;
    mark.set(Stage::Recipient);
    let recipient = Rcpt::new(to.clone(), Vec::new());
    connection.command(recipient).await.map_err(|error| Failure::at(Stage::Recipient, error))?;
    mark.set(Stage::Content);
    let failed = |error| Failure::at(Stage::Content, error);
    connection.command(Data).await.map_err(failed)?;
    connection.message(&body(text)).await.map_err(failed)?;
    Ok(())
}

/// What MAIL FROM must announce, if the server can do it.
fn parameters(
    connection: &AsyncSmtpConnection,
    from: &Address,
    to: &Address,
    text: &[u8],
) -> Result<Vec<MailParameter>, Failure> {
    let mut parameters = Vec::new();
    let ascii = |address: &Address| AsRef::<str>::as_ref(address).is_ascii();
    if !ascii(from) || !ascii(to) {
        if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
            return Err(Failure::unfit(format!(
                "the mail server takes only addresses in ASCII letters (it has no SMTPUTF8), and {to} is none"
            )));
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    if !text.is_ascii() {
        if !connection.server_info().supports_feature(Extension::EightBitMime) {
            return Err(Failure::unfit("the mail server takes only ASCII text (it has no 8BITMIME)"));
        }
        parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    Ok(parameters)
}

/// The mail as lettre wants it: without its last line's end, which comes with the final dot. A carriage return or a line feed on its
/// own becomes a whole line end: no mail may have one (RFC 5321, 2.3.8), and one beside a dot ends the mail early for some servers.
fn body(text: &[u8]) -> Cow<'_, [u8]> {
    let text = text.strip_suffix(b"\r\n").unwrap_or(text);
    let lone = |at: usize| match text[at] {
        b'\r' => text.get(at + 1) != Some(&b'\n'),
        b'\n' => at == 0 || text[at - 1] != b'\r',
        _ => false,
    };
    if !(0..text.len()).any(lone) {
        return Cow::Borrowed(text);
    }
    let mut whole = Vec::with_capacity(text.len() + 16);
    for (at, byte) in text.iter().enumerate() {
        if lone(at) { whole.extend(b"\r\n") } else { whole.push(*byte) }
    }
    Cow::Owned(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_line_ends_stay_and_lone_ones_become_whole() {
        assert_eq!(&*body(b"a\r\n.\r\nb\r\n"), b"a\r\n.\r\nb");
        assert_eq!(&*body(b"a"), b"a");
        assert_eq!(&*body(b"\n.\nMAIL\r.\r\r\n"), b"\r\n.\r\nMAIL\r\n.\r\n");
        assert_eq!(&*body(b"a\r\n\r\n"), b"a\r\n");
    }
}
