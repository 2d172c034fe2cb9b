//! Declaration of a model: desired state, one key of the bucket `models` for each model.

mod device;
mod hub_file;
mod kind;
mod labels;
mod limits;
mod placement;
mod reference;
mod replicas;
mod spec;

pub use self::{
    device::Device,
    hub_file::HubFile,
    kind::ModelKind,
    labels::{Labels, check_labels, parse_label},
    limits::{Limits, parse_cores},
    placement::PlacementStrategy,
    reference::{ModelReference, parse_hub_reference},
    replicas::Replicas,
    spec::ModelSpec,
};
