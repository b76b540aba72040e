//! Values that are printed without what nobody else may know.

use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// A secret: it is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Secret(pub String);

impl Secret {
    /// Nothing was set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "\"\"" } else { "***" })
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_empty() { "" } else { "***" })
    }
}

/// A backend's URL: the password in it is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Url(pub String);

impl Url {
    /// Has it this scheme?
    pub fn is(&self, scheme: &str) -> bool {
        self.0.strip_prefix(scheme).is_some_and(|rest| rest.starts_with(':'))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Up to the last @, wherever it stands: a password may hold what should have been percent-encoded.
        let masked = self.0.split_once("://").and_then(|(scheme, rest)| {
            let (user, behind) = rest.rsplit_once('@')?;
            let name = user.split(':').next().unwrap_or_default();
            Some(format!("{scheme}://{name}:***@{behind}"))
        });
        f.write_str(masked.as_deref().unwrap_or(&self.0))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for Url {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_string())
    }
}
