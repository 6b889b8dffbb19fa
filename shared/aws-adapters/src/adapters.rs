//! The adapters of `message`, together.

use aws_config::SdkConfig;
use domain::ports::Ports;

use crate::configuration::MessageConfiguration;
use crate::{
    ApiGatewaySender, BedrockModel, DynamoDbConnections, DynamoDbTurns, HttpStore, RandomNonces, SnsTurnEvents,
    SystemClock, clients,
};

/// Every port of the domain on the real thing.
#[derive(Debug, Clone)]
pub struct Adapters {
    turns: DynamoDbTurns<SystemClock>,
    connections: DynamoDbConnections<SystemClock>,
    sender: ApiGatewaySender,
    model: BedrockModel,
    store: HttpStore,
    events: SnsTurnEvents,
    clock: SystemClock,
    nonces: RandomNonces,
}

impl Adapters {
    /// The adapters of an environment.
    pub fn new(sdk: &SdkConfig, configuration: &MessageConfiguration) -> Self {
        let dynamodb = clients::dynamodb(sdk);
        let table = &configuration.table_name;
        Self {
            turns: DynamoDbTurns::new(dynamodb.clone(), table, SystemClock),
            connections: DynamoDbConnections::new(dynamodb, table, SystemClock),
            sender: ApiGatewaySender::new(clients::api_gateway_management(sdk, &configuration.callback_url)),
            model: BedrockModel::new(clients::bedrock_runtime(sdk), &configuration.model_id),
            store: HttpStore::new(configuration.store.clone()),
            events: SnsTurnEvents::new(clients::sns(sdk), &configuration.turn_events_topic_arn),
            clock: SystemClock,
            nonces: RandomNonces,
        }
    }
}

impl Ports for Adapters {
    type Turns = DynamoDbTurns<SystemClock>;
    type Connections = DynamoDbConnections<SystemClock>;
    type Sender = ApiGatewaySender;
    type Model = BedrockModel;
    type Store = HttpStore;
    type Events = SnsTurnEvents;
    type Clock = SystemClock;
    type Nonces = RandomNonces;

    fn turns(&self) -> &Self::Turns {
        &self.turns
    }

    fn connections(&self) -> &Self::Connections {
        &self.connections
    }

    fn sender(&self) -> &Self::Sender {
        &self.sender
    }

    fn model(&self) -> &Self::Model {
        &self.model
    }

    fn store(&self) -> &Self::Store {
        &self.store
    }

    fn events(&self) -> &Self::Events {
        &self.events
    }

    fn clock(&self) -> &Self::Clock {
        &self.clock
    }

    fn nonces(&self) -> &Self::Nonces {
        &self.nonces
    }
}
