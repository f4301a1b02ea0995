//! Looking at every tenant again and again. One at which somebody looks still keeps no other from being looked at.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::domain::TenantName;

/// Looks at each of `tenants` every `period`, and at none twice at once, until it is told to stop: then what is under way is left where it is.
pub(in crate::store) async fn again_and_again<T, L>(
    period: Duration,
    stop: &CancellationToken,
    tenants: impl Fn() -> T,
    look: impl Fn(TenantName) -> L,
) where
    T: Future<Output = Vec<TenantName>>,
    L: Future<Output = ()>,
{
    let (mut ticks, mut looks, mut under_way) = (interval(period), FuturesUnordered::new(), HashSet::new());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(tenant) = looks.next() => {
                under_way.remove(&tenant);
                continue;
            }
            _ = ticks.tick() => {}
        }
        for tenant in tenants().await {
            if under_way.insert(tenant.clone()) {
                let looked = look(tenant.clone());
                looks.push(async move {
                    looked.await;
                    tenant
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test]
    async fn a_tenant_that_takes_for_ever_keeps_no_other_from_being_looked_at_again() {
        let (stop, seen) = (CancellationToken::new(), RefCell::new(Vec::new()));
        let tenants = || std::future::ready(["large", "small"].map(|name| name.parse().unwrap()).to_vec());
        let look = |tenant: TenantName| {
            seen.borrow_mut().push(tenant.to_string());
            let (is_large, rounds) = (tenant.as_str() == "large", seen.borrow().len());
            let stop = stop.clone();
            async move {
                if is_large {
                    std::future::pending::<()>().await;
                }
                if rounds > 3 {
                    stop.cancel();
                }
            }
        };
        let done = again_and_again(Duration::from_millis(20), &stop, tenants, look);
        tokio::time::timeout(Duration::from_secs(60), done).await.unwrap();
        assert_eq!(*seen.borrow(), ["large", "small", "small", "small"]);
    }
}
