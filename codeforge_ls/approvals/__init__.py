"""Asking a person: pending questions, the channels that put them, and single use."""
