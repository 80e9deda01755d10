"""Which buckets need job types that this worker does not know: by what S3 gateways wrote down at the filer."""

from __future__ import annotations

from collections.abc import Mapping

from weed_cluster.filer import Filer
from weed_core.errors import TaskError
from weed_safety import records
from weed_safety.context import Context

NEEDS: Mapping[str, tuple[str, str]] = {
    "s3_lifecycle": ("s3-bucket-lifecycle-configuration-xml", "lifecycle rules"),
    "iceberg_maintenance": ("s3tables.tableBucket", "Iceberg tables"),
}
"""The attribute of a bucket's entry for which a job type has work, and what that is (SeaweedFS 4.44,
weed/s3api/s3lifecycle/scheduler/configload.go and weed/s3api/s3tables/handler.go)."""


def buckets_with(ctx: Context, attribute: str) -> list[str] | None:
    """The buckets whose entry has an attribute, by name; None where no filer tells. No filer: no bucket."""

    def look(filer: Filer) -> list[str]:
        return [entry.name for entry in filer.entries(filer.buckets(), most=None) if entry.extended.get(attribute)]

    try:
        return records.ask(ctx, look) or []
    except TaskError:
        return None
