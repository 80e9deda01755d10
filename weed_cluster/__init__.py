"""Reaching and seeing a cluster: addresses, security, clients, topology, placement. Ordinary blocking Python."""
