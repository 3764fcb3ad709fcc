"""The heavylift command."""
