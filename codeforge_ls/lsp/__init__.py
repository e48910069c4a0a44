"""One language server session per editor: transport, documents, commands, prompts, progress, events."""
