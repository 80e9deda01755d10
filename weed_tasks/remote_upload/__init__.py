"""Moving volumes' data to remote storage and back."""

from weed_tasks.remote_upload.plan import DESCRIPTOR, detect
from weed_tasks.remote_upload.task import recover, run

__all__ = ["DESCRIPTOR", "detect", "recover", "run"]
