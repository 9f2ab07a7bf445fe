"""Loaders: one file for each kind of data, with a default that needs no download."""
