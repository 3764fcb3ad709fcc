"""The runner inside the pod of a job: standard library only."""
