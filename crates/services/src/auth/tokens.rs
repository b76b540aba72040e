//! Tokens: JWT, HS256 and nothing else, with the claims that the original services expect.

use crate::ports::{Role, User};
use aws_lc_rs::hmac;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

/// The claims, in the order of their keys: `/validate` answers with them so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The originals' admission flag: always true in ours, and never what we authorise by.
    pub admin: bool,
    /// When it ends, seconds since 1970.
    pub exp: i64,
    /// When it was made, seconds since 1970.
    pub iat: i64,
    /// Our own claim: a mark of the password that it was signed for. The originals' tokens have none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pw: Option<String>,
    /// Our own claim: what the user may do. The originals' tokens have none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub role: Option<Role>,
    /// The e-mail.
    pub username: String,
}

/// The secret is too short to resist guessing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the JWT secret has {0} bytes; HS256 needs at least 32. Make one with `openssl rand -hex 32`")]
pub struct WeakSecret(pub usize);

/// The key that signs and verifies.
pub struct TokenKey {
    signing: EncodingKey,
    verifying: DecodingKey,
    marking: hmac::Key,
    lifetime: SignedDuration,
}

impl TokenKey {
    /// The key made of these raw bytes; tokens live for `lifetime`.
    pub fn new(secret: &[u8], lifetime: SignedDuration) -> Result<TokenKey, WeakSecret> {
        if secret.len() < 32 {
            return Err(WeakSecret(secret.len()));
        }
        Ok(TokenKey::weak(secret, lifetime))
    }

    /// The same with a secret of any length: for an operator who shares an original service's.
    pub fn weak(secret: &[u8], lifetime: SignedDuration) -> TokenKey {
        let (signing, verifying) = (EncodingKey::from_secret(secret), DecodingKey::from_secret(secret));
        let marking = hmac::Key::new(hmac::HMAC_SHA256, secret);
        TokenKey { signing, verifying, marking, lifetime }
    }

    /// Tells one stored password from another, and nothing about either to whoever has not the secret.
    pub(super) fn password_mark(&self, stored: &str) -> String {
        let text = [b"tapedeck password mark\0", stored.as_bytes()].concat();
        crate::hex(&hmac::sign(&self.marking, &text).as_ref()[..8])
    }

    /// A token for this user.
    pub fn sign(&self, user: &User, now: Timestamp) -> String {
        let iat = now.as_second();
        let exp = iat.saturating_add(self.lifetime.as_secs());
        let pw = Some(self.password_mark(&user.password));
        let claims =
            Claims { admin: true, exp, iat, pw, role: Some(user.role), username: user.email.clone() };
        encode(&Header::new(Algorithm::HS256), &claims, &self.signing)
            .expect("HMAC over JSON in memory cannot fail")
    }

    /// The claims of a token that we (or an original service with our secret) signed and that is in time.
    pub fn verify(&self, token: &str, now: Timestamp) -> Option<Claims> {
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_required_spec_claims(&["exp"]);
        // The time is checked here, against the clock that was passed in.
        rules.validate_exp = false;
        let claims = decode::<Claims>(token, &self.verifying, &rules).ok()?.claims;
        (claims.exp > now.as_second()).then_some(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn key(secret: &[u8]) -> TokenKey {
        TokenKey::new(secret, SignedDuration::from_hours(24)).unwrap()
    }

    fn ana() -> User {
        User { email: "a@b.c".into(), password: "$argon2id$x".into(), role: Role::User }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_token_is_what_the_contract_says() {
        let token = key(SECRET).sign(&ana(), at(1_000));
        let header = token.split('.').next().unwrap();
        // {"typ":"JWT","alg":"HS256"}
        assert_eq!(header, "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9");
        let claims = key(SECRET).verify(&token, at(1_001)).unwrap();
        let pw = Some(key(SECRET).password_mark("$argon2id$x"));
        assert_eq!(
            claims,
            Claims {
                admin: true,
                exp: 87_400,
                iat: 1_000,
                pw,
                role: Some(Role::User),
                username: "a@b.c".into()
            }
        );
    }

    #[test]
    fn expired_foreign_unsigned_and_changed_tokens_are_nobodys() {
        let token = key(SECRET).sign(&ana(), at(1_000));
        assert_eq!(key(SECRET).verify(&token, at(87_400)), None, "expired");
        assert_eq!(key(b"another secret of thirty-two byte").verify(&token, at(1_001)), None, "foreign");
        let parts: Vec<&str> = token.split('.').collect();
        // {"alg":"none"}
        for forged in [
            format!("eyJhbGciOiJub25lIn0.{}.", parts[1]),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{token}x"),
            String::new(),
            "a.b".into(),
        ] {
            assert_eq!(key(SECRET).verify(&forged, at(1_001)), None, "{forged}");
        }
    }

    #[test]
    fn other_algorithms_and_tokens_without_an_end_are_refused() {
        let sign = |algorithm, claims: serde_json::Value| {
            encode(&Header::new(algorithm), &claims, &EncodingKey::from_secret(SECRET)).unwrap()
        };
        let whole = serde_json::json!({"admin": true, "exp": 5_000, "iat": 1, "username": "a@b.c"});
        let endless = serde_json::json!({"admin": true, "iat": 1, "username": "a@b.c"});
        assert!(
            key(SECRET).verify(&sign(Algorithm::HS256, whole.clone()), at(2)).is_some(),
            "an original's token"
        );
        assert_eq!(key(SECRET).verify(&sign(Algorithm::HS512, whole), at(2)), None);
        assert_eq!(key(SECRET).verify(&sign(Algorithm::HS256, endless), at(2)), None);
    }

    #[test]
    fn a_short_secret_is_refused() {
        assert_eq!(TokenKey::new(b"sarcasm", SignedDuration::from_hours(24)).err(), Some(WeakSecret(7)));
    }
}
