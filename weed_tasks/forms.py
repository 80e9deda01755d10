"""Fields that several job types have in their forms: one name, one label and one help text for each thing.

A job type that means something narrower replaces the help text or the default, and nothing else. Pure.
"""

from __future__ import annotations

from weed_core.model import Field

SCOPE, THRESHOLDS, PLACEMENT, SAFETY, LIMITS = "Scope", "Thresholds", "Placement", "Safety", "Limits"
"""The sections of forms, in this order."""

COLLECTIONS = Field(
    "collection_filter",
    "Collections",
    "string",
    "",
    "Regular expression; only volumes of collections that it matches take part. Empty for all.",
    placeholder="^photos$",
    scope="admin",
    section=SCOPE,
)

VOLUME_STATE = Field(
    "volume_state",
    "Volume state",
    "enum",
    "ALL",
    "Whether volumes that still take writes take part, or those that are full, or all.",
    options=(("ALL", "All volumes"), ("ACTIVE", "Active, not full"), ("FULL", "Full")),
    scope="admin",
    section=SCOPE,
)

DATA_CENTERS = Field(
    "data_center_filter",
    "Data centers",
    "string",
    "",
    "Names with * and ?, separated by commas; servers elsewhere are left alone. Empty for all.",
    placeholder="dc1,dc2",
    scope="admin",
    section=SCOPE,
)

RACKS = Field(
    "rack_filter",
    "Racks",
    "string",
    "",
    "Names with * and ?, separated by commas; servers elsewhere are left alone. Empty for all.",
    placeholder="rack1*",
    scope="admin",
    section=SCOPE,
)

NODES = Field(
    "node_filter",
    "Servers",
    "string",
    "",
    "Ids of volume servers (host:port) with * and ?, separated by commas; others are left alone. Empty for all.",
    placeholder="10.0.0.1?:8080",
    scope="admin",
    section=SCOPE,
)

DISK_TYPE = Field(
    "disk_type",
    "Disk type",
    "string",
    "",
    "Only disks of this type take part: hdd, ssd or your own. Empty for all.",
    placeholder="hdd",
    scope="admin",
    section=SCOPE,
)

WHICH = (COLLECTIONS, VOLUME_STATE, DATA_CENTERS, RACKS, NODES)
"""The fields by which an operator narrows where a task looks for work."""

QUIET = Field(
    "quiet_for_seconds",
    "Quiet for (seconds)",
    "int",
    3600,
    "How long a volume must not have been written to.",
    minimum=0,
    required=True,
    section=THRESHOLDS,
)

FULLNESS = Field(
    "fullness_ratio",
    "Fullness",
    "double",
    0.95,
    "How full a volume must be, as a share of the master's volume size limit.",
    minimum=0.0,
    maximum=1.0,
    required=True,
    section=THRESHOLDS,
)

SMALLEST = Field(
    "min_size_mb",
    "Smallest size (MB)",
    "int",
    0,
    "Volumes smaller than this stay as they are, however full.",
    minimum=0,
    section=THRESHOLDS,
)

IMBALANCE = Field(
    "imbalance_threshold",
    "Imbalance threshold",
    "double",
    0.2,
    "How uneven servers must be filled before anything moves: the difference between the fullest and the emptiest, as "
    "a share of the average.",
    minimum=0.0,
    maximum=1.0,
    required=True,
    section=THRESHOLDS,
)

FEWEST_SERVERS = Field(
    "min_server_count",
    "Fewest servers",
    "int",
    2,
    "With fewer servers nothing is moved.",
    minimum=2,
    required=True,
    section=THRESHOLDS,
)

PATIENCE = Field(
    "min_fault_age_seconds",
    "Patience (seconds)",
    "int",
    600,
    "How long a fault must have been seen before it is repaired, so that a server that restarts causes no copying. 0 "
    "repairs at once.",
    minimum=0,
    maximum=7 * 86400,
    section=THRESHOLDS,
)

DISK_TAGS = Field(
    "preferred_tags",
    "Preferred disk tags",
    "string",
    "",
    "Disk tags in order of preference, separated by commas; disks with one of them are preferred among equals. Empty "
    "for none.",
    placeholder="fast,ssd",
    section=PLACEMENT,
)

SHARD_PLACEMENT = Field(
    "replica_placement",
    "Shard placement",
    "string",
    "",
    "Three digits like a replica placement: the second limits a volume's shards per rack, the third those per server. "
    "0 for no limit; empty for the master's default.",
    placeholder="020",
    section=PLACEMENT,
)

RATE = Field(
    "io_byte_per_second",
    "Rate (bytes per second)",
    "int",
    0,
    "Highest rate at which each volume or shard is read and copied; 0 leaves it to the volume servers and to this "
    "worker's own limits.",
    minimum=0,
    section=LIMITS,
)
