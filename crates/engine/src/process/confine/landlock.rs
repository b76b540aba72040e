//! Landlock without a single rule: no path, no TCP port, and no signal or abstract socket of a process outside.

use std::io;

use ::landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, Ruleset, RulesetAttr, RulesetStatus, Scope,
};

/// The newest version that is known here. An older kernel takes of it what it knows.
const NEWEST: ABI = ABI::V9;

/// Denies everything that the running kernel lets deny. Takes a descriptor for a moment; what is open stays open.
///
/// The first version of Landlock, of Linux 5.13, is enough to count as confined: what it does not know yet (TCP since 6.7, signals and
/// abstract sockets since 6.12, sockets with a path later) the filter of system calls denies as well.
pub(super) fn restrict() -> io::Result<()> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|rules| rules.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .and_then(::landlock::RulesetCreated::restrict_self)
        .map_err(io::Error::other)?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced, _) => Ok(()),
        (_, LandlockStatus::NotEnabled) => {
            Err(io::Error::other("Landlock is built into the kernel and switched off"))
        }
        _ => Err(io::Error::other("the kernel has no Landlock, or a filter of system calls hides it")),
    }
}
