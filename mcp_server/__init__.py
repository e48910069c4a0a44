"""The Model Context Protocol front door: the same operations as every other surface, as tools of few words."""
