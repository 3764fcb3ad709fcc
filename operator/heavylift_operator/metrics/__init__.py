"""Prometheus metrics (names: interface "Metrics and autoscaling")."""
