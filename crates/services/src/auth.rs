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
use accounts::Verifier;
use async_trait::async_trait;
use std::sync::Arc;
use throttle::Throttle;

/// Auth in this process, over the users' table.
pub struct LocalAuth {
    users: Arc<dyn Users>,
    key: TokenKey,
    clock: Arc<dyn Clock>,
    verifier: Verifier,
    throttle: Throttle,
    set_up_token: Option<String>,
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
        LocalAuth { users, key, clock, verifier: Verifier::default(), throttle, set_up_token }
    }

    /// The claims of a token, if it is ours, in time, and its user still exists.
    pub async fn claims(&self, token: &str) -> Result<(Claims, Identity), AuthError> {
        let claims = self.key.verify(token, self.clock.now()).ok_or(AuthError::NotAuthorized)?;
        let user = self.users.find(&claims.username).await?.ok_or(AuthError::NotAuthorized)?;
        Ok((claims, Identity { email: user.email, role: user.role }))
    }

    fn token(&self, email: &str, role: Role) -> String {
        self.key.sign(email, role, self.clock.now())
    }
}

#[async_trait]
impl Auth for LocalAuth {
    async fn login(&self, email: &str, password: &str, client: &str) -> Result<String, AuthError> {
        let attempt = self.throttle.attempt(email, client)?;
        let user = self.users.find(email).await?;
        let hash = user.as_ref().map(|user| user.password.clone());
        match (user, self.verifier.verify(password, hash).await) {
            (Some(user), true) => Ok(self.token(&user.email, user.role)),
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
        match self.users.add_first(&User { email: email.clone(), password, role: Role::Admin }).await? {
            Swap::Won => Ok(self.token(&email, Role::Admin)),
            Swap::Lost => Err(AuthError::SetUpOver),
        }
    }
}
