"""Heavylift."""
