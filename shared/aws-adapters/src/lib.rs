//! Everything outside: the AWS SDK, the store's HTTP services, the environment and the clock. One file for each.
//!
//! Each adapter translates the errors of its service once, into what the domain decides on. Clients are built once for an
//! execution environment and shared by all of its invocations.

mod adapters;
mod bedrock;
mod buckets;
mod budgets;
pub mod clients;
mod clock;
pub mod configuration;
mod connections;
mod dead_letters;
mod escalations;
mod events;
mod follow_ups;
mod hints;
mod identity;
mod metrics;
mod opensearch;
mod quarantine;
mod queues;
mod runtime;
mod sender;
mod services;
mod table;
pub mod telemetry;
mod turns;

pub use adapters::{
    Adapters, InvalidatorAdapters, SharedCaches, TurnAdapters, WatchdogAdapters, WorkerAdapters, redriver,
};
pub use bedrock::BedrockModel;
pub use buckets::DynamoDbBuckets;
pub use budgets::{BudgetLimits, DynamoDbBudgets};
pub use clock::{RandomNonces, SystemClock};
pub use connections::DynamoDbConnections;
pub use dead_letters::SqsDeadLetters;
pub use escalations::SnsEscalations;
pub use events::SnsTurnEvents;
pub use follow_ups::{DynamoDbFollowUps, Schedules};
pub use hints::DynamoDbHints;
pub use identity::TokenVerifier;
pub use metrics::{EmbeddedMetrics, NAMESPACE};
pub use opensearch::{IndexedArticle, OpenSearchConfiguration, OpenSearchIndex, OpenSearchKnowledge};
pub use quarantine::DynamoDbQuarantine;
pub use queues::{SqsMessages, SqsQueues};
pub use runtime::runtime;
pub use sender::ApiGatewaySender;
pub use services::{Guard, Services};
pub use turns::DynamoDbTurns;
