"""The options of each command, and nothing else: what a command does is imported when it runs, so that ``--help`` is quick.

`register` adds a command to the command line. Its function may have as many parameters as it has options.
"""
