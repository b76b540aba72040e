//! `tapedeck adopt`: gives MP3s that original services made, and no record names, to an owner.

use crate::{
    cli::{Adopt, Place, Role},
    config,
    ports::Ports,
};
use anyhow::{Context, Result, bail};
use services::{auth::check_email, id::Id, neighbours, stored::Unsound};

/// Adopts every MP3 that can be, says what became of each, and fails if one could not.
pub fn run(place: &Place, wish: &Adopt) -> Result<()> {
    crate::serve::keep_private();
    let config = config::load(place, false)?;
    let owner = check_email(&wish.owner)?;
    let ids: Result<Vec<Id>> =
        wish.mp3s.iter().map(|fid| fid.parse().with_context(|| format!("{fid:?} is no file's id"))).collect();
    let ids = ids?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let ports = Ports::open(place, &config, &[Role::Gateway]).await?;
        let owner = match ports.users() {
            Ok(users) => match users.find(&owner).await? {
                Some(user) => user.email,
                None => bail!("{owner} has no account; `tapedeck user list` shows who has"),
            },
            // The users' table is another process's; the e-mail is taken as it was typed.
            Err(_) => owner,
        };
        let mut failed = 0;
        for id in &ids {
            let records = ports.records()?;
            match neighbours::adopt_mp3(&records.ledger, &*records.blobs, *id, &owner).await {
                Ok(Some(job)) => say!("{id} is {owner}'s now: {} as job {}", job.mp3_name(), job.id),
                Ok(None) => {
                    failed += 1;
                    complain!("{id} has an owner already; nothing was changed");
                }
                Err(Unsound::Missing) => {
                    failed += 1;
                    complain!("{id}: there is no such MP3 in the store");
                }
                Err(Unsound::Store(error)) => return Err(anyhow::Error::new(error)),
                Err(unsound) => {
                    failed += 1;
                    complain!("{id} cannot be adopted: {unsound}");
                }
            }
        }
        ports.close().await;
        if failed > 0 {
            bail!("{failed} of {} were not adopted", ids.len());
        }
        Ok(())
    })
}
