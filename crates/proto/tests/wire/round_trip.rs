//! What goes over the wire comes out as it was.

use proptest::prelude::*;
use prost::Message;
use stint_proto::{ConversionError, v1};

use crate::generators;

/// Object → message → bytes → message → object.
fn round_trip<Object, Wire>(object: &Object) -> Result<Object, ConversionError>
where
    Object: Clone + TryFrom<Wire, Error = ConversionError>,
    Wire: Message + Default + From<Object>,
{
    let bytes = Wire::from(object.clone()).encode_to_vec();
    Wire::decode(bytes.as_slice()).expect("what was encoded can be decoded").try_into()
}

proptest! {
    #[test]
    fn jobs_survive(job in generators::job()) {
        prop_assert_eq!(round_trip::<_, v1::Job>(&job), Ok(job));
    }

    #[test]
    fn pods_survive(pod in generators::pod()) {
        prop_assert_eq!(round_trip::<_, v1::Pod>(&pod), Ok(pod));
    }

    #[test]
    fn nodes_survive(node in generators::node()) {
        prop_assert_eq!(round_trip::<_, v1::Node>(&node), Ok(node));
    }

    #[test]
    fn config_maps_survive(map in generators::config_map()) {
        prop_assert_eq!(round_trip::<_, v1::ConfigMap>(&map), Ok(map));
    }

    #[test]
    fn events_survive(event in generators::event()) {
        prop_assert_eq!(round_trip::<_, v1::Event>(&event), Ok(event));
    }
}

#[test]
fn zero_and_unset_are_told_apart() {
    let mut job = stint_api::Job::default();
    assert_eq!(round_trip::<_, v1::Job>(&job), Ok(job.clone()));
    job.spec.parallelism = Some(0);
    job.spec.suspend = Some(false);
    job.spec.template.spec.termination_grace_period_seconds = Some(0);
    job.spec.backoff_base_ms = Some(0);
    job.status.completed_indexes = Some(String::new());
    assert_eq!(round_trip::<_, v1::Job>(&job), Ok(job));
}
