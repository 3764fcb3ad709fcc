"""Clients killed by SIGKILL at any moment and after any script, then an audit: ``python -m tests.proofs.killed``."""
