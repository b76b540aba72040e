//! What an account may look like, and its password: Argon2id with the crate's defaults (19 MiB, 2 passes).

use crate::ports::AuthError;
use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use tokio::{
    sync::{OnceCell, Semaphore, SemaphorePermit},
    task::spawn_blocking,
};

/// An e-mail or a password that no account can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(String);

impl From<Unfit> for AuthError {
    fn from(unfit: Unfit) -> AuthError {
        AuthError::Unfit(unfit.0)
    }
}

/// The e-mail without blanks around it, if it is one.
pub fn check_email(email: &str) -> Result<String, Unfit> {
    let email = email.trim_matches(' ');
    let shown: String = email.chars().filter(|c| !c.is_control()).take(80).collect();
    let unfit = |why: &str| Err(Unfit(format!("“{shown}” cannot be an account: {why}")));
    if email.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return unfit("an e-mail address has no line breaks, blanks or control characters.");
    }
    if email.len() > 254 {
        return unfit("an e-mail address has at most 254 bytes.");
    }
    match email.parse::<lettre::Address>() {
        Ok(_) => Ok(email.to_owned()),
        Err(_) => unfit("write an e-mail address, for instance you@example.com."),
    }
}

/// The password, if it is long enough, and short enough to hash.
pub fn check_password(password: &str) -> Result<&str, Unfit> {
    match password.chars().count() {
        0..8 => Err(Unfit("A password has at least 8 characters.".into())),
        8..=1024 => Ok(password),
        _ => Err(Unfit("A password has at most 1024 characters.".into())),
    }
}

/// Hashes a password, off the async threads.
pub async fn hash_password(password: String) -> Result<String, AuthError> {
    let hashed = spawn_blocking(move || {
        Argon2::default().hash_password(password.as_bytes()).map(|hash| hash.to_string())
    });
    match hashed.await {
        Ok(Ok(hash)) => Ok(hash),
        Ok(Err(error)) => Err(AuthError::Unavailable(error.to_string().into())),
        Err(error) => Err(AuthError::Unavailable(error.into())),
    }
}

/// So many verify at once: each takes 19 MiB.
const AT_ONCE: usize = 4;
/// So many may wait for their turn; who comes then is told to come again.
const IN_LINE: usize = 64;
const FULL_LINE: &str = "more people sign in at once than there are places in the line";

/// Verifies passwords, a few at a time.
pub(super) struct Verifier {
    line: Semaphore,
    turns: Semaphore,
    nobody: OnceCell<String>,
}

impl Default for Verifier {
    fn default() -> Verifier {
        Verifier {
            line: Semaphore::new(AT_ONCE + IN_LINE),
            turns: Semaphore::new(AT_ONCE),
            nobody: OnceCell::new(),
        }
    }
}

/// The right to verify one password now.
pub(super) struct Turn<'a> {
    verifier: &'a Verifier,
    _place: SemaphorePermit<'a>,
    _turn: SemaphorePermit<'a>,
}

impl Verifier {
    /// Waits for a turn, unless too many wait already.
    pub(super) async fn turn(&self) -> Result<Turn<'_>, AuthError> {
        let place = self.line.try_acquire().map_err(|_| AuthError::Unavailable(FULL_LINE.into()))?;
        let turn = self.turns.acquire().await.map_err(|closed| AuthError::Unavailable(closed.into()))?;
        Ok(Turn { verifier: self, _place: place, _turn: turn })
    }
}

impl Turn<'_> {
    /// Is this the password? For an unknown user it takes as long as for a known one, and is not; and so it does where an original
    /// service stored the password as it is.
    pub(super) async fn verify(&self, password: &str, stored: Option<String>) -> bool {
        let (hash, plain) = match stored {
            Some(stored) if is_hash(&stored) => (Some(stored), None),
            stored => (None, stored),
        };
        let equal = plain.as_ref().is_some_and(|plain| same(plain, password));
        let known = hash.is_some();
        let nobody = || hash_password("nobody has this password".into());
        let hash = match hash {
            Some(hash) => hash,
            None => match self.verifier.nobody.get_or_try_init(nobody).await {
                Ok(hash) => hash.clone(),
                Err(_) => return false,
            },
        };
        let password = password.to_owned();
        let verified = spawn_blocking(move || {
            PasswordHash::new(&hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
        });
        verified.await.unwrap_or(false) && known || equal
    }
}

/// Is this a hash, and not a password as an original service stores it?
pub(super) fn is_hash(stored: &str) -> bool {
    stored.starts_with("$argon2")
}

/// Compares digests in constant time: neither length nor a common beginning shows. No password is empty.
fn same(stored: &str, password: &str) -> bool {
    let digest = |text: &str| digest::digest(&digest::SHA256, text.as_bytes());
    let equal = verify_slices_are_equal(digest(stored).as_ref(), digest(password).as_ref()).is_ok();
    equal && !stored.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_email_is_an_address_on_one_line() {
        assert_eq!(check_email(" georgio@email.com "), Ok("georgio@email.com".into()));
        for bad in [
            "",
            "georgio",
            "a@b\nBcc: c@d.e",
            "a@b.c\r\n",
            "a b@c.d",
            "@b.c",
            &format!("{}@b.c", "a".repeat(300)),
        ] {
            let text = check_email(bad).unwrap_err().to_string();
            assert!(!text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn the_passwords_of_the_originals_are_long_enough() {
        assert!(check_password("Admin123").is_ok());
        assert!(check_password("Qwerty123").is_ok());
        assert!(check_password("short").is_err());
    }

    #[tokio::test]
    async fn only_the_password_itself_verifies() {
        let verifiers = Verifier::default();
        let verifier = verifiers.turn().await.unwrap();
        let hash = hash_password("Admin123".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$"));
        assert!(verifier.verify("Admin123", Some(hash.clone())).await);
        assert!(!verifier.verify("Admin124", Some(hash)).await);
        assert!(verifier.verify("Admin123", Some("Admin123".into())).await, "as the originals store it");
        assert!(!verifier.verify("Admin12", Some("Admin123".into())).await);
        assert!(!verifier.verify("admin123", Some("Admin123".into())).await);
        assert!(!verifier.verify("", Some(String::new())).await);
        let broken = "$argon2id$broken";
        assert!(!verifier.verify(broken, Some(broken.into())).await, "a hash is not its own password");
        assert!(!verifier.verify("nobody has this password", None).await);
    }
}
