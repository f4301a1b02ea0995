//! What waits for a batch: tenants take turns, so that one's flood costs another no more than its own turn.

use std::collections::{HashMap, VecDeque};

use super::queued::Queued;
use crate::domain::TenantName;

/// Operations that were taken out of the queue, by tenant.
#[derive(Default)]
pub(super) struct Line {
    waiting: HashMap<TenantName, VecDeque<Box<dyn Queued>>>,
    /// Whose turn it is, and whose then; each tenant that waits once.
    turns: VecDeque<TenantName>,
}

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// At the end of its tenant's line.
    pub(super) fn push(&mut self, job: Box<dyn Queued>) {
        if let Some(waiting) = self.waiting.get_mut(job.tenant()) {
            waiting.push_back(job);
        } else {
            self.turns.push_back(job.tenant().clone());
            self.waiting.insert(job.tenant().clone(), VecDeque::from([job]));
        }
    }

    /// So many at most: one of each tenant in its turn, again and again.
    pub(super) fn draw(&mut self, most: usize) -> Vec<Box<dyn Queued>> {
        let mut drawn = Vec::new();
        while drawn.len() < most
            && let Some(tenant) = self.turns.pop_front()
        {
            let Some(waiting) = self.waiting.get_mut(&tenant) else { continue };
            // Who waits alone waits for nobody.
            let turn = if self.turns.is_empty() { most - drawn.len() } else { 1 };
            drawn.extend(waiting.drain(..turn.min(waiting.len())));
            if waiting.is_empty() {
                self.waiting.remove(&tenant);
            } else {
                self.turns.push_back(tenant);
            }
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::Timestamp;
    use crate::store::committer::operation::Changes;
    use crate::store::committer::own_work::OwnWork;
    use crate::store::committer::queued::{Job, OpeningKeys};

    fn job(tenant: &str) -> Box<dyn Queued> {
        let at = Timestamp::from_millis(0);
        let operation = OwnWork::new(tenant.parse().unwrap(), at, Changes::default);
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        let (reply, _) = tokio::sync::oneshot::channel();
        Box::new(Job {
            operation,
            openings: OpeningKeys::new(),
            output: None,
            reply,
            until,
            place: None,
            moved: Vec::new(),
        })
    }

    fn drawn(line: &mut Line, most: usize) -> Vec<String> {
        line.draw(most).iter().map(|job| job.tenant().to_string()).collect()
    }

    #[test]
    fn one_tenants_flood_lets_every_other_have_its_turn() {
        let mut line = Line::default();
        (0..1000).for_each(|_| line.push(job("flood")));
        line.push(job("one"));
        line.push(job("two"));
        line.push(job("one"));
        assert_eq!(drawn(&mut line, 5), ["flood", "one", "two", "flood", "one"]);
        assert_eq!(drawn(&mut line, 2000).len(), 999 - 1);
        assert!(line.is_empty());
    }
}
