"""Benchmarks of jaxrnn: how fast it is, and beside what. ``python -m benchmarks`` lists the questions."""
