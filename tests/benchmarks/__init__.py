"""Measures Heavylift beside what its surroundings can do at all: ``python -m tests.benchmarks``.

Every figure is taken beside a peer in the same run (Redis by RQ, the API server by a bare loop), the two by turns, so
that what else the machine does falls on both.
"""
