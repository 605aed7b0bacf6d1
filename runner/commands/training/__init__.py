"""From a recipe to a registered version: check, plan, train."""
