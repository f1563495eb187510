"""Worlds and tasks whose information is known exactly.

May import `checks` and `files` only, so that a truth never depends on what is held against it.
"""
