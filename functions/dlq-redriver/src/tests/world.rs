//! A world with dead letters in it.

#![expect(clippy::wildcard_enum_match_arm, reason = "a rule of few cases reads better without all the others")]

use std::collections::BTreeMap;

use domain::ids::{ConversationId, TurnId};
use domain::intent::Intent;
use domain::limits::{REDRIVES_MAX, REMINDER_AGE_MAX_MS, TURN_AGE_MAX_MS};
use domain::ports::{
    Clock as _, JournalOutcome, JournalWrite, LockOutcome, LockRequest, QueueName, RecordOutcome, Task, TurnEnded,
    TurnStore as _,
};
use domain::protocol::{Locale, TurnState, Usage};
use domain::redrive::{Fate, Quarantined, QueueReport, Reason, RedriveReport, Redriver};
use domain::turn::{Hold, Outcome, StoredTurn, TurnRequest};
use serde_json::{Value, json};
use testkit::{Faulty, InMemory, MemoryQuarantine, MemoryQueues, MessageAttributes, RedrivePolicy, START_MS, samples};

use crate::handle;

pub const QUEUES: [QueueName; 2] = [QueueName::FollowUp, QueueName::Watchdog];

/// Longer than a dead letter stays out of sight.
pub const OUT_OF_SIGHT_MS: u64 = 120_000;

/// So far away that no test gets there.
const FAR_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// What is known of the turn that a letter names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing, and the letter is young.
    Unrecorded,
    /// Nothing, and the letter is as old as a turn gets.
    NeverRecorded,
    /// Its owner works on it.
    Live,
    /// Its owner works on it, although it is as old as a turn gets.
    LiveAndOld,
    /// Its owner is dead.
    Lapsed,
    /// It waits in the queue.
    Queued,
    /// It waits in the queue and is as old as a turn gets.
    Old,
    /// Its outcome is stored, and no more.
    EndedAndHeld,
    /// It has ended and its conversation is free.
    Ended,
}

/// What a letter holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    Finish(Standing),
    Watch(Standing),
    /// The owner that is to be watched has a successor.
    WatchOfFormer(Standing),
    TurnEnded,
    Remind,
    /// Due so long ago that nobody is reminded any more.
    OldRemind,
    /// A task of the other queue.
    Misplaced,
    /// Of a kind that is not known.
    Unknown,
    Garbage,
}

/// A letter to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Letter {
    pub content: Content,
    pub redrives: u32,
    pub refused: bool,
}

impl Letter {
    pub fn of(content: Content) -> Self {
        Self { content, redrives: 0, refused: false }
    }

    pub fn redriven(content: Content, redrives: u32) -> Self {
        Self { redrives, ..Self::of(content) }
    }

    pub fn refused(content: Content) -> Self {
        Self { refused: true, ..Self::of(content) }
    }

    pub fn queue(self) -> QueueName {
        match self.content {
            Content::Watch(_) | Content::WatchOfFormer(_) | Content::Misplaced => QueueName::Watchdog,
            Content::Finish(_)
            | Content::TurnEnded
            | Content::Remind
            | Content::OldRemind
            | Content::Unknown
            | Content::Garbage => QueueName::FollowUp,
        }
    }

    fn standing(self) -> Option<Standing> {
        match self.content {
            Content::Finish(standing) | Content::Watch(standing) | Content::WatchOfFormer(standing) => Some(standing),
            Content::TurnEnded
            | Content::Remind
            | Content::OldRemind
            | Content::Misplaced
            | Content::Unknown
            | Content::Garbage => None,
        }
    }
}

/// A letter that was put among the dead.
#[derive(Debug, Clone)]
pub struct Dead {
    pub letter: Letter,
    pub body: String,
    pub message_id: String,
    pub turn_id: TurnId,
}

/// A world, and the process that looks after its dead letters.
pub struct World {
    pub ports: InMemory,
    pub quarantine: MemoryQuarantine,
    /// What the last run wrote.
    pub log: Vec<u8>,
    letters: u64,
}

impl World {
    pub fn new() -> Self {
        Self { ports: InMemory::new(), quarantine: MemoryQuarantine::default(), log: Vec::new(), letters: 0 }
    }

    /// A world with these among the dead letters.
    pub fn with(letters: impl IntoIterator<Item = Letter>) -> (Self, Vec<Dead>) {
        let mut world = Self::new();
        let dead = letters.into_iter().map(|letter| world.bury(letter)).collect();
        (world, dead)
    }

    pub fn queues(&self) -> &MemoryQueues {
        &self.ports.queues.inner
    }

    pub fn redriver(&self) -> Redriver<InMemory, Faulty<MemoryQueues>, Faulty<MemoryQuarantine>> {
        Redriver {
            dead_letters: self.ports.queues.clone(),
            quarantine: Faulty::new(self.quarantine.clone(), self.ports.faults.clone()),
            ports: self.ports.clone(),
        }
    }

    /// Invokes the function; none if it crashed.
    pub fn try_invoke(&mut self, event: &Value) -> Option<RedriveReport> {
        let mut log = Vec::new();
        let redriver = self.redriver();
        let report = self.ports.run(handle(&redriver, event, &mut log));
        self.log = log;
        report.map(|report| report.expect("the request is good"))
    }

    pub fn invoke(&mut self, event: &Value) -> RedriveReport {
        self.try_invoke(event).expect("nothing crashed")
    }

    /// As the schedule does.
    pub fn run(&mut self) -> RedriveReport {
        self.invoke(&json!({}))
    }

    /// The run of one queue.
    pub fn run_queue(&mut self, queue: QueueName) -> QueueReport {
        self.invoke(&json!({ "queues": [queue] })).queues.remove(&queue).unwrap()
    }

    /// Time passes, until every dead letter can be received and a new process looks after them.
    pub fn later(&self) {
        self.ports.faults.restart();
        self.ports.clock.advance(OUT_OF_SIGHT_MS);
    }

    /// Puts a letter among the dead, after its turn was put where it stands.
    pub fn bury(&mut self, letter: Letter) -> Dead {
        self.letters += 1;
        let number = self.letters;
        let turn_id = TurnId::parse(&format!("t_{number}")).unwrap();
        if let Some(standing) = letter.standing() {
            self.stand(&turn_id, standing);
        }
        let body = self.body(letter, &turn_id);
        let now = self.ports.clock.now_ms();
        let age_ms = match letter.standing() {
            Some(Standing::NeverRecorded) => Some(TURN_AGE_MAX_MS),
            _ => (letter.content == Content::OldRemind).then_some(REMINDER_AGE_MAX_MS),
        };
        // The others never get too old, however long a test goes on.
        let first_sent_at = age_ms.map_or(now + FAR_MS, |age_ms| now - age_ms);
        let attributes = MessageAttributes {
            redrives: Some(letter.redrives),
            first_sent_at: Some(first_sent_at),
            reason: letter.refused.then(|| "nobody can do this".to_owned()),
        };
        let message_id = self.queues().put_dead(letter.queue(), &body, attributes);
        Dead { letter, body, message_id, turn_id }
    }

    fn body(&self, letter: Letter, turn_id: &TurnId) -> String {
        let (turn_id, conversation_id) = (turn_id.clone(), conversation(turn_id));
        let task = match letter.content {
            Content::Finish(_) | Content::Misplaced => Task::Finish { turn_id, epoch: 1 },
            Content::Watch(_) => Task::Watch { turn_id, epoch: 2 },
            Content::WatchOfFormer(_) => Task::Watch { turn_id, epoch: 1 },
            Content::TurnEnded => Task::TurnEnded(TurnEnded {
                turn_id,
                conversation_id,
                number: 6,
                intent: Intent::Faq,
                state: TurnState::Completed,
                usage: Usage::default(),
                ended_at: START_MS,
                follow_up: true,
            }),
            Content::Remind | Content::OldRemind => {
                Task::Remind { principal: samples::shopper("aiko"), follow_up_id: turn_id.to_string() }
            }
            Content::Unknown => return json!({ "kind": "dance", "turn_id": turn_id }).to_string(),
            Content::Garbage => return format!("{{\"kind\":\"finish\",\"turn\":\"{turn_id}\"}}"),
        };
        serde_json::to_string(&task).unwrap()
    }

    /// Has a turn stand somewhere, with its second owner.
    fn stand(&self, turn_id: &TurnId, standing: Standing) {
        if matches!(standing, Standing::Unrecorded | Standing::NeverRecorded) {
            return;
        }
        let now = self.ports.clock.now_ms();
        let is_old = matches!(standing, Standing::Old | Standing::LiveAndOld);
        let conversation_id = conversation(turn_id);
        let request = TurnRequest {
            turn_id: turn_id.clone(),
            conversation_id: conversation_id.clone(),
            number: 1,
            principal: samples::shopper("aiko"),
            client_message_id: samples::client_message_id(1),
            payload_hash: String::new(),
            text: "『海賊』の新刊は？".to_owned(),
            locale: Locale::Ja,
            product_id: None,
            connection: samples::connection(&format!("asked-{turn_id}")),
            asked_at: if is_old { now - TURN_AGE_MAX_MS } else { now + FAR_MS },
            lease_until: now,
        };
        let lock = LockRequest {
            conversation_id: conversation_id.clone(),
            owner: request.principal.clone(),
            turn_id: turn_id.clone(),
            number: 1,
            replaces: None,
            lease_until: now,
            attempt: turn_id.to_string(),
            now,
        };
        let hold = match standing {
            Standing::Live | Standing::LiveAndOld => Hold::Leased { until: now + FAR_MS },
            Standing::Lapsed => Hold::Leased { until: now - 60_000 },
            _ => Hold::Queued { since: now - 60_000 },
        };
        let has_ended = matches!(standing, Standing::Ended | Standing::EndedAndHeld);
        let write = JournalWrite {
            turn_id: turn_id.clone(),
            epoch: 2,
            writer: "owner".to_owned(),
            number: 1,
            frames: Vec::new(),
            hold,
            outcome: has_ended.then(|| Outcome { state: TurnState::Completed, usage: Usage::default() }),
            now,
        };
        let turns = &self.ports.turns.inner;
        self.ports.clock.block_on(async {
            assert_eq!(turns.lock(&lock).await.unwrap(), LockOutcome::Locked);
            assert_eq!(turns.record(&request).await.unwrap(), RecordOutcome::Recorded);
            assert!(matches!(turns.journal(&write).await.unwrap(), JournalOutcome::Written(_)));
            turns.subscribe(turn_id, &samples::connection(&format!("follows-{turn_id}")), now).await.unwrap();
            if standing == Standing::Ended {
                turns.release(&conversation_id, turn_id).await.unwrap();
            }
        });
    }

    pub fn turn(&self, id: &TurnId) -> Option<StoredTurn> {
        self.ports.clock.block_on(self.ports.turns.inner.turn(id)).unwrap()
    }

    /// Types of the frames that a connection got.
    pub fn told(&self, connection: &str) -> Vec<String> {
        let frames = self.ports.sender.inner.frames(&samples::connection(connection));
        frames.iter().map(|frame| frame["type"].as_str().unwrap().to_owned()).collect()
    }

    /// Whether a turn was ended as failed, and everybody was told who follows it.
    pub fn has_failed_aloud(&self, id: &TurnId) -> bool {
        let is_told = |who: &str| self.told(&format!("{who}-{id}")) == ["turn.started", "turn.failed"];
        self.state(id) == Some(TurnState::Failed) && is_told("asked") && is_told("follows")
    }

    pub fn state(&self, id: &TurnId) -> Option<TurnState> {
        self.turn(id).map(|turn| turn.state())
    }

    pub fn quarantined(&self, dead: &Dead) -> Option<Quarantined> {
        let is_it = |entry: &Quarantined| (entry.queue, &entry.message_id) == (dead.letter.queue(), &dead.message_id);
        self.quarantine.entries().into_iter().find(is_it)
    }

    /// How often each body is in the queue.
    pub fn sent(&self, queue: QueueName) -> BTreeMap<String, usize> {
        let mut sent = BTreeMap::new();
        for body in self.queues().bodies(queue) {
            *sent.entry(body).or_default() += 1;
        }
        sent
    }

    /// The bodies left among the dead.
    pub fn left(&self) -> Vec<String> {
        QUEUES.iter().flat_map(|queue| self.queues().dead_letters(*queue)).map(|(body, _)| body).collect()
    }

    /// A broken consumer: it receives every message of a queue until the queue gives up.
    pub fn consume_badly(&self, queue: QueueName) {
        self.queues().set_policy(queue, RedrivePolicy { visibility_ms: 1_000, receives_max: 1 });
        while self.queues().counts(queue).visible > 0 {
            self.queues().receive_messages(queue, 10);
        }
        self.ports.clock.advance(1_000);
        assert!(self.queues().receive_messages(queue, 10).is_empty(), "all of them are dead");
    }
}

fn conversation(turn_id: &TurnId) -> ConversationId {
    ConversationId::parse(&format!("c_{turn_id}")).unwrap()
}

/// Each letter is counted once among what became of it and once among the reasons.
#[track_caller]
pub fn adds_up(report: &QueueReport) {
    let fates = report.redriven + report.quarantined + report.duplicates + report.expired + report.given_back;
    assert_eq!(fates, report.received, "{report:?}");
    assert_eq!(report.reasons.values().sum::<u32>(), report.received, "{report:?}");
    assert_eq!(report.reasons.get(&Reason::Filtered).copied().unwrap_or_default(), report.skipped);
}

/// What a letter deserves.
pub fn deserves(letter: Letter) -> Reason {
    let unless_alive = |reason| match letter.content {
        Content::Finish(Standing::Live | Standing::LiveAndOld)
        | Content::Watch(Standing::Live | Standing::LiveAndOld) => Reason::OwnerAlive,
        _ => reason,
    };
    let again = |reason| match letter.redrives {
        ..REDRIVES_MAX => reason,
        REDRIVES_MAX.. => unless_alive(Reason::RedrivesExhausted),
    };
    match letter.content {
        Content::Garbage => Reason::Malformed,
        Content::Unknown => Reason::UnknownKind,
        _ if letter.refused => unless_alive(Reason::Refused),
        Content::Misplaced => Reason::Misplaced,
        Content::TurnEnded | Content::Remind => again(Reason::Transient),
        Content::OldRemind => Reason::ReminderExpired,
        Content::Finish(standing) => match standing {
            Standing::Unrecorded | Standing::Live | Standing::Lapsed | Standing::Queued => again(Reason::Transient),
            Standing::NeverRecorded => Reason::NeverAccepted,
            Standing::LiveAndOld => Reason::OwnerAlive,
            Standing::Old => Reason::TurnExpired,
            Standing::EndedAndHeld => again(Reason::EndIncomplete),
            Standing::Ended => Reason::TurnEnded,
        },
        Content::Watch(standing) => match standing {
            Standing::Unrecorded | Standing::Live | Standing::Lapsed | Standing::Queued => again(Reason::Transient),
            Standing::NeverRecorded => Reason::NeverAccepted,
            Standing::LiveAndOld => Reason::OwnerAlive,
            Standing::Old => again(Reason::TurnExpired),
            Standing::EndedAndHeld | Standing::Ended => again(Reason::EndIncomplete),
        },
        Content::WatchOfFormer(standing) => match standing {
            Standing::Unrecorded => again(Reason::Transient),
            Standing::NeverRecorded => Reason::NeverAccepted,
            Standing::Live | Standing::LiveAndOld | Standing::Lapsed | Standing::Queued | Standing::Old => {
                Reason::OwnerSuperseded
            }
            Standing::EndedAndHeld | Standing::Ended => again(Reason::EndIncomplete),
        },
    }
}

/// Whether its message is sent again.
pub fn is_sent_again(letter: Letter) -> bool {
    match deserves(letter) {
        Reason::TurnExpired => matches!(letter.content, Content::Watch(_)),
        reason => reason.fate() == Fate::Redriven,
    }
}

/// Whether its turn is ended as failed.
pub fn fails_its_turn(letter: Letter) -> bool {
    let reason = deserves(letter);
    let is_given_up = reason == Reason::TurnExpired || reason.fate() == Fate::Quarantined;
    let goes_on = |standing| matches!(standing, Standing::Lapsed | Standing::Queued | Standing::Old);
    match letter.content {
        Content::Finish(standing) | Content::Watch(standing) => is_given_up && goes_on(standing),
        _ => false,
    }
}

/// Every letter there can be, redriven never and as often as it may be.
pub fn every_letter() -> Vec<Letter> {
    let standings = [
        Standing::Unrecorded,
        Standing::NeverRecorded,
        Standing::Live,
        Standing::LiveAndOld,
        Standing::Lapsed,
        Standing::Queued,
        Standing::Old,
        Standing::EndedAndHeld,
        Standing::Ended,
    ];
    let mut contents = vec![
        Content::TurnEnded,
        Content::Remind,
        Content::OldRemind,
        Content::Misplaced,
        Content::Unknown,
        Content::Garbage,
    ];
    for standing in standings {
        contents.extend([Content::Finish(standing), Content::Watch(standing), Content::WatchOfFormer(standing)]);
    }
    contents
        .into_iter()
        .flat_map(|content| [Letter::of(content), Letter::redriven(content, REDRIVES_MAX), Letter::refused(content)])
        .collect()
}
