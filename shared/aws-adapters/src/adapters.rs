//! The adapters of the functions that work on turns, together.

use aws_config::SdkConfig;
use domain::ports::{Ports, TurnPorts};
use domain::redrive::Redriver;

use crate::configuration::{
    AnswerConfiguration, MessageConfiguration, RedriverConfiguration, TurnConfiguration, WatchdogConfiguration,
    WorkerConfiguration,
};
use crate::{
    ApiGatewaySender, BedrockModel, DynamoDbBuckets, DynamoDbConnections, DynamoDbFollowUps, DynamoDbQuarantine,
    DynamoDbTurns, HttpStore, RandomNonces, Schedules, SnsTurnEvents, SqsDeadLetters, SqsMessages, SqsQueues,
    SystemClock, clients,
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

/// What it takes to answer, on the real things.
#[derive(Debug, Clone)]
pub struct Adapters {
    turns: TurnAdapters,
    connections: DynamoDbConnections<SystemClock>,
    buckets: DynamoDbBuckets,
    follow_ups: DynamoDbFollowUps<SystemClock>,
    model: BedrockModel,
    store: HttpStore,
}

impl Adapters {
    /// The adapters of `message`: it delivers follow-ups and schedules none.
    pub fn new(sdk: &SdkConfig, configuration: &MessageConfiguration) -> Self {
        let turns = TurnAdapters::new(sdk, &configuration.answers.turns);
        Self::answering(sdk, &configuration.answers, turns, None)
    }

    fn answering(
        sdk: &SdkConfig,
        configuration: &AnswerConfiguration,
        turns: TurnAdapters,
        schedules: Option<Schedules>,
    ) -> Self {
        let (dynamodb, table) = (&turns.dynamodb, &configuration.turns.table_name);
        let bedrock = clients::bedrock_runtime(sdk);
        Self {
            connections: DynamoDbConnections::new(dynamodb.clone(), table, SystemClock),
            buckets: DynamoDbBuckets::new(dynamodb.clone(), table),
            follow_ups: DynamoDbFollowUps::new(dynamodb.clone(), table, schedules, SystemClock),
            model: BedrockModel::new(bedrock, &configuration.model_id, configuration.model_prefill),
            store: HttpStore::new(configuration.store.clone()),
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
    type Model = BedrockModel;
    type Store = HttpStore;

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
}

/// The adapters of `follow-up-worker`.
#[derive(Debug, Clone)]
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
        Self { ports: Adapters::answering(sdk, answers, turns, Some(schedules)), deliveries }
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
