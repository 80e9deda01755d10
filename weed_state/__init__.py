"""What of a worker survives its process: its id, the results it still owes, the logs of its tasks. Plain files."""
