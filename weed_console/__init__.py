"""One-shot commands without an admin server: plan, run, status, doctor."""
