//! The adapters of the functions that work on turns, together.

use std::sync::Arc;

use aws_config::SdkConfig;
use domain::guarded_model::GuardedModel;
use domain::pages::StorePages;
use domain::ports::{CacheInvalidations, Ports, TurnPorts, Unavailable};
use domain::redrive::Redriver;
use store_client::{StoreClient, ValkeyCache};

use crate::configuration::{
    AnswerConfiguration, InvalidatorConfiguration, MessageConfiguration, RedriverConfiguration, TurnConfiguration,
    WatchdogConfiguration, WorkerConfiguration,
};
use crate::services::Hints;
use crate::{
    ApiGatewaySender, BedrockModel, BudgetLimits, DynamoDbBuckets, DynamoDbBudgets, DynamoDbConnections,
    DynamoDbFollowUps, DynamoDbHints, DynamoDbQuarantine, DynamoDbTurns, EmbeddedMetrics, Guard, RandomNonces,
    Schedules, Services, SnsEscalations, SnsTurnEvents, SqsDeadLetters, SqsMessages, SqsQueues, SystemClock, clients,
};

/// What it takes to end turns, on the real things.
#[derive(Debug, Clone)]
pub struct TurnAdapters {
    dynamodb: aws_sdk_dynamodb::Client,
    sqs: aws_sdk_sqs::Client,
    turns: DynamoDbTurns<SystemClock>,
    queues: SqsQueues,
    sender: ApiGatewaySender,
    clock: SystemClock,
    nonces: RandomNonces,
}

impl TurnAdapters {
    /// The adapters of an environment.
    pub fn new(sdk: &SdkConfig, configuration: &TurnConfiguration) -> Self {
        let (watchdog, follow_up) = (&configuration.watchdog_queue_url, &configuration.follow_up_queue_url);
        let (dynamodb, sqs) = (clients::dynamodb(sdk), clients::sqs(sdk));
        Self {
            turns: DynamoDbTurns::new(dynamodb.clone(), &configuration.table_name, SystemClock),
            queues: SqsQueues::new(sqs.clone(), watchdog, follow_up),
            dynamodb,
            sqs,
            sender: ApiGatewaySender::new(clients::api_gateway_management(sdk, &configuration.callback_url)),
            clock: SystemClock,
            nonces: RandomNonces,
        }
    }
}

impl TurnPorts for TurnAdapters {
    type Turns = DynamoDbTurns<SystemClock>;
    type Queues = SqsQueues;
    type Sender = ApiGatewaySender;
    type Clock = SystemClock;
    type Nonces = RandomNonces;

    fn turns(&self) -> &Self::Turns {
        &self.turns
    }

    fn queues(&self) -> &Self::Queues {
        &self.queues
    }

    fn sender(&self) -> &Self::Sender {
        &self.sender
    }

    fn clock(&self) -> &Self::Clock {
        &self.clock
    }

    fn nonces(&self) -> &Self::Nonces {
        &self.nonces
    }
}

/// The models, behind a breaker.
type Model = GuardedModel<BedrockModel, SystemClock, EmbeddedMetrics, Hints>;

/// What it takes to answer, on the real things.
#[derive(Debug)]
pub struct Adapters {
    turns: TurnAdapters,
    connections: DynamoDbConnections<SystemClock>,
    buckets: DynamoDbBuckets,
    follow_ups: DynamoDbFollowUps<SystemClock>,
    model: Model,
    store: Services,
    budgets: DynamoDbBudgets,
    escalations: SnsEscalations,
    pages: StorePages,
    metrics: EmbeddedMetrics,
}

impl Adapters {
    /// The adapters of `message`: it delivers follow-ups and schedules none.
    pub fn new(sdk: &SdkConfig, configuration: &MessageConfiguration) -> Self {
        let turns = TurnAdapters::new(sdk, &configuration.answers.turns);
        Self::answering(sdk, &configuration.answers, turns, None, EmbeddedMetrics::new("message"))
    }

    /// Writes what was counted to the log: at the end of each invocation.
    pub fn flush_metrics(&self) {
        self.metrics.flush();
    }

    fn answering(
        sdk: &SdkConfig,
        configuration: &AnswerConfiguration,
        turns: TurnAdapters,
        schedules: Option<Schedules>,
        metrics: EmbeddedMetrics,
    ) -> Self {
        let (dynamodb, table) = (&turns.dynamodb, &configuration.turns.table_name);
        let models = &configuration.models;
        let hints = DynamoDbHints::new(dynamodb.clone(), table, SystemClock);
        let guard = Arc::new(Guard::new(SystemClock, metrics.clone(), hints));
        let bedrock = BedrockModel::new(clients::bedrock_runtime(sdk), models.clone());
        let limits = BudgetLimits { primary: models.tokens_per_minute, cheaper: models.cheaper_tokens_per_minute };
        Self {
            budgets: DynamoDbBudgets::new(dynamodb.clone(), table, limits),
            escalations: SnsEscalations::new(clients::sns(sdk), &configuration.escalations_topic_arn),
            pages: StorePages::new(&configuration.page_url),
            connections: DynamoDbConnections::new(dynamodb.clone(), table, SystemClock),
            buckets: DynamoDbBuckets::new(dynamodb.clone(), table),
            follow_ups: DynamoDbFollowUps::new(dynamodb.clone(), table, schedules, SystemClock),
            model: GuardedModel::new(bedrock, Arc::clone(&guard)),
            store: Services::new(sdk, configuration, guard),
            metrics,
            turns,
        }
    }
}

impl TurnPorts for Adapters {
    type Turns = DynamoDbTurns<SystemClock>;
    type Queues = SqsQueues;
    type Sender = ApiGatewaySender;
    type Clock = SystemClock;
    type Nonces = RandomNonces;

    fn turns(&self) -> &Self::Turns {
        self.turns.turns()
    }

    fn queues(&self) -> &Self::Queues {
        self.turns.queues()
    }

    fn sender(&self) -> &Self::Sender {
        self.turns.sender()
    }

    fn clock(&self) -> &Self::Clock {
        self.turns.clock()
    }

    fn nonces(&self) -> &Self::Nonces {
        self.turns.nonces()
    }
}

impl Ports for Adapters {
    type Connections = DynamoDbConnections<SystemClock>;
    type Buckets = DynamoDbBuckets;
    type FollowUps = DynamoDbFollowUps<SystemClock>;
    type Model = Model;
    type Store = Services;
    type Budgets = DynamoDbBudgets;
    type Escalations = SnsEscalations;
    type Metrics = EmbeddedMetrics;

    fn connections(&self) -> &Self::Connections {
        &self.connections
    }

    fn buckets(&self) -> &Self::Buckets {
        &self.buckets
    }

    fn follow_ups(&self) -> &Self::FollowUps {
        &self.follow_ups
    }

    fn model(&self) -> &Self::Model {
        &self.model
    }

    fn store(&self) -> &Self::Store {
        &self.store
    }

    fn budgets(&self) -> &Self::Budgets {
        &self.budgets
    }

    fn escalations(&self) -> &Self::Escalations {
        &self.escalations
    }

    fn pages(&self) -> &StorePages {
        &self.pages
    }

    fn metrics(&self) -> &Self::Metrics {
        &self.metrics
    }
}

/// The adapters of `follow-up-worker`.
#[derive(Debug)]
pub struct WorkerAdapters {
    /// What it answers with. Follow-ups are scheduled, too.
    pub ports: Adapters,
    /// What it was delivered.
    pub deliveries: SqsMessages,
}

impl WorkerAdapters {
    /// The adapters of an environment.
    pub fn new(sdk: &SdkConfig, configuration: &WorkerConfiguration) -> Self {
        let answers = &configuration.answers;
        let turns = TurnAdapters::new(sdk, &answers.turns);
        let (queue, dlq) = (&answers.turns.follow_up_queue_url, &configuration.follow_up_dlq_url);
        let deliveries = SqsMessages::new(turns.sqs.clone(), queue, dlq);
        let schedules = Schedules {
            client: clients::scheduler(sdk),
            group: configuration.schedule_group.clone(),
            queue_arn: configuration.follow_up_queue_arn.clone(),
            role_arn: configuration.schedule_role_arn.clone(),
            queues: turns.queues.clone(),
        };
        let metrics = EmbeddedMetrics::new("follow-up-worker");
        Self { ports: Adapters::answering(sdk, answers, turns, Some(schedules), metrics), deliveries }
    }
}

/// The adapters of `watchdog`.
#[derive(Debug, Clone)]
pub struct WatchdogAdapters {
    /// What it ends turns with.
    pub ports: TurnAdapters,
    /// Where it tells of them.
    pub events: SnsTurnEvents,
}

impl WatchdogAdapters {
    /// The adapters of an environment.
    pub fn new(sdk: &SdkConfig, configuration: &WatchdogConfiguration) -> Self {
        Self {
            ports: TurnAdapters::new(sdk, &configuration.turns),
            events: SnsTurnEvents::new(clients::sns(sdk), &configuration.turn_events_topic_arn),
        }
    }
}

/// The adapters of `cache-invalidator`.
#[derive(Debug)]
pub struct InvalidatorAdapters {
    /// Whom it tells.
    pub caches: SharedCaches,
    /// What it reads again.
    pub store: StoreClient<SystemClock, EmbeddedMetrics, Hints>,
    /// What it counts.
    pub metrics: EmbeddedMetrics,
}

impl InvalidatorAdapters {
    /// The adapters of an environment.
    pub fn new(sdk: &SdkConfig, configuration: &InvalidatorConfiguration) -> Self {
        let InvalidatorConfiguration { table_name, store, valkey } = configuration;
        let hints = DynamoDbHints::new(clients::dynamodb(sdk), table_name, SystemClock);
        let metrics = EmbeddedMetrics::new("cache-invalidator");
        let guard = Guard::new(SystemClock, metrics.clone(), hints.clone());
        let opened = valkey.as_ref().and_then(|valkey| ValkeyCache::new(valkey, SystemClock).ok());
        Self {
            store: StoreClient::new(store.clone(), valkey.clone(), Arc::new(guard)),
            caches: SharedCaches { hints, valkey: opened },
            metrics,
        }
    }
}

/// The caches of all environments: those in their memory, which heed what they are told, and Valkey.
#[derive(Debug)]
pub struct SharedCaches {
    hints: Hints,
    valkey: Option<ValkeyCache<SystemClock>>,
}

impl CacheInvalidations for SharedCaches {
    async fn invalidate(&self, tags: &[String], now: u64) -> Result<(), Unavailable> {
        // First, for whatever was read before this counts as out of date, wherever it is kept.
        self.hints.invalidate(tags, now).await?;
        let Some(valkey) = &self.valkey else { return Ok(()) };
        for tag in tags {
            if let Err(error) = valkey.forget(tag).await {
                // What is in there is too old for everybody who has heard.
                tracing::warn!(error = &error as &dyn std::error::Error, "Valkey still has what is out of date");
                break;
            }
        }
        Ok(())
    }
}

/// `dlq-redriver`'s redriver, on the real things.
pub fn redriver(
    sdk: &SdkConfig,
    configuration: &RedriverConfiguration,
) -> Redriver<TurnAdapters, SqsDeadLetters, DynamoDbQuarantine> {
    let ports = TurnAdapters::new(sdk, &configuration.turns);
    Redriver {
        dead_letters: SqsDeadLetters::new(clients::sqs_receiving(sdk), configuration),
        quarantine: DynamoDbQuarantine::new(ports.dynamodb.clone(), &configuration.turns.table_name),
        ports,
    }
}
