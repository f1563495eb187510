"""Every family, held against its own pipeline; see `table` for how one is added."""
