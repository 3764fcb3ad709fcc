"""The custom resources as typed models, and everything derived from them."""
