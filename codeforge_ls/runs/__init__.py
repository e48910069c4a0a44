"""Runs: an agent at work on one task, with limits, a log that can be resumed, and one ending."""
