"""The demo: a local Kubernetes, Heavylift installed by helm, real jobs, shown to a person."""
