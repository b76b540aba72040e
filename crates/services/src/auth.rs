//! The auth service: who may sign in, and who holds a token. Passwords are Argon2id, tokens HS256 as the wire contract says.

mod accounts;
mod remote;
mod routes;
mod throttle;
mod tokens;

pub use accounts::{Unfit, check_email, check_password, hash_password};
pub use remote::RemoteAuth;
pub use routes::routes;
pub use tokens::{Claims, TokenKey, WeakSecret};

use crate::{
    clock::Clock,
    ports::{Auth, AuthError, Identity, Role, Swap, User, Users},
};
use accounts::{Verifier, is_hash};
use async_trait::async_trait;
use std::sync::Arc;
use throttle::Throttle;

/// Nobody has a longer e-mail.
const MAX_EMAIL: usize = 254;
/// Nobody has a longer password: 1024 characters of at most four bytes.
const MAX_PASSWORD: usize = 4096;

/// Auth in this process, over the users' table.
pub struct LocalAuth {
    users: Arc<dyn Users>,
    key: TokenKey,
    clock: Arc<dyn Clock>,
    verifier: Verifier,
    throttle: Throttle,
    set_up_token: Option<String>,
    rehash: bool,
}

impl LocalAuth {
    /// Auth that allows `failures_per_minute` wrong passwords for one e-mail from one client. `set_up_token` opens the
    /// set-up page while there is no user.
    pub fn new(
        users: Arc<dyn Users>,
        key: TokenKey,
        clock: Arc<dyn Clock>,
        failures_per_minute: u32,
        set_up_token: Option<String>,
    ) -> LocalAuth {
        let throttle = Throttle::new(failures_per_minute);
        LocalAuth { users, key, clock, verifier: Verifier::default(), throttle, set_up_token, rehash: true }
    }

    /// Leaves passwords that an original service stored as they are: it compares them so.
    pub fn without_rehash(self) -> LocalAuth {
        LocalAuth { rehash: false, ..self }
    }

    /// The claims of a token, if it is ours, in time, and its user still exists.
    pub async fn claims(&self, token: &str) -> Result<(Claims, Identity), AuthError> {
        let claims = self.key.verify(token, self.clock.now()).ok_or(AuthError::NotAuthorized)?;
        let user = self.users.find(&claims.username).await?.ok_or(AuthError::NotAuthorized)?;
        // Another password, or another holder of the same address, voids what was signed before. An original's token tells neither.
        if claims.pw.as_ref().is_some_and(|pw| *pw != self.key.password_mark(&user.password)) {
            return Err(AuthError::NotAuthorized);
        }
        Ok((claims, Identity { email: user.email, role: user.role }))
    }

    /// The user, whose password is stored as a hash from now on, if an original service stored it as it is.
    /// `None` where the row was changed meanwhile.
    async fn rehashed(&self, user: User) -> Result<Option<User>, AuthError> {
        if !self.rehash || is_hash(&user.password) {
            return Ok(Some(user));
        }
        let hash = hash_password(user.password.clone()).await?;
        match self.users.replace_password(&user.email, &user.password, &hash).await {
            Ok(Swap::Won) => {
                tracing::info!(email = %user.email, "a password that was stored as it is, is stored as a hash now");
                Ok(Some(User { password: hash, ..user }))
            }
            // Another sign-in of the same moment did it, or the password was changed.
            Ok(Swap::Lost) => Ok(None),
            // Who may only read the table signs people in all the same.
            Err(error) => {
                tracing::warn!(error = %crate::chain(&error), "a password that is stored as it is could not be stored as a hash");
                Ok(Some(user))
            }
        }
    }

    fn token(&self, user: &User) -> String {
        self.key.sign(user, self.clock.now())
    }
}

#[async_trait]
impl Auth for LocalAuth {
    async fn login(&self, email: &str, password: &str, client: &str) -> Result<String, AuthError> {
        if email.len() > MAX_EMAIL || password.len() > MAX_PASSWORD {
            return Err(AuthError::InvalidCredentials);
        }
        // Counted failures are looked at when it is this one's turn, not before: however many guess at once, few get through.
        let turn = self.verifier.turn().await?;
        let attempt = self.throttle.attempt(email, client)?;
        let user = self.users.find(email).await?;
        let stored = user.as_ref().map(|user| user.password.clone());
        match (user, turn.verify(password, stored).await) {
            (Some(user), true) => match self.rehashed(user).await? {
                Some(user) => Ok(self.token(&user)),
                // The row has changed in this very moment: is it still this password?
                None => match self.users.find(email).await? {
                    Some(user) if turn.verify(password, Some(user.password.clone())).await => {
                        Ok(self.token(&user))
                    }
                    _ => Err(AuthError::InvalidCredentials),
                },
            },
            _ => {
                attempt.failed();
                Err(AuthError::InvalidCredentials)
            }
        }
    }

    async fn validate(&self, token: &str) -> Result<Identity, AuthError> {
        self.claims(token).await.map(|(_, identity)| identity)
    }

    async fn set_up(&self, set_up_token: &str, email: &str, password: &str) -> Result<String, AuthError> {
        let expected = self.set_up_token.as_deref().ok_or(AuthError::SetUpOver)?;
        aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_bytes(), set_up_token.as_bytes())
            .map_err(|_| AuthError::SetUpOver)?;
        let email = check_email(email)?;
        let password = hash_password(check_password(password)?.to_owned()).await?;
        let user = User { email, password, role: Role::Admin };
        match self.users.add_first(&user).await? {
            Swap::Won => Ok(self.token(&user)),
            Swap::Lost => Err(AuthError::SetUpOver),
        }
    }
}
