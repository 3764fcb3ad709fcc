"""The kopf edge: raw events become items of the work queue; nothing is decided here."""
