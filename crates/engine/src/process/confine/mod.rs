//! What the engine process takes from itself before it touches a video: layers, of which each holds without the others.

mod landlock;
mod rlimit;
mod seccomp;

use std::fmt;
use std::io;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Code, Error, Limits};

/// What to do on a machine that lacks a layer of the sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sandbox {
    /// Convert nothing: every conversion fails as [`Code::SandboxUnavailable`].
    #[default]
    Required,
    /// Convert with the layers that there are. Limits there always are.
    BestEffort,
}

impl Sandbox {
    /// Both.
    pub const ALL: [Sandbox; 2] = [Sandbox::Required, Sandbox::BestEffort];

    /// The name, as it stands in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Sandbox::Required => "required",
            Sandbox::BestEffort => "best-effort",
        }
    }
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word for the sandbox that is none.
#[derive(Debug, thiserror::Error)]
#[error("unknown sandbox {0:?}; known are required and best-effort")]
pub struct UnknownSandbox(String);

impl FromStr for Sandbox {
    type Err = UnknownSandbox;

    fn from_str(name: &str) -> Result<Sandbox, UnknownSandbox> {
        let named = Sandbox::ALL.into_iter().find(|sandbox| sandbox.as_str() == name);
        named.ok_or_else(|| UnknownSandbox(name.to_owned()))
    }
}

/// A layer of the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// How much: memory, processor time, descriptors, bytes of a file.
    Rlimits,
    /// On what: no path, no TCP port, no other process.
    Landlock,
    /// By which system calls.
    Seccomp,
}

impl Layer {
    /// Every layer.
    pub const ALL: [Layer; 3] = [Layer::Rlimits, Layer::Landlock, Layer::Seccomp];

    /// What a machine needs for it.
    fn needs(self) -> &'static str {
        match self {
            Layer::Rlimits => "/proc is needed, and the right to lower limits (prlimit).",
            Layer::Landlock => {
                "Landlock is needed: Linux 5.13 or newer with landlock among its security modules, and a container runtime that \
                 does not hide it."
            }
            Layer::Seccomp => {
                "seccomp filters are needed: a kernel with them, x86-64, AArch64 or RISC-V, and a container runtime that does not \
                 hide them."
            }
        }
    }

    /// The error of a machine that lacks it.
    fn is_missing(self, why: io::Error) -> Error {
        let mut text = format!(
            "This machine cannot shut a conversion in, and converts nothing unconfined. The fault is not the video's. {}",
            self.needs()
        );
        if self != Layer::Rlimits {
            text += " To convert without it: --sandbox best-effort, or converter.sandbox = \"best-effort\" in the configuration.";
        }
        Error::new(Code::SandboxUnavailable, text).because(why)
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layer::Rlimits => "limits",
            Layer::Landlock => "Landlock",
            Layer::Seccomp => "seccomp",
        })
    }
}

/// A layer that this machine lacks; printed, it says why and what the machine needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// Which.
    pub layer: Layer,
    why: String,
}

impl Lack {
    /// The layer that failed, by the error of a process that had to have it.
    pub(super) fn of(layer: Layer, error: &Error) -> Lack {
        Lack { layer, why: error.source.as_ref().map_or_else(|| error.text.clone(), ToString::to_string) }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is missing: {}. {}", self.layer, self.why, self.layer.needs())
    }
}

/// Confines this process, which has one thread, for good; to `layers` alone, as far as `sandbox` says.
pub(super) fn confine(limits: &Limits, layers: &[Layer], sandbox: Sandbox) -> Result<(), Error> {
    let enter = |layer: Layer, enter: &dyn Fn() -> io::Result<()>| match enter() {
        Err(_) if sandbox == Sandbox::BestEffort && layer != Layer::Rlimits => Ok(()),
        entered => entered.map_err(|why| layer.is_missing(why)),
    };
    let wanted = |layer| layers.contains(&layer);
    // This order alone works: Landlock takes the path from the first line and needs a descriptor more than the limits leave; the filter
    // denies what the others do.
    let before = rlimit::data_now().map_err(|why| Layer::Rlimits.is_missing(why))?;
    enter(Layer::Rlimits, &keep_to_itself)?;
    if wanted(Layer::Landlock) {
        enter(Layer::Landlock, &landlock::restrict)?;
    }
    if wanted(Layer::Rlimits) {
        enter(Layer::Rlimits, &|| rlimit::limit(limits, before))?;
    }
    if wanted(Layer::Seccomp) {
        enter(Layer::Seccomp, &seccomp::filter)?;
    }
    Ok(())
}

/// Takes no new privileges, and lets no other process of this user look in. No core is dumped then, not even to a program, which
/// RLIMIT_CORE does not prevent.
fn keep_to_itself() -> io::Result<()> {
    for (option, value) in [(libc::PR_SET_NO_NEW_PRIVS, 1), (libc::PR_SET_DUMPABLE, 0)] {
        // SAFETY: plain numbers.
        if unsafe { libc::prctl(option, value, 0, 0, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_has_one_name_everywhere() {
        for sandbox in Sandbox::ALL {
            assert_eq!(sandbox.to_string().parse::<Sandbox>().unwrap(), sandbox);
            assert_eq!(serde_json::to_value(sandbox).unwrap(), sandbox.as_str());
        }
        assert!("off".parse::<Sandbox>().is_err());
    }

    #[test]
    fn a_missing_layer_is_named_with_what_to_do() {
        for (layer, name) in
            [(Layer::Landlock, "Landlock is needed"), (Layer::Seccomp, "seccomp filters are needed")]
        {
            let error = layer.is_missing(io::ErrorKind::Unsupported.into());
            assert_eq!(error.code, Code::SandboxUnavailable);
            assert!(error.text.contains(name) && error.text.contains("best-effort"), "{error}");
        }
    }
}
