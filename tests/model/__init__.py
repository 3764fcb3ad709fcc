"""Random operations on the pure model and on the real scripts, compared after every step: ``python -m tests.model``."""
