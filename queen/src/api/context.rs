//! State from which requests are answered.

use rbee_nats::{Bus, JobFinder, Outbox};
use rbee_schema::QueenName;

use crate::{
    decide::{fleet::Fleet, tenants::Tenants},
    large_bodies::LargeBodies,
    leader::Leadership,
    open_answers::OpenAnswers,
};

/// State from which requests are answered.
pub(crate) struct Context<'a> {
    pub(crate) queen: &'a QueenName,
    pub(crate) fleet: &'a Fleet,
    pub(crate) bus: &'a Bus,
    pub(crate) outbox: &'a Outbox,
    pub(crate) finder: &'a JobFinder,
    pub(crate) open: &'a OpenAnswers,
    pub(crate) large: &'a LargeBodies,
    pub(crate) leadership: &'a Leadership,
    pub(crate) tenants: &'a Tenants,
}
