//! The store over a real DynamoDB engine in the test's process, asked as API Gateway asks it.

mod answers;
mod data;
mod engine;
mod events;
mod finding;
mod knowledge;
mod seeding;
mod terms;
