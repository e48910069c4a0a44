"""The one path of an action: the gate, and one file per tool."""
