"""Many processes claim and finish on one Redis; the history is checked afterwards: ``python -m tests.proofs.crowd``."""
