"""``codeforge``: the terminal's verbs. Each parses, asks the workspace's daemon, and prints."""
