"""Policies: which action is allowed, which needs a person, which is refused, and why."""
