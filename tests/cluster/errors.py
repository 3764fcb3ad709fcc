"""What can go wrong with the test cluster, in words that say what to do."""

from __future__ import annotations


class ClusterError(Exception):
    """The test cluster cannot do what was asked; the message says why and what to do."""


class MissingToolError(ClusterError):
    """A program or right that the machine lacks; the message says how to get it."""


class ComponentError(ClusterError):
    """A part of the cluster ended or did not become ready; the message ends with its log's last lines."""
