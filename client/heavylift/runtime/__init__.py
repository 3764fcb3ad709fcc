"""What every long-running process of ours shares: logs, probes, the Kubernetes connection, supervision."""
