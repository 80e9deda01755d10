"""Bytes on disk as SeaweedFS lays them out: volumes, indexes, shards and what lies beside them. Pure: no sockets."""
