"""The cluster on one job's leash: its masters and its volume servers."""

from __future__ import annotations

from collections.abc import Iterable

from weed_cluster.address import Address
from weed_cluster.channels import Channels
from weed_cluster.leash import Leash
from weed_cluster.master import Master
from weed_cluster.masters import Masters
from weed_cluster.volume_server import VolumeServer


class Cluster:
    """Every server a job talks to, on that job's leash."""

    def __init__(
        self, channels: Channels, masters: Masters | Iterable[Address] = (), leash: Leash | None = None
    ) -> None:
        self.channels = channels
        self.leash = leash or Leash()
        self.masters = masters if isinstance(masters, Masters) else Masters(masters)

    def master(self) -> Master:
        """The masters; raise BadTask where none is known."""
        return Master(self.channels, self.masters, self.leash)

    def volume(self, address: Address | str) -> VolumeServer:
        """The volume server at an address; raise BadTask for what is no address."""
        where = Address.parse(address) if isinstance(address, str) else address
        return VolumeServer(self.channels, self.masters.present(where), self.leash)
