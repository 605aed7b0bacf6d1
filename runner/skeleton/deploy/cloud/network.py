"""The network that the containers, the online store and Google's services meet in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_gcp as gcp

from cloud.settings import ExternalRedis, Settings


@dataclass(frozen=True)
class Network:
    """A private network with one subnet, from which Google's services are reached inside."""

    network: gcp.compute.Network
    subnet: gcp.compute.Subnetwork


def create_network(settings: Settings, after: Sequence[pulumi.Resource]) -> Network:
    """Return the network; with a way out to the internet only where Redis is there."""
    network = gcp.compute.Network(
        "network",
        name="ml",
        auto_create_subnetworks=False,
        opts=pulumi.ResourceOptions(depends_on=after),
    )
    subnet = gcp.compute.Subnetwork(
        "subnet",
        name="ml",
        network=network.id,
        ip_cidr_range="10.64.0.0/22",
        private_ip_google_access=True,
    )
    if isinstance(settings.online_store, ExternalRedis):
        router = gcp.compute.Router("router", name="ml", network=network.id)
        gcp.compute.RouterNat(
            "nat",
            name="ml",
            router=router.name,
            nat_ip_allocate_option="AUTO_ONLY",
            source_subnetwork_ip_ranges_to_nat="ALL_SUBNETWORKS_ALL_IP_RANGES",
        )
    return Network(network, subnet)
