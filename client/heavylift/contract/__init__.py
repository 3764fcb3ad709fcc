"""The wire: every name, key, shape and limit that more than one part of Heavylift must agree on.

Standard library only, so that the runner inside a pod can import it without pulling in Redis or pydantic.
Changing anything here is a protocol change: running jobs, stored jobs and other languages depend on it.
"""
