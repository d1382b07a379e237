"""The pure stages over many machines, by Ray Data."""
