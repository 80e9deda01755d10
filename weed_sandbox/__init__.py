"""A small SeaweedFS on loopback: a master and volume servers with real gRPC, real file formats and state on disk.

It is there to be maintained, and to misbehave on demand. It behaves as SeaweedFS 4.44, 4.13 or 3.97 do, quirks
included; `tests/double/test_sandbox_is_true.py` holds it against the real servers.
"""
