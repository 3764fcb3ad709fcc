"""The pure renderer, under the dispatcher's own name; it lives with the models so that the command line has it too."""

from heavylift.spec.render import render

__all__ = ["render"]
