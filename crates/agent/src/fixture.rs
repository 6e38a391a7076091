//! Plans and specifications for tests of this crate.

use std::collections::BTreeMap;
use types::{
    ByteSize, DurationMs, EnvId, Generation, InstanceId, MilliCpu, NodeId,
    plan::{Desired, InstancePlan, InstanceSpec, NodePlan, PinnedImage},
};

pub(crate) const NODE: NodeId = NodeId::from_u128(77);

/// A specification of a shell that sleeps, with an address of its own.
pub(crate) fn spec(number: u128) -> InstanceSpec {
    let name = |text: &str| text.parse().expect("a name");
    InstanceSpec {
        org: name("acme"),
        app: name("shop"),
        env: name("prod"),
        process: name("web"),
        env_id: EnvId::from_u128(1),
        image: PinnedImage {
            reference: "oci:/nowhere".into(),
            digest: format!("sha256:{}", "a".repeat(64)).parse().expect("a digest"),
        },
        command: vec!["/bin/sleep".into(), "1000".into()],
        variables: BTreeMap::new(),
        memory: ByteSize::from_mib(32),
        cpu: MilliCpu::new(100),
        address: std::net::Ipv6Addr::from(0xfd00_0000_0000_0000_0000_0000_0000_1000 + number),
        ports: BTreeMap::new(),
        health: None,
        stop_grace: DurationMs::from_secs(1),
    }
}

/// A plan of running instances with these numbers.
pub(crate) fn plan(generation: u64, numbers: &[u128]) -> NodePlan {
    let planned = |number: &u128| {
        let planned = InstancePlan { desired: Desired::Running, spec: spec(*number) };
        (InstanceId::from_u128(*number), planned)
    };
    NodePlan {
        node: NODE,
        cluster: "test".into(),
        epoch: types::Epoch::new(1),
        generation: Generation::new(generation),
        adoption: None,
        instances: numbers.iter().map(planned).collect(),
    }
}
