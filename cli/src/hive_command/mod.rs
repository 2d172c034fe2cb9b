//! Commands to hives from the command line: send one, then read the events of the hive until it is done.
//!
//! [`follow_command`] prints every event on the way to a [`Goal`]. [`request`] waits for the one event that answers.
//! [`HiveSelection`] is the option that names the hives.

mod follow;
mod goal;
mod patience;
mod request;
mod selection;

pub(crate) use self::{
    follow::{follow_command, parse_event, print_event},
    goal::{Goal, Progress},
    request::{Reply, join_all_reporting, request},
    selection::HiveSelection,
};
