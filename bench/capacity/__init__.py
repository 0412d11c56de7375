"""How much of everything a volume of messages needs, and what it costs (docs/scaling.md)."""
