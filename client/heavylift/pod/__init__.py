"""The runner inside the pod of a job (``heavylift run MODULE...``): standard library only."""
