//! One connection to the mail server.

use super::{Fault, Mail, Security, Stage, State};
use std::{io, sync::Arc};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

type Socket = BufReader<Box<dyn Stream>>;

/// Why a session ends: nothing more to say.
fn over() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

pub(super) struct Session {
    state: Arc<State>,
    tls: TlsAcceptor,
    encrypted: bool,
    user: Option<String>,
    from: Option<String>,
    to: Vec<String>,
}

impl Session {
    pub fn new(state: Arc<State>, tls: TlsAcceptor) -> Session {
        Session { state, tls, encrypted: false, user: None, from: None, to: Vec::new() }
    }

    /// Serves the connection to its end, which is always an error.
    pub async fn run(mut self, socket: TcpStream) -> io::Result<()> {
        let mut socket: Socket = BufReader::new(Box::new(socket));
        if !self.strike(&mut socket, Stage::Connect).await? {
            if self.state.setup.security == Security::Tls {
                socket = self.encrypt(socket).await?;
            }
            reply(&mut socket, "220 localhost ESMTP for tests").await?;
        }
        loop {
            let line = line(&mut socket).await?;
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            let (verb, rest) = text.split_once(' ').unwrap_or((text.as_str(), ""));
            match verb.to_ascii_uppercase().as_str() {
                "EHLO" => self.ehlo(&mut socket).await?,
                "STARTTLS" => socket = self.starttls(socket).await?,
                "AUTH" => self.auth(&mut socket, rest).await?,
                "MAIL" => self.mail(&mut socket, rest).await?,
                "RCPT" => self.rcpt(&mut socket, rest).await?,
                "DATA" => self.data(&mut socket).await?,
                "RSET" => {
                    (self.from, self.to) = (None, Vec::new());
                    reply(&mut socket, "250 2.0.0 forgotten").await?;
                }
                "NOOP" => reply(&mut socket, "250 2.0.0 yes").await?,
                "QUIT" => {
                    reply(&mut socket, "221 2.0.0 goodbye").await?;
                    return Err(over());
                }
                _ => reply(&mut socket, "502 5.5.1 unknown command").await?,
            }
        }
    }

    /// Does what the fault at this stage wants, if there is one: then the command is dealt with.
    async fn strike(&self, socket: &mut Socket, stage: Stage) -> io::Result<bool> {
        match self.state.fault(stage) {
            None => Ok(false),
            Some(Fault::Reply(text)) => reply(socket, &text).await.map(|()| true),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Drop | Fault::DropAfterAccept) => Err(over()),
        }
    }

    async fn encrypt(&mut self, socket: Socket) -> io::Result<Socket> {
        let encrypted = self.tls.accept(socket.into_inner()).await?;
        self.encrypted = true;
        Ok(BufReader::new(Box::new(encrypted)))
    }

    async fn ehlo(&self, socket: &mut Socket) -> io::Result<()> {
        if self.strike(socket, Stage::Ehlo).await? {
            return Ok(());
        }
        let setup = &self.state.setup;
        let mut lines = vec!["localhost greets you".to_owned()];
        lines.extend(setup.extensions.iter().cloned());
        if setup.security == Security::StartTls && !self.encrypted {
            lines.push("STARTTLS".into());
        } else if setup.account.is_some() && !setup.mechanisms.is_empty() {
            lines.push(format!("AUTH {}", setup.mechanisms.join(" ")));
        }
        let last = lines.len() - 1;
        let text: Vec<String> = lines
            .iter()
            .enumerate()
            .map(|(at, line)| format!("250{}{line}", if at == last { ' ' } else { '-' }))
            .collect();
        reply(socket, &text.join("\r\n")).await
    }

    async fn starttls(&mut self, mut socket: Socket) -> io::Result<Socket> {
        if self.strike(&mut socket, Stage::StartTls).await? {
            return Ok(socket);
        }
        reply(&mut socket, "220 2.0.0 begin").await?;
        self.encrypt(socket).await
    }

    async fn auth(&mut self, socket: &mut Socket, rest: &str) -> io::Result<()> {
        if self.strike(socket, Stage::Auth).await? {
            return Ok(());
        }
        let (mechanism, initial) = rest.split_once(' ').unwrap_or((rest, ""));
        let given = match mechanism {
            "PLAIN" => {
                let parts = decode(initial);
                let mut parts = parts.split('\0').skip(1).map(str::to_owned);
                parts.next().zip(parts.next())
            }
            // "Username:" and "Password:".
            "LOGIN" => Some((ask(socket, "334 VXNlcm5hbWU6").await?, ask(socket, "334 UGFzc3dvcmQ6").await?)),
            _ => None,
        };
        if given.is_some() && given == self.state.setup.account {
            self.user = given.map(|(user, _)| user);
            return reply(socket, "235 2.7.0 welcome").await;
        }
        reply(socket, "535 5.7.8 Username and Password not accepted").await
    }

    /// What is missing before mails are taken.
    fn missing(&self) -> Option<&'static str> {
        let setup = &self.state.setup;
        if setup.security == Security::StartTls && !self.encrypted {
            return Some("530 5.7.0 Must issue a STARTTLS command first");
        }
        (setup.account.is_some() && self.user.is_none()).then_some("530 5.7.0 Authentication Required")
    }

    async fn mail(&mut self, socket: &mut Socket, rest: &str) -> io::Result<()> {
        if self.strike(socket, Stage::Mail).await? {
            return Ok(());
        }
        if let Some(missing) = self.missing() {
            return reply(socket, missing).await;
        }
        if self.from.is_some() {
            return reply(socket, "503 5.5.1 one mail at a time").await;
        }
        self.from = Some(address(rest));
        reply(socket, "250 2.1.0 sender taken").await
    }

    async fn rcpt(&mut self, socket: &mut Socket, rest: &str) -> io::Result<()> {
        if self.strike(socket, Stage::Rcpt).await? {
            return Ok(());
        }
        let to = address(rest);
        if self.from.is_none() {
            return reply(socket, "503 5.5.1 the sender comes first").await;
        }
        if !self.state.knows(&to) {
            return reply(socket, "550 5.1.1 The email account that you tried to reach does not exist").await;
        }
        self.to.push(to);
        reply(socket, "250 2.1.5 recipient taken").await
    }

    async fn data(&mut self, socket: &mut Socket) -> io::Result<()> {
        if self.strike(socket, Stage::Data).await? {
            return Ok(());
        }
        if self.to.is_empty() {
            return reply(socket, "503 5.5.1 the recipient comes first").await;
        }
        reply(socket, "354 go on").await?;
        let mut raw = Vec::new();
        loop {
            let line = line(socket).await?;
            if line == b".\r\n" && (raw.is_empty() || raw.ends_with(b"\r\n")) {
                break;
            }
            let starts = raw.is_empty() || raw.ends_with(b"\r\n");
            raw.extend_from_slice(line.strip_prefix(b".").filter(|_| starts).unwrap_or(&line));
        }
        let (from, to) = (self.from.take().unwrap_or_default(), std::mem::take(&mut self.to));
        let mail = Mail { from, to, raw, tls: self.encrypted, user: self.user.clone() };
        match self.state.fault(Stage::Dot) {
            None => {
                self.state.keep(mail);
                reply(socket, "250 2.0.0 taken").await
            }
            Some(Fault::Reply(text)) => reply(socket, &text).await,
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Drop) => Err(over()),
            Some(Fault::DropAfterAccept) => {
                self.state.keep(mail);
                Err(over())
            }
        }
    }
}

/// One line with its end: bytes up to and with a line feed.
async fn line(socket: &mut Socket) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    match socket.read_until(b'\n', &mut line).await? {
        0 => Err(over()),
        _ => Ok(line),
    }
}

async fn reply(socket: &mut Socket, text: &str) -> io::Result<()> {
    socket.write_all(format!("{text}\r\n").as_bytes()).await?;
    socket.flush().await
}

async fn ask(socket: &mut Socket, challenge: &str) -> io::Result<String> {
    reply(socket, challenge).await?;
    let answer = line(socket).await?;
    Ok(decode(String::from_utf8_lossy(&answer).trim_end()))
}

/// `FROM:<ana@example.com> BODY=8BITMIME`: what is between the angle brackets.
fn address(text: &str) -> String {
    let inner = text.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inner.map_or_else(String::new, |(address, _)| address.to_owned())
}

/// Base64, as far as AUTH needs it.
fn decode(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0_u32, 0);
    for value in text.bytes().filter_map(|byte| LETTERS.iter().position(|letter| *letter == byte)) {
        held = (held << 6 | u32::try_from(value).unwrap_or_default()) & 0xff_ffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits).to_le_bytes()[0]);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
