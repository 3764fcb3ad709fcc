"""Thin calls on the Kubernetes API with dict bodies; what they return is evidence, what they raise is ours."""
