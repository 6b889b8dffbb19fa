//! Follow-up messages in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use domain::ids::Principal;
use domain::ports::{ClaimOutcome, FollowUpStore, QueueName, ScheduledFollowUp, Task, Unavailable};

use crate::MemoryQueues;

#[derive(Debug)]
struct Row {
    follow_up: ScheduledFollowUp,
    claim: Option<Claim>,
    delivered: bool,
}

#[derive(Debug)]
struct Claim {
    attempt: String,
    until: u64,
}

type Rows = BTreeMap<(Principal, String), Row>;

/// A [`FollowUpStore`] in memory, whose reminders come by a [`MemoryQueues`]. Clones share their content.
#[derive(Debug, Clone)]
pub struct MemoryFollowUps {
    queues: MemoryQueues,
    rows: Arc<Mutex<Rows>>,
}

impl MemoryFollowUps {
    /// A store with nothing to send.
    pub fn new(queues: MemoryQueues) -> Self {
        Self { queues, rows: Arc::default() }
    }

    /// Every follow-up and whether it was delivered.
    pub fn all(&self) -> Vec<(ScheduledFollowUp, bool)> {
        self.rows.lock().unwrap().values().map(|row| (row.follow_up.clone(), row.delivered)).collect()
    }
}

fn key(principal: &Principal, follow_up_id: &str) -> (Principal, String) {
    (principal.clone(), follow_up_id.to_owned())
}

impl FollowUpStore for MemoryFollowUps {
    async fn schedule(&self, follow_up: &ScheduledFollowUp) -> Result<(), Unavailable> {
        let (principal, follow_up_id) = key(&follow_up.principal, &follow_up.follow_up_id);
        let mut rows = self.rows.lock().unwrap();
        if rows.contains_key(&(principal.clone(), follow_up_id.clone())) {
            return Ok(());
        }
        let remind = Task::Remind { principal: principal.clone(), follow_up_id: follow_up_id.clone() };
        let body = serde_json::to_string(&remind).expect("a task is JSON");
        self.queues.put_at(QueueName::FollowUp, &body, follow_up.due_at);
        let row = Row { follow_up: follow_up.clone(), claim: None, delivered: false };
        rows.insert((principal, follow_up_id), row);
        Ok(())
    }

    async fn due(&self, principal: &Principal, now: u64, max: u32) -> Result<Vec<ScheduledFollowUp>, Unavailable> {
        let rows = self.rows.lock().unwrap();
        let undelivered = rows.values().filter(|row| !row.delivered).map(|row| &row.follow_up);
        let mut due: Vec<ScheduledFollowUp> = undelivered
            .filter(|follow_up| follow_up.principal == *principal && follow_up.due_at <= now)
            .cloned()
            .collect();
        due.sort_by_key(|follow_up| follow_up.due_at);
        due.truncate(max as usize);
        Ok(due)
    }

    async fn claim(
        &self,
        principal: &Principal,
        follow_up_id: &str,
        attempt: &str,
        now: u64,
        until: u64,
    ) -> Result<ClaimOutcome, Unavailable> {
        let mut rows = self.rows.lock().unwrap();
        let Some(row) = rows.get_mut(&key(principal, follow_up_id)).filter(|row| !row.delivered) else {
            return Ok(ClaimOutcome::Done);
        };
        if row.claim.as_ref().is_some_and(|claim| claim.attempt != attempt && claim.until > now) {
            return Ok(ClaimOutcome::Busy);
        }
        row.claim = Some(Claim { attempt: attempt.to_owned(), until });
        Ok(ClaimOutcome::Claimed(row.follow_up.clone()))
    }

    async fn finish(
        &self,
        principal: &Principal,
        follow_up_id: &str,
        attempt: &str,
        delivered: bool,
    ) -> Result<(), Unavailable> {
        let mut rows = self.rows.lock().unwrap();
        let row = rows.get_mut(&key(principal, follow_up_id));
        if let Some(row) = row.filter(|row| row.claim.as_ref().is_some_and(|claim| claim.attempt == attempt)) {
            row.claim = None;
            row.delivered = delivered;
        }
        Ok(())
    }
}
