//! Dead letters end where they belong, and whatever dies when, none is lost.

mod crash;
mod fates;
mod limits;
mod mix;
mod requests;
mod world;
