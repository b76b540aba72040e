//! `tapedeck user`: accounts, by whoever may write to the data folder.

use crate::{
    cli::{Place, Role as ProcessRole, UserCommand},
    config::{self, Mode},
    ports::Ports,
};
use anyhow::{Context, Result, bail};
use services::{
    auth::{check_email, check_password, hash_password},
    ports::{Role, Swap, User},
    sweeper,
};
use std::io::{IsTerminal, stdin};

/// Runs a user command.
pub fn run(place: &Place, command: UserCommand) -> Result<()> {
    crate::serve::keep_private();
    let config = config::load(place, false)?;
    // A user can be added before anything else; whoever asks for those that are there has mistyped the folder.
    if config.mode == Mode::Embedded && !matches!(command, UserCommand::Add { .. }) && !place.data.exists() {
        bail!(
            "there is no data folder {}; name the one that Tapedeck serves from with --data DIR",
            place.data.display()
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        match command {
            // What is wrong with the words is said before a password is asked for.
            UserCommand::Add { email, admin, password_stdin } => {
                let email = check_email(&email)?;
                let ports = Ports::open(place, &config, &[ProcessRole::Auth]).await?;
                if ports.users()?.find(&email).await?.is_some() {
                    bail!(
                        "{email} has an account already; `tapedeck user passwd {email}` sets a new password"
                    );
                }
                let role = if admin { Role::Admin } else { Role::User };
                add(&ports, email, role, &password(password_stdin)?).await
            }
            UserCommand::List => list(&Ports::open(place, &config, &[ProcessRole::Auth]).await?).await,
            UserCommand::Passwd { email, password_stdin } => {
                let ports = Ports::open(place, &config, &[ProcessRole::Auth]).await?;
                let user = known(&ports, &email).await?;
                set_password(&ports, &user, &password(password_stdin)?).await
            }
            UserCommand::Remove { email, yes } => {
                let ports = Ports::open(place, &config, &[ProcessRole::Auth]).await?;
                remove(&ports, &email, yes || !stdin().is_terminal()).await
            }
        }
    })
}

/// A password from standard input, or typed twice without an echo.
fn password(from_stdin: bool) -> Result<String> {
    if from_stdin {
        let mut line = String::new();
        stdin().read_line(&mut line).context("no password could be read from standard input")?;
        return Ok(check_password(line.trim_end_matches(['\n', '\r']))?.to_owned());
    }
    if !stdin().is_terminal() {
        bail!("there is no terminal to ask for a password; give it on standard input with --password-stdin");
    }
    let first = rpassword::prompt_password("Password (at least 8 characters): ")
        .context("no password could be read")?;
    check_password(&first)?;
    if rpassword::prompt_password("The same again: ").context("no password could be read")? != first {
        bail!("the two passwords differ; nothing was changed");
    }
    Ok(first)
}

async fn known(ports: &Ports, email: &str) -> Result<User> {
    let user = ports.users()?.find(email).await?;
    user.with_context(|| format!("{email:?} has no account; `tapedeck user list` shows who has"))
}

async fn add(ports: &Ports, email: String, role: Role, password: &str) -> Result<()> {
    let password = hash_password(password.to_owned()).await?;
    match ports.users()?.add(&User { email: email.clone(), password, role }).await? {
        Swap::Won => say!("{email} can sign in now ({role})."),
        Swap::Lost => {
            bail!("{email} has an account already; `tapedeck user passwd {email}` sets a new password")
        }
    }
    Ok(())
}

async fn list(ports: &Ports) -> Result<()> {
    let users = ports.users()?.list().await?;
    if users.is_empty() {
        complain!("There is no account yet; `tapedeck user add you@example.com --admin` makes the first.");
    }
    for user in users {
        say!("{}\t{}", user.email, user.role);
    }
    Ok(())
}

async fn set_password(ports: &Ports, user: &User, password: &str) -> Result<()> {
    let hash = hash_password(password.to_owned()).await?;
    match ports.users()?.set_password(&user.email, &hash).await? {
        Swap::Won => say!("{} has a new password.", user.email),
        Swap::Lost => bail!("{} was removed meanwhile", user.email),
    }
    Ok(())
}

async fn delete_jobs(ports: &Ports, owner: &str) -> Result<usize> {
    let records = ports.records()?;
    Ok(sweeper::delete_owner(&records.ledger, &*records.blobs, owner).await?)
}

async fn remove(ports: &Ports, email: &str, is_meant: bool) -> Result<()> {
    // Asked for before anything is removed: without them the jobs would stay.
    ports.records()?;
    let user = ports.users()?.find(email).await?;
    let owner = user.as_ref().map_or(email, |user| user.email.as_str());
    if user.is_some() && !is_meant {
        complain!("{owner} and all of their videos and MP3s will be deleted, for good. Type yes to go on:");
        let mut answer = String::new();
        stdin().read_line(&mut answer).context("no answer could be read")?;
        if answer.trim() != "yes" {
            bail!("nothing was changed");
        }
    }
    // The account first: from now on nobody uploads for it.
    ports.users()?.remove(owner).await?;
    let deleted = delete_jobs(ports, owner).await;
    let deleted =
        deleted.context("the account is removed, but not all of its jobs are; run the command again")?;
    if user.is_none() && deleted == 0 {
        // Not even what an earlier removal left, which ended half-way.
        return known(ports, email).await.map(drop);
    }
    say!(
        "{owner} is removed, with {deleted} job{} and all their videos and MP3s.",
        if deleted == 1 { "" } else { "s" }
    );
    Ok(())
}

/// `tapedeck migrate`
pub fn migrate(place: &Place) -> Result<()> {
    crate::serve::keep_private();
    let config = config::load(place, false)?;
    let url = &config.backends.users;
    if url.0.is_empty() {
        bail!(
            "backends.users is not set: set MYSQL_HOST, MYSQL_USER and MYSQL_PASSWORD, or TAPEDECK_BACKENDS_USERS"
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        if url.is("sqlite") {
            // Opening it brings its tables up to date.
            Ports::open(place, &config, &[ProcessRole::Auth]).await?.close().await;
        } else {
            let users = distributed::mysql::MySqlUsers::connect(&url.0)?;
            users.migrate().await.map_err(|error| anyhow::anyhow!("{error}: {}", error.source))?;
        }
        say!("The users' tables are up to date ({url}).");
        Ok(())
    })
}
