"""Plans: several tasks under one protocol. Now: sequential."""
