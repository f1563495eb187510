"""The command line, its figures, the report, and the studies.

May import everything; nothing imports it.
"""
