"""CLIP models: loading, towers, adapters, and the backbone that the method sees."""
