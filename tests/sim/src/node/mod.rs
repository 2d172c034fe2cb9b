//! The processes of a simulated fleet: thin shells around the decisions of the product.
//!
//! A shell does what the product's shell does, in the same order, and decides nothing itself.

mod cell;
mod child;
mod client;
mod hive;
mod outbox;
mod queen;
mod site;
mod worker;

pub use self::{
    child::{Child, Exit},
    client::{Client, ClientPlan},
    hive::{Hive, Machine},
    queen::Queen,
    site::{Flaws, Settings, Site},
};
