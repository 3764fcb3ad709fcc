"""The custom resources as typed models, and everything derived from them."""

from heavylift.spec.models import HeavyQueue, HeavyQueueSpec
from heavylift.spec.rules import Rule, default_rules, rules_from_settings
from heavylift.spec.settings import settings

__all__ = ["HeavyQueue", "HeavyQueueSpec", "Rule", "default_rules", "rules_from_settings", "settings"]
