"""One registration with the admin, its streams, and what can be seen of a worker."""
