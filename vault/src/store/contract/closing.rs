//! A boot that another node closed, as one that gave no sign of life, may only have been frozen: it writes nothing more.

use std::time::Duration;

use super::on_every_engine;
use super::vault::{Vault, demo, entry};
use crate::access_log::Action;
use crate::store::Error;
use crate::store::committer::operation::Changes;

on_every_engine!(a_boot_that_was_closed_writes_nothing_more_and_hears_of_it, a_boot_that_ends_in_order_is_closed);

fn used() -> Changes {
    Changes { entries: vec![entry(&demo(), Action::ValueDereferenced).into()], ..Changes::default() }
}

async fn a_boot_that_was_closed_writes_nothing_more_and_hears_of_it(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (other, second) = vault.second_node().await;
    let boot = vault.committer.identity().boot();
    vault.write(used).await.unwrap();
    other.close_boot(boot).await.unwrap();
    let ends = other.lane_ends(boot).await.unwrap();
    for _ in 0..2 {
        let refused = vault.write(used).await;
        assert!(matches!(refused, Err(Error::Closed)), "{refused:?}");
    }
    tokio::time::timeout(Duration::from_secs(60), vault.committer.closed()).await.expect("whoever runs it is told");
    assert_eq!(other.lane_ends(boot).await.unwrap(), ends, "its lane ends where it was found to, and no other began");
    assert!(matches!(vault.committer.beat().await, Err(Error::Closed)));
    assert!(vault.committer.stop().await.is_err(), "it has no last word");
    assert_eq!(other.lane_ends(boot).await.unwrap(), ends);
    // Nobody else is touched.
    second.beat().await.unwrap();
    second.stop().await.unwrap();
}

async fn a_boot_that_ends_in_order_is_closed(vault: Vault) {
    let boot = vault.committer.identity().boot();
    assert!(vault.store.is_open(boot).await.unwrap());
    vault.committer.stop().await.unwrap();
    assert!(!vault.store.is_open(boot).await.unwrap());
}
