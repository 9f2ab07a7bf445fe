"""Networks of other frameworks here, and ours there: weights, and the options that go with them."""

__all__: list[str] = []
