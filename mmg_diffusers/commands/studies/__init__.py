"""Studies: what a command measures over many tasks, levels or words, to tables and figures."""
