"""Many requests answered at once from one model in memory: batches that requests join and leave, shared beginnings."""
